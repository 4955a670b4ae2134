-- Security group, key pair, base image and launch parameters on an api-only
-- local cloud: adopted, refused, exactly asserted.
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local hg = require "hg"
local session = require "hg.session"
local env = dofile "tests/lib/task_env.lua"

env.state()
local ec2 = env.cloud()
local _d <close> = async.defer(env.stop)
env.listen()
local run = env.run()
local sid = session.state.sid

local function ensure(allow)
  return hg.network.ensure(ec2, { ports = { 22 }, allow = allow })
end

-- Ingress as sorted texts.
local function rules(id)
  local list = {}
  for _, p in ipairs(ec2:describe_security_groups({ GroupIds = { id } })
    .SecurityGroups[1].IpPermissions or {}) do
    for _, range in ipairs(p.IpRanges or {}) do
      list[#list + 1] = ("%s %s-%s %s"):format(p.IpProtocol, p.FromPort, p.ToPort, range.CidrIp)
    end
  end
  table.sort(list)
  return list
end

t.test("networks", function()
  t.is(hg.network.cidr "203.0.113.9", "203.0.113.9/32", "an address is itself")
  t.is(hg.network.cidr "10.1.2.3/24", "10.1.2.0/24", "host bits are cleared")
  t.is(hg.network.cidr "255.255.255.255/31", "255.255.255.254/31", "at the upper end")
  for _, text in ipairs { "0.0.0.0/0", "1.2.3.4/0", "0.0.0.0/00", "128.0.0.0/1", "10.0.0.0/7" } do
    t.raises(function()
      hg.network.cidr(text)
    end, { kind = "usage", match = "to everybody" }, text)
  end
  for _, text in ipairs { "", "x", "::/0", "::1/128", "1.2.3/8", "1.2.3.256/32", "1.2.3.4/33",
    "1.2.3.4/", "1.2.3.4/8 ", "1.2.3.4.5/32" } do
    t.raises(function()
      hg.network.cidr(text)
    end, { kind = "usage", match = "expected an IPv4 network" }, ("%q"):format(text))
  end
end)

local group

t.test("the group is made once, with exactly one rule", function()
  group = ensure()
  t.is(rules(group), { "tcp 22-22 127.0.0.1/32" }, "for this machine")
  t.is(ensure(), group, "the next run adopts it")
  t.is(rules(group), { "tcp 22-22 127.0.0.1/32" }, "and its rule")
  local rows = session.ledger:list { kinds = { "group" } }
  t.is(#rows, 1, "one row")
  t.is({ rows[1].state, rows[1].cls, rows[1].id }, { "live", "durable", group }, "live, durable")
end)

t.test("rules become exactly the wanted ones", function()
  ec2:authorize_security_group_ingress { GroupId = group, IpPermissions = {
    { IpProtocol = "tcp", FromPort = 22, ToPort = 22, IpRanges = { { CidrIp = "0.0.0.0/0" } } },
    { IpProtocol = "tcp", FromPort = 1, ToPort = 9999, IpRanges = { { CidrIp = "10.0.0.0/8" } } },
    { IpProtocol = "udp", FromPort = 22, ToPort = 22, IpRanges = { { CidrIp = "127.0.0.1/32" } } },
  } }
  ensure()
  t.is(rules(group), { "tcp 22-22 127.0.0.1/32" }, "what was added goes")
  ensure { "192.0.2.7/24", "198.51.100.1", "198.51.100.1/32" }
  local two = { "tcp 22-22 192.0.2.0/24", "tcp 22-22 198.51.100.1/32" }
  t.is(rules(group), two, "--allow-cidr replaces")
  ensure { "192.0.2.7/24", "198.51.100.1" }
  t.is(rules(group), two, "again: no change")
  t.raises(function()
    ensure { "0.0.0.0/0" }
  end, { kind = "usage" }, "the world is refused")
  t.is(rules(group), two, "and nothing changed")
end)

t.test("beside a live run rules are added, not taken", function()
  local other = session.state:run "other"
  ensure { "192.0.2.0/24", "203.0.113.5" }
  t.is(rules(group), { "tcp 22-22 192.0.2.0/24", "tcp 22-22 198.51.100.1/32",
    "tcp 22-22 203.0.113.5/32" }, "its access stays")
  other:finish()
  ensure()
  t.is(rules(group), { "tcp 22-22 127.0.0.1/32" }, "later they go")
end)

t.test("a group of that name that is not ours is refused, unchanged", function()
  ec2:delete_security_group { GroupId = group }
  aws.ledger(nil)
  local foreign = ec2:create_security_group { GroupName = ("hg-linux-dev-%s"):format(sid),
    Description = "of others" }.GroupId
  hg.ledger.attach(session)
  t.raises(ensure, { kind = "exists", match = "exists but is not ours" }, "refused")
  t.is(rules(foreign), {}, "its rules are as they were")
  ec2:delete_security_group { GroupId = foreign }
end)

t.test("a lost answer to the creation is found by name", function()
  local n, made = 0, nil
  local r = hg.ledger.create { kind = "group", name = "g",
    call = function()
      made = ensure()
      hg.fail { kind = "net", message = "no answer", ambiguous = true }
    end,
    find = function()
      n = n + 1
      return n == 2 and made
    end }
  t.is(r, made, "what was made, though it became visible late")
  t.raises(function()
    hg.ledger.create { kind = "group", name = "g", find = error, call = function()
      hg.fail { kind = "aws", code = "UnauthorizedOperation", message = "no" }
    end }
  end, { code = "UnauthorizedOperation" }, "a refusal is no reason to look")
end)

t.test("the key pair", function()
  local k = hg.keys.ensure(ec2)
  t.like(k.name, "^hg%-automation%-" .. sid .. "%-%x%x%x%x%x%x%x%x$", "its name")
  t.is(hg.keys.ensure(ec2).name, k.name, "the next run adopts it")
  t.is(#ec2:describe_key_pairs({}).KeyPairs, 1, "one")
  t.is(session.ledger:list({ kinds = { "keypair" } })[1].cls, "durable", "durable")
  ec2:delete_key_pair { KeyName = k.name }
  aws.ledger(nil)
  ec2:import_key_pair { KeyName = k.name,
    PublicKeyMaterial = crypto.keypair("ed25519", "x"):public() }
  hg.ledger.attach(session)
  t.raises(function()
    hg.keys.ensure(ec2)
  end, { kind = "exists", match = "with another key" }, "another key of that name is refused")
end)

-- A client that answers DescribeImages with these.
local function images(list, seen)
  return {
    describe_images = function(_, params)
      seen[1] = params
      return { Images = list }
    end,
  }
end

local function image(id, more)
  local i = { ImageId = id, OwnerId = "136693071363", Name = "debian-13-amd64-20250101-1",
    State = "available", Architecture = "x86_64", CreationDate = "2025-01-01T00:00:00.000Z",
    RootDeviceName = "/dev/xvda" }
  for k, v in pairs(more or {}) do
    i[k] = v
  end
  return i
end

t.test("the base image: owner, name, newest", function()
  local seen = {}
  local got = hg.images.base(images({
    image("ami-1"), image("ami-2", { CreationDate = "2025-03-01T00:00:00.000Z" }),
    image("ami-3", { CreationDate = "2025-02-01T00:00:00.000Z" }),
    image("ami-evil", { OwnerId = "999999999999", CreationDate = "2026-01-01T00:00:00.000Z" }),
    image("ami-daily", { Name = "debian-13-amd64-daily-20260101-1",
      CreationDate = "2026-01-01T00:00:00.000Z" }),
    image("ami-arm", { Architecture = "arm64", CreationDate = "2026-01-01T00:00:00.000Z" }),
    image("ami-bad", { State = "failed", CreationDate = "2026-01-01T00:00:00.000Z" }),
  }, seen), "debian13")
  t.is({ got.id, got.user, got.root_device }, { "ami-2", "admin", "/dev/xvda" }, "the newest")
  t.is(seen[1].Owners, { "136693071363" }, "asked for by owner")
  t.raises(function()
    hg.images.base(images({ image("ami-0123", { OwnerId = "999999999999" }) }, seen), "debian13",
      "ami-0123")
  end, { kind = "task", match = "no base image" }, "an id of another owner is refused")
  t.is(seen[1].ImageIds, { "ami-0123" }, "though it was asked for")
  t.raises(function()
    hg.images.base(ec2, "debian10")
  end, { kind = "usage", match = "no longer exists" }, "a vanished one")
  t.raises(function()
    hg.images.base(ec2, "debian31")
  end, { kind = "usage", match = "unknown base image" }, "an unknown one")
  t.raises(function()
    hg.images.base(ec2, "debian13", true)
  end, { kind = "usage", match = "base_image is a name pattern or an AMI id, not a boolean" },
    "a script's mistake")
  for _, name in ipairs { "ami-zz", "ami_0123456789abcdef0", "deb", "" } do
    t.raises(function()
      hg.images.choose(ec2, "debian13", { image = name })
    end, { kind = "usage", match = "dev, auto, base or ami" }, "--image " .. name)
  end
  t.like(hg.images.base(ec2, "debian13").id, "^ami%-", "the local cloud has one")
end)

t.test("images of other owners, on request", function()
  local seen = {}
  local list = images({ image("ami-1"), image("ami-2", { OwnerId = "999999999999",
    CreationDate = "2026-01-01T00:00:00.000Z" }), image("ami-3", { OwnerId = "888888888888",
    CreationDate = "2026-02-01T00:00:00.000Z" }) }, seen)
  t.is(hg.images.base(list, "debian13", nil, { "999999999999" }).id, "ami-2",
    "an allowed owner's newer one, nobody else's")
  t.is(seen[1].Owners, { "136693071363", "999999999999" }, "both are asked for")
  t.raises(function()
    hg.images.base(list, "debian13", nil, { "me" })
  end, { kind = "usage", match = '"me" is no account number of 12 digits' }, "an owner is a number")
  t.raises(function()
    hg.images.base(images({}, seen), "debian13", "ami-0123", { "999999999999" })
  end, { kind = "task", match = "owner 136693071363, 999999999999, name ami%-0123" },
    "none is there")
end)

t.test("the id of a public parameter", function()
  local by_name = hg.images.base(ec2, "debian13").id
  t.is(hg.images.base(ec2, "debian13", "ssm:").id, by_name, "ssm: is the publisher's")
  t.is(hg.images.base(ec2, "debian13", "ssm:/aws/service/debian/release/13/latest/amd64").id,
    by_name, "or named")
  t.raises(function()
    hg.images.base(ec2, "debian13",
      "ssm:/aws/service/ami-windows-latest/Windows_Server-2019-English-Full-Base")
  end, { kind = "task", match = "no base image for debian13 %(owner 136693071363, name ssm:/aws/" },
    "the owner is checked all the same")
  t.raises(function()
    hg.images.base(ec2, "debian13", "ssm:/mine")
  end, { kind = "usage", match = "public parameters begin with /aws/" }, "a private one")
  t.raises(function()
    hg.images.base(ec2, "debian13", "ssm:/aws/nothing")
  end, { kind = "aws", code = "ParameterNotFound" }, "one that is not there")
end)

t.test("a launch that nobody answers is undone", function()
  local ec2m = require "hg.machines.ec2"
  local base = hg.images.base(ec2, "debian13")
  local options = { image = base, group = ensure(), instance_type = "t3.large", name = "hg-x",
    max_age = 600, root_gb = 16, host_key = crypto.keypair("ed25519", "h"), key_name = nil }
  local function all()
    local alive = {}
    for _, r in ipairs(ec2:describe_instances({}).Reservations) do
      for _, i in ipairs(r.Instances) do
        if i.State.Name ~= "terminated" and i.State.Name ~= "shutting-down" then
          alive[#alive + 1] = i.InstanceId
        end
      end
    end
    return alive
  end
  local instance = ec2m.launch(ec2, options)
  t.is(all(), { instance.InstanceId }, "a launch")
  local row = session.ledger:list({ kinds = { "instance" } })[1]
  t.is(row.state, "live", "its row")
  -- The request arrives, its answer does not.
  local deaf = setmetatable({ run_instances = function(_, params, opts)
    ec2:run_instances(params, opts)
    hg.fail { kind = "net", message = "connection reset", ambiguous = true }
  end }, { __index = ec2 })
  t.raises(function()
    ec2m.launch(deaf, options)
  end, { kind = "net" }, "a lost answer")
  t.is(all(), { instance.InstanceId }, "what it made is gone, nothing else")
  -- Cancelled while it starts.
  local err = t.raises(function()
    async.scope(function(s)
      local task = s:spawn(ec2m.launch, setmetatable({ describe_instances = function()
        return { Reservations = { { Instances = { { State = { Name = "pending" },
          StateReason = { Code = "pending", Message = "base image is being built" } } } } } }
      end }, { __index = ec2 }), options)
      async.sleep(0.3)
      task:cancel "test"
      task:join()
    end)
  end, {}, "cancelled")
  t.ok(err, "raised")
  t.is(all(), { instance.InstanceId }, "nothing stays")
  t.raises(function()
    ec2m.wait_running({ describe_instances = function()
      return { Reservations = { { Instances = { { State = { Name = "pending" },
        StateReason = { Message = "base image is being built" } } } } } }
    end }, "i-1", 0.1)
  end, { kind = "timeout", match = "pending: base image is being built" },
    "a pending instance's reason is told")
  t.is(ec2m.terminate(ec2, instance.InstanceId), "shutting-down", "terminate")
  t.is(session.ledger:get(row.op).state, "gone", "recorded")
  t.is(session.ledger:open_count(run.id), 0, "nothing is open")
end)

t.test("the machine on which an image is made is where the task's machines are", function()
  local machines, real = hg.machines, hg.machines.linux
  local given
  function machines.linux(o)
    given = o
    error("enough", 0)
  end
  pcall(hg.images.choose, ec2, "debian13", { image = "dev", allow_cidr = { "10.0.0.0/8" },
    subnet = "subnet-1" })
  machines.linux = real
  t.is({ given and given.allow_cidr, given and given.subnet }, { { "10.0.0.0/8" }, "subnet-1" },
    "--allow-cidr and --subnet hold for it, too")
end)

t.test("an image of this account, by its id", function()
  local base = hg.images.base(ec2, "debian13")
  local id = ec2:run_instances({ ImageId = base.id, MinCount = 1, MaxCount = 1 }).Instances[1]
    .InstanceId
  ec2:wait("instance_running", { InstanceIds = { id } })
  local made = ec2:create_image({ InstanceId = id, Name = "mine" }, { keep = true }).ImageId
  ec2:wait("image_available", { ImageIds = { made } })
  t.raises(function()
    hg.images.base(ec2, "debian13", made)
  end, { kind = "task" }, "is no base image")
  local got = hg.images.choose(ec2, "debian13", { image = made })
  t.is({ got.id, got.user, got.name }, { made, "admin", "mine" }, "but --image takes it")
  t.is(hg.images.choose(ec2, "debian13", { image = base.id }).id, base.id,
    "as it takes one of the publisher")
  t.raises(function()
    hg.images.named({ describe_images = function()
      return { Images = { image("ami-0123", { OwnerId = "999999999999" }) } }
    end }, "debian13", "ami-0123")
  end, { kind = "task", match = "no base image" }, "somebody else's is refused")
  require("hg.machines.ec2").terminate(ec2, id)
end)

env.stop()
return t.done()
