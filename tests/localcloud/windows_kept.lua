-- A Windows machine that is kept is reached by later commands: its password is in the
-- state directory, and nowhere else.
local t = require "hg.tap"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local env = dofile "tests/lib/local_env.lua"

local state, _d <close> = env.windows()

local r = env.run(state, { "run", "--local", "tests/data/keep_windows.lua" })
local id = r.out:match "^(i%-%x+)\n$"
if not t.ok(r.code == 0 and id, "a machine is kept") then
  t.diag(r.err)
  return t.done()
end
local secret = ("%s/secrets/%s.json"):format(state, id)
local password = json.decode(fs.read(secret)).password

t.test("its password is kept for its user alone", function()
  t.is(fs.stat(secret).mode & 511, 384, "0600")
  t.is(fs.stat(state .. "/secrets").mode & 511, 448, "in a directory of 0700")
  t.is(json.decode(fs.read(secret)).former, nil, "one that is in force, no second one")
  local out = proc.run({ "grep", "-rlF", "-e", password, "-e",
    require("hgauto.crypto").base64(password), state .. "/runs", state .. "/ledger.db" },
    { check = false }).out
  t.is(out, "", "nowhere else in the state directory")
end)

t.test("commands reach it", function()
  local x = env.run(state, { "exec", "--local", id, "--", "whoami" })
  t.is(x.code, 1, "its answer: exit 1")
  t.like(x.err, "not simulated: whoami", "by the machine itself")
  x = env.run(state, { "exec", "--local", id, "--", "dir", "a&b" })
  t.is(x.code, 2, "a word that cmd.exe would read: exit 2")
  t.like(x.err, "needs its full path", "says so")
  local here = t.tmpdir()
  fs.write(here .. "/f", ("x"):rep(300000))
  x = env.run(state, { "cp", "--local", here .. "/f", id .. ":C:\\tmp\\f" })
  t.is(x.code, 0, "cp there: exit 0")
  x = env.run(state, { "cp", "--local", id .. ":C:\\tmp\\f", here .. "/g" })
  t.is(x.code, 0, "cp back: exit 0")
  t.is(fs.sha256(here .. "/g"), fs.sha256(here .. "/f"), "the same bytes")
  x = env.run(state, { "ssh", "--local", id }, { stdin = "Get-Date\nexit\n" })
  t.like(x.err, "not simulated: Get%-Date", "lines of PowerShell")
end)

t.test("a run that died while it changed the password", function()
  local known = json.decode(fs.read(secret))
  known.former, known.password = known.password, "Never-Set.anywhere1"
  fs.write(secret, json.encode(known), { mode = 384 })
  local x = env.run(state, { "exec", "--local", id, "--", "whoami" })
  t.like(x.err, "not simulated: whoami", "the former one is tried, too")
  fs.write(secret, "{", { mode = 384 })
  x = env.run(state, { "exec", "--local", id, "--", "whoami" })
  t.like(x.err, "is damaged; the machine can only be terminated", "a damaged file")
end)

t.test("the end of the machine is that of its password", function()
  local x = env.run(state, { "run", "--local", "terminate-ec2-instances" })
  t.is(x.code, 0, "terminated")
  x = env.run(state, { "run", "--local", "tests/data/keep_windows.lua" })
  t.ok(not fs.exists(secret), "the next launch sweeps what is left")
  local other = x.out:match "^(i%-%x+)\n$"
  fs.remove(("%s/secrets/%s.json"):format(state, other))
  x = env.run(state, { "exec", "--local", other, "--", "whoami" })
  t.is(x.code, 3, "without it: exit 3")
  t.like(x.err, "its password is not in this state directory", "says so")
  env.run(state, { "run", "--local", "terminate-ec2-instances" })
end)

t.test("a machine is rebooted and goes on with its disk", function()
  local x = env.run(state, { "run", "--local", "tests/data/reboot_windows.lua" })
  if not t.is(x.code, 0, "exit 0") then
    t.diag(x.err)
    return
  end
  local first, second, kept = x.out:match "^(%S+)\n(%S+)\n(%S+)\n$"
  t.ok(first and first < second, "each time it is another boot")
  t.is(kept, "true", "its disk is the same")
end)

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
