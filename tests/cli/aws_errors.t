#!/bin/sh
# What a user sees when settings or credentials of AWS are wrong: one sentence,
# what to do, the exit code.  Nothing but loopback is talked to.
tmp=$(mktemp -d) || exit 1
server=
trap 'test -n "$server" && kill "$server"; rm -rf "$tmp"' EXIT
n=0
failed=0
hgauto=${HGAUTO:?}

mkdir -m 700 "$tmp/.aws"
cat > "$tmp/.aws/config" << 'INI'
[profile works]
region = us-west-2
aws_access_key_id = AKIDEXAMPLE00001
aws_secret_access_key = canary-secret
[profile broken]
region = us-west-2
role_arn = arn:aws:iam::1:role/x
[profile half]
region = us-west-2
aws_access_key_id = AKIDEXAMPLE00001
INI
cat > "$tmp/call.lua" << 'LUA'
return function()
  require("hgauto.aws").client("ec2", { max_attempts = 1, timeout = 2 }):describe_regions {}
end
LUA

# Exit code and beginning of the error; the options; VARIABLE=value words first.
run() { # CODE TEXT [VARIABLE=VALUE...] OPTIONS
	want=$1
	text=$2
	shift 2
	vars=
	while [ "${1#[A-Z]*=}" != "$1" ]; do
		vars="$vars $1"
		shift
	done
	# shellcheck disable=SC2086 # words without blanks
	env -i PATH="$PATH" HOME="$tmp" AWS_EC2_METADATA_DISABLED=true $vars \
		"$hgauto" run --state-path "$tmp/state" "$@" "$tmp/call.lua" > "$tmp/out" 2>&1
	code=$?
	n=$((n + 1))
	if [ $code -eq "$want" ] && grep -q "^hgauto: $text" "$tmp/out" &&
		[ "$(grep -c '^hgauto: ' "$tmp/out")" -eq 1 ] && ! grep -q canary "$tmp/out"; then
		echo "ok $n - $want: $text"
	else
		echo "not ok $n - $want: $text"
		echo "# code $code"
		sed 's/^/# /' "$tmp/out"
		failed=1
	fi
}

nobody=AWS_ENDPOINT_URL=http://127.0.0.1:1
run 3 "Unable to locate credentials" $nobody AWS_REGION=us-west-2
run 3 "Unable to locate credentials" $nobody AWS_REGION=us-west-2 -v
n=$((n + 1))
if grep -q "^tried environment: AWS_ACCESS_KEY_ID is not set" "$tmp/out" &&
	grep -q "^tried instance metadata: switched off" "$tmp/out"; then
	echo "ok $n - -v tells what was tried"
else
	echo "not ok $n - -v tells what was tried"
	failed=1
fi
run 3 'profile "broken" has role_arn, but neither' $nobody --profile broken
run 3 "Partial credentials found in .*, profile half" $nobody --profile half
run 2 "The config profile (wroks) could not be found; did you mean works" $nobody --profile wroks
run 2 "The config profile (wroks) could not be found" $nobody AWS_PROFILE=wroks
run 2 '--region: "US_WEST": expected a region' $nobody --region US_WEST
run 2 "--endpoint-url: http://10.0.0.1 is plain http" --profile works --endpoint-url http://10.0.0.1
run 2 "--endpoint-url: Invalid endpoint: ftp://x" --profile works --endpoint-url ftp://x
run 1 "AWS_ENDPOINT_URL: http://10.0.0.1 is plain http" AWS_ENDPOINT_URL=http://10.0.0.1 \
	--profile works
run 4 "ec2 DescribeRegions: cannot connect to 127.0.0.1 port 1" $nobody --profile works

if command -v python3 > /dev/null; then
	python3 -c 'if True:
		import socket, time
		s = socket.create_server(("127.0.0.1", 0))
		print(s.getsockname()[1], flush=True)
		time.sleep(120)' > "$tmp/port" &
	server=$!
	for _ in $(seq 200); do
		test -s "$tmp/port" && break
		sleep 0.05
	done
	run 5 "ec2 DescribeRegions: " --profile works \
		--endpoint-url "http://127.0.0.1:$(cat "$tmp/port")"
fi

"$hgauto" local up --api-only --state-path "$tmp/lc" > /dev/null 2>&1
url=$("$hgauto" local env --state-path "$tmp/lc" 2> /dev/null |
	sed -n "s/.*AWS_ENDPOINT_URL=[\"']*\(http:[^\"']*\).*/\1/p")
run 3 "An error occurred (AuthFailure) when calling the DescribeRegions operation" \
	--profile works --endpoint-url "$url"
"$hgauto" local down --state-path "$tmp/lc" > /dev/null 2>&1

echo "1..$n"
exit $failed
