# The local cloud as awscli sees it: launch, describe, tag, wait, terminate
# (api-only), and the environment that `local env` prints.
set -u
HGAUTO=${HGAUTO:-hgauto}
aws=${AWSCLI:-/usr/bin/aws}
[ -x "$aws" ] || aws=$(command -v aws) || {
	echo "1..0 # SKIP awscli is missing (apt install awscli)"
	exit 0
}
dir=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-awscli.XXXXXX")
state=$dir/state
n=0
bad=0
# shellcheck disable=SC2317 # called by the trap
finish() {
	"$HGAUTO" --state-path "$state" local down > /dev/null 2>&1
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

ok() { # ok STATUS NAME
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		sed 's/^/# /' "$dir/err" "$dir/out" 2> /dev/null
		bad=1
	fi
}
try() { # try NAME COMMAND...: its output is in $dir/out
	name=$1
	shift
	"$@" > "$dir/out" 2> "$dir/err"
	ok $? "$name"
}
is() { # is NAME WANTED: compares $dir/out
	[ "$(cat "$dir/out")" = "$2" ]
	ok $? "$1"
}
refused() { # refused NAME PATTERN COMMAND...
	name=$1 pattern=$2
	shift 2
	if "$@" > "$dir/out" 2> "$dir/err"; then
		ok 1 "$name"
	else
		grep -q -- "$pattern" "$dir/err"
		ok $? "$name"
	fi
}

endpoint=$("$HGAUTO" --state-path "$state" local up --api-only --listen 127.0.0.1:0 2> "$dir/err")
ok $? "the local cloud starts"
eval "$("$HGAUTO" --state-path "$state" local env 2> /dev/null)"
[ "$AWS_ENDPOINT_URL" = "$endpoint" ]
ok $? "local env names its endpoint"
export HOME="$dir" AWS_PAGER='' AWS_DEFAULT_OUTPUT=text
# shellcheck disable=SC2317 # called through try and refused
ec2() {
	"$aws" --endpoint-url "$endpoint" ec2 "$@"
}

try "sts answers" "$aws" --endpoint-url "$endpoint" sts get-caller-identity --query Account
is "with the account" 123456789012
try "images are found" ec2 describe-images --owners 136693071363 \
	--filters 'Name=name,Values=debian-13-amd64-*' --query 'Images[0].ImageId'
ami=$(cat "$dir/out")
try "an instance is launched" ec2 run-instances --image-id "$ami" --instance-type t3.large \
	--client-token once --tag-specifications 'ResourceType=instance,Tags=[{Key=Name,Value=one}]' \
	--query 'Instances[0].InstanceId'
id=$(cat "$dir/out")
try "the waiter for it ends" ec2 wait instance-running --instance-ids "$id"
try "it is launched again with its token" ec2 run-instances --image-id "$ami" \
	--instance-type t3.large --client-token once \
	--tag-specifications 'ResourceType=instance,Tags=[{Key=Name,Value=one}]' \
	--query 'Instances[0].InstanceId'
is "and is the same" "$id"
try "a tag is added" ec2 create-tags --resources "$id" --tags 'Key=k,Value=v w'
try "it is described" ec2 describe-instances --filters 'Name=tag:k,Values=v*' \
	--query 'Reservations[].Instances[].[InstanceId,State.Name]'
is "as running" "$id	running"
try "five are launched at once" ec2 run-instances --image-id "$ami" --count 5
try "and five more" ec2 run-instances --image-id "$ami" --count 5
try "pages are followed" ec2 describe-instances --page-size 5 \
	--query 'length(Reservations[].Instances[])' --output json
is "to the end" 11
refused "a dry run says so" DryRunOperation ec2 terminate-instances --instance-ids "$id" --dry-run
refused "a missing instance is named" "The instance ID 'i-00000000000000000' does not exist" \
	ec2 describe-instances --instance-ids i-00000000000000000
refused "what is not emulated is named" "ec2:CreateVpc is not emulated" \
	ec2 create-vpc --cidr-block 10.0.0.0/16
try "all are listed" ec2 describe-instances --query 'Reservations[].Instances[].InstanceId'
ids=$(tr '\t' ' ' < "$dir/out")
# shellcheck disable=SC2086 # a list of ids
try "all are terminated" ec2 terminate-instances --instance-ids $ids
# shellcheck disable=SC2086
try "the waiter for that ends" ec2 wait instance-terminated --instance-ids $ids
try "hgauto local ls lists none" "$HGAUTO" --state-path "$state" local ls
is "none at all" ""
export AWS_SECRET_ACCESS_KEY=wrong
refused "a wrong secret is refused" AuthFailure ec2 describe-instances
try "the local cloud stops" "$HGAUTO" --state-path "$state" local down
try "and is gone" "$HGAUTO" --state-path "$state" local status
is "as status says" "the local cloud is not running; no instance runs"
echo "1..$n"
exit $bad
