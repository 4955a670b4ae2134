-- hgauto purge and state ledger: the question, limits, roles, lost state
-- directories, two of them in one account, damaged and forgotten entries.
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local hg = require "hg"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local session = require "hg.session"
local env = dofile "tests/lib/task_env.lua"

host.setenv("HGAUTO_GC_GRACE", "0.3")
env.state()
local ec2, cloud = env.cloud()
local cloud_state = session.state.path
local _d <close> = async.defer(function()
  require("localcloud.client").stop { state = cloud_state }
end)
local said = env.listen()
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
hg.runs.print_table = function() end
local opts = { region = "us-west-2", endpoint_url = cloud.endpoint_url }
local ami = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId

local function purge(args)
  said.clear()
  session.local_cloud = nil
  local code = require("hg.purge").main(args or { yes = true }, opts)
  session.local_cloud = cloud
  return code
end

-- Things of a run of this process, which ends at once.  The endpoint is the
-- cloud's URL, as for any other service.
local function make(fn)
  session.local_cloud, session.endpoint_url, session.place = nil, cloud.endpoint_url, nil
  local run = env.run()
  fn(run)
  run:finish()
  aws.ledger(nil)
  session.local_cloud = cloud
end

local function launch()
  return ec2:run_instances({ ImageId = ami, MinCount = 1, MaxCount = 1 }).Instances[1].InstanceId
end

local function group(name)
  return ec2:create_security_group({ GroupName = name, Description = "x" }).GroupId
end

