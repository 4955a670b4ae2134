-- The simulated endpoint with python3-winrm as its client, over HTTP and HTTPS; the same list
-- through hgauto.winrm gives the same.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local winrm = require "hgauto.winrm"
local winsim = require "localcloud.winsim"

local PYTHON = "/usr/bin/python3"
if not fs.exists(PYTHON)
  or proc.run({ PYTHON, "-c", "import winrm" }, { check = false }).code ~= 0 then
  t.skip("no python3-winrm: apt install python3-winrm")
end

local PASSWORD = "Peer-Pass.word1"
local rules = dofile("tests/lib/winrm_sh.lua")
local dir = t.tmpdir()

local function ours(o)
  local s <close> = winrm.connect(o)
  local function run(line, opts)
    opts = opts or {}
    opts.check = false
    local r = s:cmd(line, opts)
    return { r.stdout, r.stderr, r.code }
  end
  local r = {
    echo = run("echo hi"), exit = run("echo no >&2; exit 3"),
    env = run("echo $HGA_X; pwd", { env = { HGA_X = "a b" }, cwd = "/" }),
    utf8 = run("printf 'gr\\303\\274n'"), unmatched = run("NOTSIMULATED"),
  }
  local out = run("head -c 5000000 /dev/zero | tr \"\\\\0\" x")
  r.big = { #out[1], not out[1]:find("[^x]"), out[3] }
  o.operation_timeout = 1
  local slow <close> = winrm.connect(o)
  local v = slow:cmd("echo a; sleep 2.5; echo b")
  r.slow = { v.stdout, v.stderr, v.code }
  local sh = s:shell()
  sh:close()
  local good, e = pcall(sh.command, sh, "echo")
  r.deleted = not good and e.fault and "fault" or "no error"
  o.password = "wrong"
  local bad <close> = winrm.connect(o)
  good, e = pcall(bad.cmd, bad, "echo")
  r.wrong = not good and e.code == "Unauthorized" and "refused" or "no error"
  return r
end

local function compare(name, ep, url, o, ca)
  local run = proc.run({ PYTHON, "tests/lib/winrm_client.py", url, PASSWORD, ca }, {
    check = false, timeout = 60, env = { PYTHONWARNINGS = "ignore" },
  })
  t.is(run.code, 0, name .. ": python3-winrm went through its list")
  if run.code ~= 0 then
    t.diag(run.err)
    return
  end
  local theirs = json.decode(run.out)
  t.is(theirs.echo, { "hi\n", "", 0 }, name .. ": echo")
  t.is(theirs.big, { 5000000, true, 0 }, name .. ": 5 MB")
  t.is({ theirs.wrong, theirs.deleted }, { "refused", "fault" }, name .. ": what is refused")
  local mine = ours(o)
  for key, v in pairs(theirs) do
    t.is(mine[key], v, ("%s: %s is the same for both"):format(name, key))
  end
  t.ok(ep.counts.requests > 40, name .. ": over the wire")
end

t.test("over HTTP", function()
  local ep = winsim.open { password = PASSWORD, rules = rules }
  compare("http", ep, ("http://127.0.0.1:%d/wsman"):format(ep.port), {
    host = "127.0.0.1", port = ep.port, password = PASSWORD, plaintext = true,
    allow_plaintext = true,
  })
  ep.close()
end)

t.test("over HTTPS", function()
  local id = crypto.certificate { name = "hgauto", ip = "127.0.0.1" }
  fs.write(dir .. "/ca.pem", id.cert)
  local ep = winsim.open { password = PASSWORD, rules = rules, tls = { cert = id.cert,
    key = id.key } }
  compare("https", ep, ("https://127.0.0.1:%d/wsman"):format(ep.port), {
    host = "127.0.0.1", port = ep.port, password = PASSWORD, tls = { ca = id.cert, pin = id.pin },
  }, dir .. "/ca.pem")
  ep.close()
end)
return t.done()
