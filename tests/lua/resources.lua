-- `hgauto resources ls` and `show`, on an api-only local cloud.
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local dir = t.tmpdir()
local state = dir .. "/state"
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
fs.mkdir(state, { mode = 448 })
client.ensure { state = state, api_only = true, listen = "127.0.0.1:0" }
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)

local function hgauto(...)
  return proc.run({ program, "--state-path", state, ... }, { check = false, timeout = 60,
    stdin = "", env = { HGAUTO_GUARD = "0" } })
end

local function ls()
  local r = hgauto("resources", "ls", "--local", "-o", "json")
  t.is(r.code, 0, "listed: " .. r.err)
  return json.decode(r.out)
end

t.test("an empty account", function()
  t.is(ls(), {}, "JSON: an empty list")
  local r = hgauto("resources", "ls", "--local")
  t.is({ r.code, r.out }, { 0, "" }, "table: nothing")
  t.like(r.err, "nothing of ours in us%-west%-2", "which is said")
end)

fs.write(dir .. "/make.lua", [[
local hg = require "hg"
return function()
  local ec2 = require("hgauto.aws").client "ec2"
  hg.keys.ensure(ec2)
  local image = hg.images.base(ec2, "debian13")
  ec2:run_instances({ ImageId = image.id, MinCount = 1, MaxCount = 1, InstanceType = "t3.large",
    TagSpecifications = { { ResourceType = "instance",
      Tags = { { Key = "Name", Value = "hg-x" } } } } },
    { expires = math.floor(require("hgauto.time").now()) + 600 })
  require("hgauto.proc").run { "kill", "-9", tostring(require("hgauto.host").pid()) }
end
]])

t.test("what a dead run left: kinds, names, run, end, cost", function()
  hgauto("run", "--local", dir .. "/make.lua")
  local list = ls()
  local by = {}
  for _, r in ipairs(list) do
    by[r.kind] = r
  end
  local i = by.instance
  t.is({ i.name, i.run_state, i.orphan, i.usd_per_hour }, { "hg-x", "dead", true, 0.0832 },
    "the machine")
  t.like(i.expires, "^20%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", "times are RFC 3339")
  t.is({ by.keypair.run_state, by.keypair.orphan }, { "dead", false }, "a key pair is no orphan")
  local r = hgauto("resources", "ls", "--local")
  t.like(r.out, "^KIND +ID +NAME +STATE +AGE +RUN +ENDS +USD/h\n", "the table")
  t.like(r.out, "orphan: hgauto gc", "names what removes it")
  r = hgauto("resources", "show", "--local", i.id:sub(1, 8))
  t.is(r.code, 0, "shown by the beginning of its id: " .. r.err)
  t.like(r.out, "\nledger    live, ephemeral, op %x+\n", "with the ledger's state")
  t.like(r.out, "\ntag       hgauto:run=" .. i.run:gsub("%-", "%%-"), "and its tags")
  t.is(json.decode(hgauto("resources", "show", "--local", "hg-x", "-o", "json").out).tags.Name,
    "hg-x", "by name, as JSON")
end)

t.test("what does not exist", function()
  local r = hgauto("resources", "show", "--local", "i-0000")
  t.is({ r.code, r.err:match "[^\n]*" }, { 1, "hgauto: i-0000 is nothing of ours" }, "is told")
  t.is(hgauto("resources", "lss", "--local").code, 2, "a wrong command")
end)

client.stop { state = state } -- before its files go
return t.done()
