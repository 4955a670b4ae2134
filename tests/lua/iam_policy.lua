-- `hgauto iam-policy` and `hgauto local up --policy`: what is printed, what is
-- refused, how a denied request reads.
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"

local dir = t.tmpdir()
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
local states = 0

local function run(words, opts)
  opts = opts or {}
  return proc.run({ program, table.unpack(words) }, { check = false, timeout = 60,
    stdin = opts.stdin or "", env = { HOME = dir, HGAUTO_GUARD = "0", AWS_REGION = false,
      AWS_DEFAULT_REGION = false } })
end

-- The document of some tasks, and its statements by Sid.
local function policy(...)
  local r = run { "iam-policy", ... }
  t.is(r.code, 0, table.concat({ "iam-policy", ... }, " ") .. ": exit 0")
  local doc, by_sid = json.decode(r.out), {}
  for _, s in ipairs(doc.Statement) do
    by_sid[s.Sid] = s
  end
  return by_sid, doc, r
end

local function sids(by_sid)
  local list = {}
  for sid in pairs(by_sid) do
    list[#list + 1] = sid
  end
  table.sort(list)
  return list
end

t.test("without a name it is for all tasks, and within the limits of IAM", function()
  local by_sid, doc, r = policy()
  t.is(doc.Version, "2012-10-17", "its version")
  t.is(sids(by_sid), { "Launch", "OnlyOurs", "Parameters", "Read", "Roles", "TagAtBirth", "Try" },
    "statements")
  t.ok(#r.out:gsub("%s", "") <= 6144, "at most 6144 characters: a managed policy")
  t.is(r.err, "", "nothing else is said")
  require("localcloud.policy").read(r.out, "it")
  t.ok(not fs.exists(dir .. "/.hgautomation"), "nothing is written")
end)

t.test("conditions and resources of the specification", function()
  local p = policy()
  t.is(p.Launch.Condition, { StringEqualsIfExists = { ["ec2:MetadataHttpTokens"] = "required" } },
    "Launch")
  t.is(p.TagAtBirth.Condition, { StringEquals = { ["ec2:CreateAction"] = { "CreateImage",
    "CreateSecurityGroup", "ImportKeyPair", "RunInstances" } } }, "TagAtBirth")
  t.is(p.OnlyOurs.Condition, { StringLike = { ["aws:ResourceTag/hgauto:state"] = "*" } },
    "OnlyOurs")
  t.is(p.Roles.Resource, { "arn:aws:iam::*:role/hgauto/*",
    "arn:aws:iam::*:instance-profile/hgauto/*" }, "Roles: our path")
  t.is(p.Try.Resource, { "arn:aws:lambda:*:*:function:ci-try-server-upload" }, "Try: one function")
  t.is(p.Read.Condition, nil, "Read: none")
end)

t.test("every action exists: an operation of the service's model, or known to have none", function()
  local no_operation = { ["iam:PassRole"] = true, ["lambda:InvokeFunction"] = true }
  local all = {}
  for _, set in pairs(require("hg.policy").needs) do
    table.move(set, 1, #set, #all + 1, all)
  end
  for _, s in ipairs(require("hg.policy").document({ "ec2:*", "iam:*", "ssm:*", "lambda:*",
    "sts:*" }).Statement) do
    table.move(s.Action, 1, #s.Action, #all + 1, all)
  end
  local bad = {}
  for _, action in ipairs(all) do
    local service, name = action:match "^(%l%w+):(%w+)$"
    local ok, op = pcall(aws.describe, service, name)
    if not no_operation[action] and not (ok and op.name == name) then
      bad[#bad + 1] = action
    end
  end
  t.is(bad, {}, ("%d actions"):format(#all))
end)

t.test("named tasks get what they need and no more", function()
  t.is(sids((policy "status")), { "Read" }, "status looks")
  t.is(sids((policy "try")), { "Try" }, "try")
  t.is(sids((policy "terminate")), { "OnlyOurs", "Read" }, "an alias")
  local p = policy "build_linux"
  t.is(sids(p), { "Launch", "OnlyOurs", "Parameters", "Read", "TagAtBirth" }, "build-linux")
  local function has(s, action)
    for _, a in ipairs(s.Action) do
      if a == action then
        return true
      end
    end
    return false
  end
  t.ok(not has(p.OnlyOurs, "ec2:DeleteKeyPair"), "it does not remove what is to stay")
  t.ok(has(policy("build-linux", "purge-ec2-resources").OnlyOurs, "ec2:DeleteKeyPair"),
    "two tasks: what either needs")
  local two, _, r = policy("try", "try")
  t.is(#two.Try.Action, 1, "twice the same is once")
  t.is(r.err, "", "silently")
  local none, doc, said = policy "publish-windows-artifacts"
  t.is({ #doc.Statement, none.Read.Action }, { 1, { "sts:GetCallerIdentity" } },
    "nothing needed: a policy that grants what everybody may")
  t.like(said.err, "publish%-windows%-artifacts asks nothing of AWS", "which is said")
end)

t.test("an unknown task is a usage error with the near name", function()
  local r = run { "iam-policy", "buld-inno" }
  t.is({ r.code, r.out }, { 2, "" }, "exit 2, nothing printed")
  t.like(r.err, 'unknown task "buld%-inno"; did you mean build%-inno', "the near one")
end)

local function file(name, needs)
  fs.write(dir .. "/" .. name, ("return require('hg').task { %s run = function() end }"):format(
    needs))
  return dir .. "/" .. name
end

t.test("task files of the user's", function()
  local p = policy(file("launch.lua", 'needs = { "ec2:RunInstances" },'))
  t.is(sids(p), { "Launch", "OnlyOurs", "Read", "TagAtBirth" }, "a launch")
  t.is(p.OnlyOurs.Action, { "ec2:DeleteVolume", "ec2:TerminateInstances" }, "brings its end")
  t.is(p.TagAtBirth.Condition.StringEquals["ec2:CreateAction"], { "RunInstances" }, "its tags")
  p = policy(file("role.lua", 'needs = { "iam:CreateRole", "iam:AttachRolePolicy",'
    .. ' "iam:AddRoleToInstanceProfile", "ssm:SendCommand" },'))
  t.is(sids(p), { "Attach", "Commands", "Documents", "OnlyOurs", "Pass", "Read", "Roles" },
    "roles and commands")
  t.is(p.Attach.Condition, { ArnEquals = { ["iam:PolicyARN"] =
    "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" } }, "one policy may be attached")
  t.is(p.Pass.Condition, { StringEquals = { ["iam:PassedToService"] = "ec2.amazonaws.com" } },
    "to EC2 alone")
  t.is(p.Commands.Condition, nil, "CancelCommand has no resources: no condition could hold")
  p = policy(file("wild.lua", 'needs = { "ec2:Describe*" },'))
  t.ok(#p.Read.Action > 8, "wildcards mean what is known")
  local found, _doc, r = policy(file("other.lua", 'needs = { "s3:PutObject" },'))
  t.is({ found.Others.Action, found.Others.Resource }, { { "s3:PutObject" }, "*" },
    "an unknown action")
  t.like(r.err, "s3:PutObject is granted on everything", "is told of")
  r = run { "iam-policy", file("silent.lua", "") }
  t.is(r.code, 2, "a task that does not say what it needs: exit 2")
  t.like(r.err, "silent: the task does not say what it needs\nhint: declare needs", "says so")
end)

t.test("other partitions", function()
  for region, partition in pairs { ["cn-north-1"] = "aws-cn", ["us-gov-west-1"] = "aws-us-gov",
    ["eu-west-1"] = "aws" } do
    local r = run { "iam-policy", "--region", region, "try" }
    t.is(json.decode(r.out).Statement[1].Resource,
      { "arn:" .. partition .. ":lambda:*:*:function:ci-try-server-upload" }, region)
  end
end)

-- ---- local up --policy ----

local function new_state()
  states = states + 1
  local state = ("%s/state%d"):format(dir, states)
  fs.mkdir(state, { mode = 448 })
  return state
end

local function up(state, source, stdin)
  local words = { "--state-path", state, "local", "up", "--api-only", "--policy", source }
  if not client.status { state = state } then
    table.move({ "--listen", "127.0.0.1:0" }, 1, 2, #words + 1, words)
  end
  return run(words, { stdin = stdin })
end

local TRY = run({ "iam-policy", "try" }).out

t.test("a bad policy is one sentence and exit 2; nothing is started", function()
  local state = new_state()
  fs.write(dir .. "/bad.json", '{"Statement":[{"Effect":"Allow","Action":"ec2:*","Resource":"*",'
    .. '"Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}]}')
  for _, c in ipairs {
    { dir .. "/bad.json", nil, "statement 1: the local cloud does not evaluate the condition"
      .. " operator IpAddress\n$" },
    { "-", "", "it is empty, no policy\n$" },
    { "-", "{", "it is not JSON: unexpected end" },
    { dir .. "/none.json", nil, "none%.json: .*No such file" },
    { "-", (" "):rep((1 << 18) + 1), "larger than" },
  } do
    local r = up(state, c[1], c[2])
    t.is(r.code, 2, "exit 2")
    t.like(r.err, "^hgauto: %-%-policy [^\n]*" .. c[3], c[3])
  end
  t.is(client.status { state = state }, nil, "no local cloud runs")
end)

t.test("from a file, from standard input, from a pipe", function()
  local state = new_state()
  local _d <close> = async.defer(function()
    client.stop { state = state }
  end, 60)
  fs.write(dir .. "/try.json", TRY)
  local r = up(state, dir .. "/try.json")
  t.is(r.code, 0, "a file: " .. r.err)
  t.is(up(state, "-", TRY).code, 0, "the same again: it runs already")
  r = up(state, "-", run({ "iam-policy", "status" }).out)
  t.is(r.code, 1, "another one: too late")
  t.like(r.err, "runs already, without this %-%-policy", "says so")
  t.like(run({ "--state-path", state, "local", "status" }).out, "policy +in force", "status tells")
  client.stop { state = state }
  r = proc.run({ "sh", "-c", '"$0" iam-policy try | "$0" --state-path "$1" local up --api-only'
    .. " --listen 127.0.0.1:0 --policy -", program, state }, { check = false })
  t.is(r.code, 0, "a pipe")
  client.stop { state = state }
  t.is(run({ "--state-path", state, "local", "up", "--api-only", "--listen",
    "127.0.0.1:0" }).code, 0, "later without one")
  r = up(state, "-", TRY)
  t.is(r.code, 1, "then it is too late for one")
  t.like(r.err, "runs already, without %-%-policy", "says so")
  t.ok(not run({ "--state-path", state, "local", "status" }).out:find "policy", "status: none")
end)

local state = new_state()
local cloud = client.ensure { state = state, api_only = true, listen = "127.0.0.1:0",
  policy = json.encode { Version = "2012-10-17", Statement = {
    { Effect = "Allow", Action = { "ec2:*", "iam:GetRole", "sts:Decode*" }, Resource = "*" },
    { Effect = "Deny", Action = "ec2:DescribeVolumes", Resource = "*" },
    { Effect = "Deny", Action = "ec2:RunInstances", Resource = "arn:aws:ec2:*:*:instance/*",
      Condition = { StringNotEquals = { ["ec2:MetadataHttpTokens"] = "required" } } },
    { Effect = "Deny", Action = "sts:GetCallerIdentity", Resource = "*" },
  } } }
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)
aws.defaults { region = "us-west-2", endpoint_url = cloud.endpoint_url, credentials = {
  access_key_id = cloud.access_key_id, secret_access_key = cloud.secret_access_key } }
local ec2, iam, sts = aws.client "ec2", aws.client "iam", aws.client "sts"
local USER = "User: arn:aws:iam::123456789012:user/hgauto%-local is not authorized to perform: "

t.test("refusals read as the services' own", function()
  local e = t.raises(function()
    ec2:describe_volumes {}
  end, { kind = "aws", code = "UnauthorizedOperation", status = 403 }, "EC2")
  t.like(e.message, ": You are not authorized to perform this operation%. " .. USER
    .. "ec2:DescribeVolumes with an explicit deny in an identity%-based policy%. Encoded"
    .. " authorization failure message: %S+$", "names principal and action")
  t.is(e:decode().explicitDeny, true, "and can be decoded")
  e = t.raises(function()
    iam:create_role { RoleName = "r", Path = "/a/", AssumeRolePolicyDocument = "{}" }
  end, { kind = "aws", code = "AccessDenied", status = 403 }, "IAM")
  t.like(e.message, USER .. "iam:CreateRole on resource: arn:aws:iam::123456789012:role/a/r because"
    .. " no identity%-based policy allows the iam:CreateRole action$", "with the resource")
  e = t.raises(function()
    aws.client("ssm"):get_parameter { Name = "/aws/service/x" }
  end, { kind = "aws", code = "AccessDeniedException", status = 400 }, "SSM")
  t.like(e.message, USER .. "ssm:GetParameter on resource: arn:aws:ssm:us%-west%-2::parameter/aws",
    "its message")
  t.raises(function()
    aws.client("lambda"):invoke { FunctionName = "ci-try-server-upload", Payload = "{}" }
  end, { kind = "aws", code = "AccessDeniedException", status = 403 }, "Lambda")
  t.raises(function()
    sts:assume_role { RoleArn = "arn:aws:iam::123456789012:role/x", RoleSessionName = "xx" }
  end, { kind = "aws", code = "AccessDenied", status = 403 }, "STS")
  t.is(sts:get_caller_identity({}).Account, "123456789012", "who one is may be asked always")
  t.raises(function()
    iam:get_role { RoleName = "none" }
  end, { code = "NoSuchEntity" }, "what is allowed goes on to the service")
end)

t.test("DryRun and sessions", function()
  local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
  local params = { ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.micro" }
  t.raises(function()
    ec2:dry_run("run_instances", params)
  end, { code = "UnauthorizedOperation" }, "a dry run is refused as the call would be")
  params.MetadataOptions = { HttpTokens = "required" }
  t.ok(ec2:dry_run("run_instances", params), "or would have succeeded")
  t.is(ec2:describe_instances({}).Reservations, {}, "and does nothing")
  local s = sts:get_session_token({}).Credentials
  t.raises(function()
    aws.client("ec2", { credentials = { access_key_id = s.AccessKeyId, secret_access_key =
      s.SecretAccessKey, session_token = s.SessionToken } }):describe_volumes {}
  end, { code = "UnauthorizedOperation" }, "a session may what its user may")
end)

t.test("a denied task says what has to be allowed", function()
  local p = proc.run({ program, "--state-path", state, "status", "--local" }, { check = false,
    env = { HOME = dir } })
  t.is(p.code, 3, "exit 3")
  t.like(p.err, "\nhint: what has to be allowed: hgauto iam%-policy status\n", "the command")
end)

t.test("a refusal that is not of AWS has no such hint", function()
  local exit = require "hg.cli.exit"
  t.is(exit.hint { kind = "auth", code = "AccessDenied" }, nil, "a login to Windows")
  t.is(exit.hint { kind = "aws", code = "AccessDeniedException" },
    "what has to be allowed: hgauto iam-policy", "without a task the command alone")
end)

client.stop { state = state } -- before its files go

return t.done()
