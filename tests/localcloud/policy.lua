-- The policy that `hgauto iam-policy` prints is sufficient for every task, and
-- minimal: without any one of its actions some task fails or ends differently.
--
-- Tasks run as in the sweeps: api-only, with stand-ins for SSH, WinRM and Mercurial.
-- The local cloud runs in this process, so that its policy can be changed between
-- them; without one it lets everything through (that prepares).
local t = require "hg.tap"
local async = require "hgauto.async"
local auth = require "localcloud.auth"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local policy = require "localcloud.policy"
local proc = require "hgauto.proc"
local sweep = dofile "tests/lib/sweep.lua"

local dir = t.tmpdir()
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"

-- The document in force, and the same without one action.
local document = json.decode(proc.run({ program, "iam-policy" }, { env = { HOME = dir } }).out)

local function without(action)
  local doc = json.decode(json.encode(document))
  for i = #doc.Statement, 1, -1 do
    local s = doc.Statement[i]
    for k = #s.Action, 1, -1 do
      if s.Action[k] == action then
        table.remove(s.Action, k)
      end
    end
    if not s.Action[1] then
      table.remove(doc.Statement, i)
    end
  end
  return doc
end

local function read(doc)
  return policy.read(json.encode(doc), "the printed policy")
end

local full = read(document)

-- ---- the local cloud ----

local cloud

-- Where machines do what they do by themselves: no policy of a user's binds them.
local function open_door(d)
  local free = setmetatable({ policy = false }, { __index = d, __newindex = d })
  local server = require("hgauto.httpd").new { on_request = function(req)
    require("localcloud.faults").send(req, require("localcloud.requests").answer(free, req))
  end }
  return server, ("http://127.0.0.1:%d"):format(server:listen {})
end

-- Starts one in this process.
local function start_cloud()
  local state, ready = dir .. "/cloud", async.event()
  fs.mkdir(state, { mode = 448 })
  local task = async.spawn(function()
    require("localcloud").run { state = state, api_only = true, listen = "127.0.0.1:0",
      idle = 3600, delays = { pending = 0.01, stopping = 0.01, ["shutting-down"] = 0.01 },
      on_ready = function(d)
        ready:set(d)
      end }
  end)
  local d = ready:wait()
  local keys = auth.read_keys(state .. "/local/credentials")
  local c = { d = d, task = task, keys = keys, journal = state .. "/local/requests.jsonl",
    seen = 0 }
  c.credentials = { access_key_id = keys.access_key_id, secret_access_key = keys.secret_access_key }
  c.door, c.door_url = open_door(d)
  return c
end

local function client(service)
  return aws.client(service, { region = "us-west-2", endpoint_url = cloud.d.endpoint,
    credentials = cloud.credentials })
end

-- What the requests since the last call asked for: action -> whether it was allowed;
-- and which patterns and values of the policy that needed.
local function used()
  local text, set = fs.exists(cloud.journal) and fs.read(cloud.journal) or "", {}
  for line in text:sub(cloud.seen + 1):gmatch "[^\n]+" do
    for _, a in ipairs(json.decode(line).allowed or {}) do
      for _, what in ipairs(a.used or {}) do
        set[("%s %s"):format(a.sid, what)] = true
      end
      set[a.action] = a.decision == "allow"
    end
  end
  cloud.seen = #text
  return set
end

-- Things that stay; those of publishers and the default group are always there.
local KINDS = { "instance", "volume", "image", "snapshot", "group", "key", "role", "profile" }

local function is_there(kind, o)
  return not (kind == "instance" and (o.state == "terminated" or o.hidden)
    or kind == "group" and o.name == "default" or o.state == "deregistered")
end