local function groups()
  local names = {}
  for _, g in ipairs(ec2:describe_security_groups({}).SecurityGroups) do
    if g.GroupName ~= "default" then
      names[#names + 1] = g.GroupName
    end
  end
  table.sort(names)
  return names
end

local function cli(words, more)
  local e = { AWS_ACCESS_KEY_ID = cloud.access_key_id,
    AWS_SECRET_ACCESS_KEY = cloud.secret_access_key, HGAUTO_GC_GRACE = "0.3", HGAUTO_STATE = "" }
  return proc.run({ program, "--state-path", session.state.path, "--region", "us-west-2",
    "--endpoint-url", cloud.endpoint_url, table.unpack(words) },
    { check = false, timeout = 60, env = e, stdin = more or "" })
end

t.test("nobody to ask: nothing is removed without --yes", function()
  make(function()
    group "g1"
  end)
  local r = cli { "purge" }
  t.is(r.code, 2, "exit 2")
  t.like(r.err, "hint: %-%-yes", "says how")
  t.like(r.out, "g1", "lists what it would remove")
  t.is(groups(), { "g1" }, "and leaves it")
  t.is(cli({ "purge", "--yes" }).code, 0, "--yes")
  t.is(groups(), {}, "removes it")
end)

t.test("more than --max is refused", function()
  make(function()
    group "g1"
    group "g2"
  end)
  t.raises(function()
    purge { yes = true, max = 1 }
  end, { kind = "usage", match = "more than 1" }, "refused")
  t.is(groups(), { "g1", "g2" }, "nothing was removed")
  t.is(purge { yes = true, max = 2 }, 0, "with enough room")
  t.is(groups(), {}, "all go")
end)

t.test("groups that name each other go both", function()
  make(function()
    local a, b = group "a", group "b"
    for _, pair in ipairs { { a, b }, { b, a } } do
      ec2:authorize_security_group_ingress { GroupId = pair[1], IpPermissions = { {
        IpProtocol = "tcp", FromPort = 22, ToPort = 22,
        UserIdGroupPairs = { { GroupId = pair[2] } } } } }
    end
  end)
  t.is(purge(), 0, "exit 0")
  t.is(groups(), {}, "both")
end)

t.test("roles and profiles go with what hangs on them", function()
  local iam = aws.client "iam"
  make(function()
    iam:create_role { RoleName = "hg-r", AssumeRolePolicyDocument = json.encode {
      Version = "2012-10-17", Statement = { { Effect = "Allow", Action = "sts:AssumeRole",
        Principal = { Service = "ec2.amazonaws.com" } } } } }
    iam:attach_role_policy { RoleName = "hg-r",
      PolicyArn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }
    iam:create_instance_profile { InstanceProfileName = "hg-p" }
    iam:add_role_to_instance_profile { InstanceProfileName = "hg-p", RoleName = "hg-r" }
  end)
  t.is(purge(), 0, "exit 0: " .. said.text())
  t.is(#iam:list_roles({ PathPrefix = "/hgauto/" }).Roles, 0, "the role")
  t.is(#iam:list_instance_profiles({ PathPrefix = "/hgauto/" }).InstanceProfiles, 0, "the profile")
end)

t.test("an image's snapshots are in the ledger before it goes", function()
  local id
  make(function()
    id = launch()
    t.ok(t.eventually(function()
      return ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1].State
        .Name == "running"
    end), "a machine")
    local image = ec2:create_image({ InstanceId = id, Name = "hg-i" }).ImageId
    t.ok(t.eventually(function()
      return ec2:describe_images({ ImageIds = { image } }).Images[1].State == "available"
    end), "an image")
  end)
  t.is(purge(), 0, "exit 0")
  t.is(#ec2:describe_images({ Owners = { "self" } }).Images, 0, "the image is gone")
  t.is(#ec2:describe_snapshots({ OwnerIds = { "self" } }).Snapshots, 0, "its snapshot, too")
  local rows = session.ledger:list { kinds = { "snapshot" } }
  t.ok(#rows == 1 and rows[1].state == "gone" and rows[1].parent, "which had a row of its own")
end)

t.test("a lost state directory: by tag", function()
  local first = session.state
  make(function()
    launch()
    group "lost"
  end)
  env.state()
  t.is(purge { yes = true, by_tag = true }, 0, "of this directory alone")
  t.is(groups(), { "lost" }, "nothing: it made none")
  t.is(purge { yes = true, by_tag = true, sid = { "000000000000" } }, 0, "of another")
  t.is(groups(), { "lost" }, "nothing")
  t.is(purge { yes = true, by_tag = true, sid = { first.sid } }, 0, "of the lost one")
  t.is(groups(), {}, "everything")
  local row = session.ledger:list { kinds = { "group" } }[1]
  t.ok(row and row.state == "gone" and row.adopted, "which came into the ledger")
  t.raises(function()
    purge { yes = true, all_states = true }
  end, { kind = "usage", match = "by%-tag" }, "--all-states alone is refused")
end)

t.test("two state directories in one account do not touch each other", function()
  make(function()
    group "mine"
  end)
  local mine = session.state
  env.state()
  make(function()
    group "theirs"
  end)
  t.is(purge(), 0, "one purges")
  t.is(groups(), { "mine" }, "the other's stay")
  t.is(purge { yes = true, by_tag = true, all_states = true }, 0, "unless all are meant")
  t.is(groups(), {}, "then they go")
  session.state = mine
  session.ledger = mine:ledger()
end)

t.test("another account is refused and nothing changed", function()
  env.state()
  local place = session.ledger:place { partition = "aws", account = "999999999999",
    region = "us-west-2", endpoint = cloud.endpoint_url }
  local op = crypto.token()
  session.ledger:begin_run("r1", "x")
  session.ledger:intent { op = op, run = "r1", kind = "instance", place = place, token = op }
  t.raises(purge, { kind = "auth", match = "belongs to account 999999999999" }, "refused")
  t.is(session.ledger:get(op).state, "intent", "its row is as before")
  local r = cli { "state", "ledger", "dump", "-o", "json" }
  t.is(json.decode(r.out)[op].state, "intent", "dump shows it")
  t.is(cli({ "state", "ledger", "forget", op }).code, 2, "forgetting needs --yes")
  t.is(cli({ "state", "ledger", "forget", op, "--yes" }).code, 0, "with it")
  t.is(session.ledger:get(op).state, "gone", "the entry is dropped")
  t.is(purge(), 0, "then purge works")
end)

t.test("state ledger check and rebuild", function()
  local run = env.run()
  local op = crypto.token()
  session.ledger:intent { op = op, run = run.id, kind = "instance", token = op,
    place = hg.ledger.place(session) }
  run:finish()
  aws.ledger(nil)
  local r = cli { "state", "ledger", "check" }
  t.is(r.code, 0, "sound")
  t.like(r.out, "2 entries, 1 open, 0 damaged", "counted")
  t.is(cli({ "state", "ledger", "rebuild" }).code, 0, "rebuilt")
  r = cli { "state", "ledger", "dump", "-o", "json" }
  t.is(json.decode(r.out)[op].state, "unknown", "open entries are unknown")
  session.ledger:close()
  local path = session.state.path .. "/ledger.db"
  local text = fs.read(path)
  fs.write(path, text:sub(1, 8192) .. ("\0"):rep(1024) .. text:sub(8192 + 1025), { mode = 384 })
  r = cli { "state", "ledger", "check" }
  t.is(r.code, 0, "after damage it is usable: " .. r.err)
end)

require("localcloud.client").stop { state = cloud_state }
return t.done()
