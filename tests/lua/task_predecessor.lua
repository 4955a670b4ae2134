-- Defects of the automation that this one replaces, where no other test is about
-- them: each would come back as a failure here.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local sweep = dofile "tests/lib/sweep.lua"

local rig <close> = sweep.new(t.tmpdir())

local function decoded(body)
  return (body:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- Numbers of the requests of an action in the last run's journal.
local function requests(action)
  local list = {}
  for n, entry in ipairs(rig.journal) do
    if entry.action == action then
      list[#list + 1] = n
    end
  end
  return list
end

local function purge(state)
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
  t.is(sweep.text(rig:inventory()), "nothing", "leaves nothing")
end

t.test("machines and their volumes are tagged by the request that makes them", function()
  local state = rig:state()
  t.is(rig:run(state, sweep.words "build-linux").code, 0, "a build")
  local launch = decoded(rig.journal[requests("RunInstances")[1]].body)
  local kinds = {}
  for at, kind in launch:gmatch "TagSpecification%.(%d+)%.ResourceType=([%w-]+)" do
    kinds[kind] = launch:find(("TagSpecification.%s.Tag.%%d+.Key=hgauto:run"):format(at)
      :gsub("%.", "%%."):gsub("%%%%", "%%")) ~= nil
  end
  t.is({ kinds.instance, kinds.volume }, { true, true }, "both carry their run")
  t.like(launch, "BlockDeviceMapping%.1%.DeviceName=/dev/xvda&", "the root device is the image's")
  t.like(launch, "BlockDeviceMapping%.1%.Ebs%.DeleteOnTermination=true", "and goes with it")
  local rule = decoded(rig.journal[requests("AuthorizeSecurityGroupIngress")[1]].body)
  t.like(rule, "CidrIp=127%.0%.0%.1/32", "one address may log in")
  t.ok(not rule:find("0.0.0.0/0", 1, true), "not the world")
  purge(state)
end)

t.test("looking changes nothing", function()
  local state = rig:state()
  rig:prepare(state)
  t.is(rig:run(state, { "status" }).code, 0, "status")
  local writes = {}
  for _, entry in ipairs(rig.journal) do
    writes[#writes + 1] = not entry.action:find "^Describe" and not entry.action:find "^List"
      and not entry.action:find "^Get" and entry.action or nil
  end
  t.is(writes, {}, "asks only")
  t.is(rig:run(state, { "run-tests-linux", "--distro", "debian10" }).code, 2, "a refused command")
  t.is(#rig.journal, 0, "asks nothing at all")
  purge(state)
end)

t.test("the old image goes after the new one is there", function()
  local state, words = rig:state(), sweep.words "bootstrap-linux-dev"
  local first = rig:run(state, words).text:match "debian13 (ami%-%x+) built"
  local forced = { table.unpack(words) }
  forced[#forced + 1] = "--force"
  local r = rig:run(state, forced)
  t.is(r.code, 0, "a forced rebuild")
  local made, gone = requests("CreateImage")[1], requests("DeregisterImage")[1]
  t.ok(made and gone and made < gone, "makes the new one first")
  local looks = 0
  for _, n in ipairs(requests "DescribeImages") do
    looks = looks + (n > made and n < gone and 1 or 0)
  end
  t.ok(looks > 0, "and looks at it before the old one goes")
  t.like(decoded(rig.journal[gone].body), "ImageId=" .. first:gsub("%-", "%%-"),
    "which is the old one")
  t.is(rig:inventory().image, 1, "one is left")
  purge(state)
end)

t.test("a rebuild that fails or is killed leaves the good image", function()
  local state, words = rig:state(), sweep.words "bootstrap-linux-dev"
  local good = rig:run(state, words).text:match "debian13 (ami%-%x+) built"
  local forced = { table.unpack(words) }
  forced[#forced + 1] = "--force"
  rig.refuse = function(entry)
    return entry.action == "CreateImage" and "denied" or nil
  end
  t.is(rig:run(state, forced).code, 3, "a refusal of the new one")
  rig.refuse = nil
  rig:run_cut(state, forced, { action = "CreateImage", when = "after", signal = "KILL" })
  t.is(rig:run(state, { "gc" }).code, 0, "gc after a kill")
  local r = rig:run(state, words)
  t.like(r.text, "debian13 ami%-%x+ reused", "an image is there without a build")
  t.ok(good, "the first was made")
  purge(state)
end)

t.test("one failure does not stop a purge", function()
  local state = rig:state()
  rig:prepare(state)
  rig.refuse = function(entry)
    return entry.action == "DeregisterImage" and "denied" or nil
  end
  local r = rig:run(state, { "purge-ec2-resources" })
  rig.refuse = nil
  t.is(r.code, 6, "exit 6: what is left costs money")
  t.like(r.text, "image +ami%-%x+", "and is named")
  local n = rig:inventory()
  t.is({ n.image, n.instance, n.key, n.group }, { 1, 0, 0, 0 }, "the rest went, the key pair, too")
  t.is(rig:run(state, { "gc" }).code, 0, "a collection has nothing to do")
  t.is(#requests "DeleteSnapshot", 0, "and does not wait for the image's snapshot")
  purge(state)
end)

t.test("a key pair that a region lacks costs no private key", function()
  local state = rig:state()
  t.is(rig:run(state, sweep.words "build-linux").code, 0, "a build in one region")
  local key = fs.read(state .. "/keys/automation")
  local words = sweep.words "build-linux"
  table.move({ "--region", "eu-west-1" }, 1, 2, #words + 1, words)
  t.is(rig:run(state, words).code, 0, "a build in another")
  t.is(#requests "ImportKeyPair", 1, "imports it there")
  t.is(fs.read(state .. "/keys/automation"), key, "the private key is the same")
  t.is(rig:inventory().key, 2, "both regions know it")
  purge(state)
end)

rig:close()
return t.done()