-- What exists once nothing moves any more.
local function inventory()
  local text
  t.eventually(function()
    local list = {}
    for _, kind in ipairs(KINDS) do
      local n = 0
      for _, o in ipairs(cloud.d.S:list(kind)) do
        if kind == "instance" and (o.state == "shutting-down" or o.state == "pending"
          or o.state == "stopping") then
          return false
        end
        n = n + (is_there(kind, o) and 1 or 0)
      end
      list[#list + 1] = n > 0 and ("%d %s"):format(n, kind) or nil
    end
    text = table.concat(list, ", ")
    return true
  end, 20)
  return text
end

-- Lets everything but the default group vanish, without a request.
local function drop_all()
  for _, kind in ipairs(KINDS) do
    for _, o in ipairs(cloud.d.S:list(kind)) do
      if not (kind == "group" and o.name == "default") then
        cloud.d.S:drop(o)
      end
    end
  end
  cloud.d.S:commit()
end

-- Empties the account.
local function clear()
  cloud.d.policy = nil
  local ids = {}
  for _, o in ipairs(cloud.d.S:list "instance") do
    ids[#ids + 1] = is_there("instance", o) and o.id or nil
  end
  if ids[1] then
    client("ec2"):terminate_instances { InstanceIds = ids }
  end
  inventory()
  drop_all()
end

-- ---- tasks ----

local states = 0

local function new_state()
  states = states + 1
  local state = ("%s/state%d"):format(dir, states)
  fs.mkdir(state, { mode = 448 })
  return state
end

local function environment(stubs)
  return { AWS_ACCESS_KEY_ID = cloud.keys.access_key_id,
    AWS_SECRET_ACCESS_KEY = cloud.keys.secret_access_key, HOME = dir,
    HGAUTO_SCRIPTS = stubs and fs.realpath "tests/torture/stubs" or false,
    HGAUTO_SWEEP_SCRIPTS = fs.realpath "scripts", HGAUTO_SWEEP_CLOUD = cloud.door_url,
    HGAUTO_GC_GRACE = "0.3", HGAUTO_POLL_MIN = "0.02", HGAUTO_GUARD = "0",
    AWS_EC2_METADATA_DISABLED = "true" }
end

local function argv(state, words)
  local list = { program, "--state-path", state, "--endpoint-url", cloud.d.endpoint, "--region",
    "us-west-2" }
  for _, word in ipairs(words) do
    list[#list + 1] = word:gsub("^@", state .. ".")
  end
  return list
end

local function run(state, words, stubs)
  return proc.run(argv(state, words), { check = false, timeout = 120, stdin = "", cwd = dir,
    env = environment(stubs ~= false) })
end

-- A text without what differs from run to run.
local function plain(text)
  return (text:gsub("%f[%w](%l+)%-%x+%f[%X]", "%1-ID"):gsub(("%d"):rep(8) .. "%-%d%d%d%d%-%w+",
    "RUN"):gsub(("%x"):rep(8) .. "+", "HEX"):gsub("%d[%d.]*m?s%f[%W]", "TIME")
    :gsub("state%d+", "state"):gsub("  +", " "))
end

local function task(name, source)
  local path = ("%s/%s.lua"):format(dir, name)
  fs.write(path, source)
  return path
end

-- ---- what is there before ----

-- Things of a state directory, made by hand.
local function tags_of(state, more)
  local st = require("hgauto.state").open(state, { create = true })
  local tags = { { Key = "hgauto:v", Value = "1" }, { Key = "hgauto:state", Value = st.sid } }
  for key, value in pairs(more or {}) do
    tags[#tags + 1] = { Key = key, Value = value }
  end
  return tags
end

local function specs(tags, ...)
  local list = {}
  for i, kind in ipairs { ... } do
    list[i] = { ResourceType = kind, Tags = tags }
  end
  return list
end

local function machine(ec2, tags)
  local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
  local id = ec2:run_instances({ ImageId = image, MinCount = 1, MaxCount = 1,
    InstanceType = "t3.micro", TagSpecifications = specs(tags, "instance", "volume")
  }).Instances[1].InstanceId
  t.eventually(function()
    return cloud.d.S:get("instance", "us-west-2", id).state == "running"
  end, 10)
  return id
end

local function volume(ec2, tags)
  ec2:create_volume { AvailabilityZone = "us-west-2a", Size = 1,
    TagSpecifications = specs(tags, "volume") }
end

local TRUST = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":'
  .. '{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}'

-- A role of ours, and a profile of ours that holds another's: what keeps a role
-- from going would be waited for.
local function role(tags)
  local iam = client "iam"
  iam:create_role { RoleName = "q", Path = "/hgauto/", AssumeRolePolicyDocument = TRUST }
  iam:create_role { RoleName = "r", Path = "/hgauto/", AssumeRolePolicyDocument = TRUST,
    Tags = tags }
  iam:attach_role_policy { RoleName = "r", PolicyArn =
    "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }
  iam:put_role_policy { RoleName = "r", PolicyName = "p", PolicyDocument =
    '{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}' }
  iam:create_instance_profile { InstanceProfileName = "p", Path = "/hgauto/", Tags = tags }
  iam:add_role_to_instance_profile { InstanceProfileName = "p", RoleName = "q" }
end

local function one_of_each(state)
  local ec2, tags = client "ec2", tags_of(state)
  local id = machine(ec2, tags)
  ec2:create_image { InstanceId = id, Name = "hg-x", TagSpecifications = specs(tags, "image",
    "snapshot") }
  ec2:import_key_pair { KeyName = "k", PublicKeyMaterial = crypto.keypair("ed25519", "k"):public(),
    TagSpecifications = specs(tags, "key-pair") }
  ec2:create_security_group { GroupName = "g", Description = "g", TagSpecifications = specs(tags,
    "security-group") }
  volume(ec2, tags)
  role(tags)
end

local DEAD = task("dead", [[
local ec2 = require("hgauto.aws").client "ec2"
return function()
  local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
  ec2:run_instances { ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.micro" }
  require("hgauto.proc").run { "kill", "-9", tostring(require("hgauto.host").pid()) }
end]])

-- A run that was killed, and a volume that its machine left.
local function dead_run(state)
  run(state, { "run", DEAD })
  local of_run
  for _, o in ipairs(cloud.d.S:list "instance") do
    of_run = is_there("instance", o) and o.tags["hgauto:run"] or of_run
  end
  volume(client "ec2", tags_of(state, { ["hgauto:run"] = of_run, ["hgauto:class"] = "ephemeral" }))
end

local ROLES = task("roles", ([[
local iam = require("hgauto.aws").client "iam"
return function(_, args)
  if args.rest[1] == "role" then
    iam:create_role { RoleName = "late", AssumeRolePolicyDocument = %q }
  else
    iam:create_instance_profile { InstanceProfileName = "never" }
  end
end]]):format(TRUST))

-- Creations whose answer nobody heard: of one that did not happen, of one that did
-- (last, since the next run would find it).
local function unheard(state)
  for _, c in ipairs { { "profile", "CreateInstanceProfile", "before" },
    { "role", "CreateRole", "after" } } do
    local ids = cloud.d.faults:add { { match = { action = c[2] }, when = c[3],
      effect = { latency = 60 } } }
    local p <close> = proc.spawn(argv(state, { "run", ROLES, "--", c[1] }), { stdout = "null",
      stderr = "null", env = environment(true) })
    t.eventually(function()
      return cloud.d.faults:rows()[1].hits > 0
    end, 20)
    p:kill "KILL"
    p:wait()
    cloud.d.faults:clear(ids[1])
  end
end

-- ---- scenes ----

local function words(name, ...)
  return { name, "--allow-cidr", "127.0.0.1/32", ... }
end

local BUILD = words("build-linux", "wheel", "--dist-path", "@dist")

local function prepared(...)
  local list = { ... }
  return function(state)
    for _, w in ipairs(list) do
      run(state, w)
    end
  end
end

-- An action is tried out in the first that uses it: cheap ones stand first.
local SCENES = {
  { "try", sweep.words "try" },
  { "status", sweep.words "status", before = one_of_each },
  { "terminate-ec2-instances", sweep.words "terminate-ec2-instances", before = one_of_each },
  { "build-linux", sweep.words "build-linux" },
  { "another network, subnet and base image", { "build-linux", "wheel", "--dist-path", "@dist",
    "--allow-cidr", "127.0.0.2/32", "--base-image", "ssm:", "--subnet",
    require("localcloud.ec2.network").subnets("us-west-2")[1].id },
    before = prepared(BUILD) },
  { "purge-ec2-resources", sweep.words "purge-ec2-resources", before = one_of_each },
  { "purge-ec2-resources after unheard answers", { "purge-ec2-resources" }, before = unheard },
  { "bootstrap-linux-dev --force", words("bootstrap-linux-dev", "--distros", "debian13",
    "--force"), before = prepared(sweep.words "bootstrap-linux-dev") },
  { "a Windows machine that does not come up", { "run", task("windows", [[
return function()
  require("hg").machines.windows { ready = 1, allow_cidr = { "127.0.0.1/32" } }
end]]) }, fails = 5, console = true },
  { "build-linux after a dead run", BUILD, before = dead_run, slow = true },
  { "build-windows", words("build-windows", "wheel", "inno", "--dist-path", "@dist", "--image",
    "base") },
  { "run-tests-linux --image dev", words("run-tests-linux", "--results-path", "@results",
    "--image", "dev") },
}

-- The other tasks that the sweeps know: all that send requests.
local function add_others()
  local seen, names = {}, {}
  for _, scene in ipairs(SCENES) do
    seen[scene[1]] = true
  end
  for name in pairs(sweep.TASKS) do
    names[#names + 1] = not seen[name] and name or nil
  end
  table.sort(names)
  for _, name in ipairs(names) do
    SCENES[#SCENES + 1] = { name, sweep.words(name) }
  end
end

add_others()

-- Says something on the console of each machine.
local function write_consoles()
  while true do
    for _, o in ipairs(cloud.d.S:list "instance") do
      local path = cloud.d.machines:console_path(o)
      if o.state == "running" and not fs.exists(path) then
        fs.mkdir(path:match "^(.*)/", { parents = true })
        fs.write(path, "hello\n")
      end
    end
    async.sleep(0.05)
  end
end

-- Plays a scene under a policy: what it comes to, as text, and what it used.
local function play(scene, doc)
  clear()
  local state = new_state()
  if scene.before then
    scene.before(state)
  end
  used()
  cloud.d.policy = doc
  -- What dead runs left is removed beside the task, while it runs.
  cloud.d.machines.delays.pending = scene.slow and 4 or 0.01
  local writer = scene.console and async.spawn(write_consoles)
  local r = run(state, scene[2], not scene.console)
  if writer then
    writer:cancel "done"
  end
  cloud.d.policy, cloud.d.machines.delays.pending = nil, 0.01
  local last = scene.console and r.err:match "its console says[^\n]*" or ""
  return ("exit %s\n%s%s\nleft: %s"):format(r.code or r.signal, plain(r.out), last, inventory()),
    used(), r
end

local function needs_of(name)
  local list, known = require("hg.cli.tasks").load_builtin(name), {}
  for _, action in ipairs(list and list.needs or {}) do
    known[action] = true
  end
  return list and known
end

cloud = start_cloud()

local all = {}

t.test("every task runs under the policy", function()
  for _, scene in ipairs(SCENES) do
    local text, set, r = play(scene, full)
    scene.text, scene.used = text, set
    if not t.is(r.code, scene.fails or 0, scene[1]) then
      t.diag("%s%s", r.out, r.err)
    end
    for what, allowed in pairs(set) do
      all[what] = true
      if not allowed then
        t.ok(false, scene[1] .. ": denied " .. what)
      end
    end
    local known, more = needs_of(scene[2][1]), {}
    for what in pairs(known and set or {}) do
      more[#more + 1] = what:match "^%w+:%u%w+$" and not known[what] and what or nil
    end
    t.is(more, {}, scene[1] .. ": all that it asks for is in its needs")
  end
end)

t.test("no task is left out", function()
  local played = {}
  for _, scene in ipairs(SCENES) do
    played[scene[2][1]] = true
  end
  for _, name in ipairs(require("hg.cli.tasks").builtin()) do
    if not played[name] then
      t.is(require("hg.cli.tasks").load_builtin(name).needs, {}, name .. " needs nothing of AWS")
    end
  end
end)

t.test("a task begins with the end of what dead runs left", function()
  for _, scene in ipairs(SCENES) do
    if scene.slow then
      t.is(scene.text:match "left: (.*)$", "1 group, 1 key", scene[1])
    end
  end
end)

t.test("what is left: nothing that the policy should have let go", function()
  for _, scene in ipairs(SCENES) do
    if scene[2][1] == "purge-ec2-resources" then
      t.is(scene.text:match "left: (.*)$", scene.before == one_of_each and "1 role" or "",
        scene[1] .. ": at most the role that is not ours")
    end
  end
end)

t.test("no set of needs holds more than its tasks use", function()
  local sets, untested = require("hg.policy").needs, require("hg.policy").untested
  for name, set in pairs(sets) do
    local seen = {}
    for _, scene in ipairs(SCENES) do
      local task_needs = (require("hg.cli.tasks").load_builtin(scene[2][1]) or {}).needs
      -- Windows machines are launched and imaged by the same code as Linux ones.
      local counts = task_needs == set or name == "windows" and (task_needs == sets.linux
        or scene.console)
      for what in pairs(counts and scene.used or {}) do
        seen[what] = true
      end
    end
    local more = {}
    for _, action in ipairs(set) do
      more[#more + 1] = not seen[action] and not untested[action] and action or nil
    end
    t.is(more, {}, name)
  end
end)

t.test("every condition and every resource of it is needed", function()
  for _, s in ipairs(document.Statement) do
    for name, keys in pairs(s.Condition or {}) do
      for key, values in pairs(keys) do
        for _, value in ipairs(type(values) == "table" and values or { values }) do
          t.ok(all[("%s %s %s %s"):format(s.Sid, name, key, value)],
            ("%s: %s %s %s"):format(s.Sid, name, key, value))
        end
      end
    end
    for _, pattern in ipairs(type(s.Resource) == "table" and s.Resource or { s.Resource }) do
      t.ok(all[("%s resource %s"):format(s.Sid, pattern)], s.Sid .. ": " .. pattern)
    end
  end
end)

t.test("what is not ours is out of reach", function()
  clear()
  local ec2, iam = client "ec2", client "iam"
  local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
  local other = machine(ec2, { { Key = "Name", Value = "not ours" } })
  iam:create_role { RoleName = "other", Path = "/", AssumeRolePolicyDocument = TRUST }
  local group = ec2:create_security_group({ GroupName = "g", Description = "g" }).GroupId
  cloud.d.policy = full
  local launch = { ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.micro" }
  for name, fn in pairs {
    ["a launch whose metadata takes no token"] = function()
      ec2:run_instances(launch)
    end,
    ["ending another's machine"] = function()
      ec2:terminate_instances { InstanceIds = { other } }
    end,
    ["making it ours by a tag"] = function()
      ec2:create_tags { Resources = { other }, Tags = { { Key = "hgauto:state", Value = "x" } } }
    end,
    ["opening another's group"] = function()
      ec2:authorize_security_group_ingress { GroupId = group, CidrIp = "192.0.2.1/32",
        IpProtocol = "tcp", FromPort = 22, ToPort = 22 }
    end,
    ["a role outside our path"] = function()
      iam:delete_role { RoleName = "other" }
    end,
    ["making a role"] = function()
      iam:create_role { RoleName = "new", Path = "/hgauto/", AssumeRolePolicyDocument = TRUST }
    end,
    ["a parameter of the account"] = function()
      client("ssm"):get_parameter { Name = "/secret" }
    end,
    ["another function"] = function()
      client("lambda"):invoke { FunctionName = "other", Payload = "{}" }
    end,
  } do
    local ok, e = pcall(fn)
    t.ok(not ok and (e.code == "UnauthorizedOperation" or e.code:find "^AccessDenied" ~= nil),
      name .. " is refused" .. (ok and "" or ": " .. e.code))
  end
  launch.MetadataOptions = { HttpTokens = "required" }
  t.ok(pcall(ec2.run_instances, ec2, launch), "with a token a launch is allowed")
  clear()
end)

-- ---- what is gone ----

local LOST = task("lost", [[
local ec2 = require("hgauto.aws").client "ec2"
return function()
  local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
  ec2:create_volume { AvailabilityZone = "us-west-2a", Size = 1 }
  ec2:run_instances { ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.micro" }
  require("hgauto.proc").run { "kill", "-9", tostring(require("hgauto.host").pid()) }
end]])

t.test("what is gone has no tags: its removal is refused, and that is no failure", function()
  clear()
  -- Its own cloud, where nothing is too young to be gone.
  local state = dir .. "/cloud"
  local function here(...)
    return proc.run({ program, "--state-path", state, ... }, { check = false, timeout = 60,
      stdin = "", env = environment(true), cwd = dir })
  end
  for _, w in ipairs { { ROLES, "--", "role" }, { ROLES, "--", "profile" },
    { "bootstrap-linux-dev", "--distros", "debian13" }, { LOST } } do
    here("run", "--local", table.unpack(w))
  end
  inventory()
  drop_all()
  used()
  cloud.d.policy = full
  local r = here("gc", "--local")
  if not t.is(r.code, 0, "gc") then
    t.diag("%s%s", r.out, r.err)
  end
  r = here("purge", "--local", "--yes")
  if not t.is(r.code, 0, "purge") then
    t.diag("%s%s", r.out, r.err)
  end
  local set = used()
  for _, action in ipairs { "ec2:TerminateInstances", "ec2:DeleteVolume",
    "ec2:DeleteSecurityGroup", "ec2:DeleteKeyPair", "iam:ListAttachedRolePolicies" } do
    t.is(set[action], false, action .. " was refused")
  end
  local open = {}
  for _, row in pairs(json.decode(here("state", "ledger", "dump", "-o", "json").out)) do
    open[#open + 1] = row.state ~= "gone" and row.kind .. " " .. row.state or nil
  end
  t.is(open, {}, "the ledger says that all are gone")
  cloud.d.policy = nil
end)

-- ---- minimal ----

-- What is played without an action: the first that uses it, and the same with it
-- once more, since only what ends the same each time can tell.
local function scene_with(action)
  for _, scene in ipairs(SCENES) do
    if scene.used[action] then
      if not scene.again then
        scene.again = play(scene, full)
        t.is(scene.again, scene.text, scene[1] .. " ends the same each time")
      end
      return scene
    end
  end
end

t.test("without any one action some task fails or ends differently", function()
  local untested = require("hg.policy").untested
  for _, s in ipairs(document.Statement) do
    for _, action in ipairs(s.Action) do
      local scene = scene_with(action)
      if scene then
        local text = play(scene, read(without(action)))
        t.ok(text ~= scene.text, ("%s: %s"):format(action, scene[1]))
      elseif not untested[action] then
        t.ok(false, action .. " is used by no task")
      end
    end
  end
end)

cloud.door:close()
cloud.task:cancel "done" -- before its files go
pcall(cloud.task.join, cloud.task)
return t.done()
