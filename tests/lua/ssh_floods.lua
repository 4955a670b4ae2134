-- hgauto.ssh: servers that send without end, too much or too slowly, before and after the key
-- exchange: an error by the deadline, and no more memory than a session may take.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local servers = (host.getenv("HGAUTO") or fs.readlink("/proc/self/exe")):gsub("[^/]+$", "")
  .. "servers/"
if not fs.exists(servers .. "evil_late") then
  t.skip("needs servers/evil_late (make tests-build)")
end
local dir = t.tmpdir()
proc.run { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir .. "/id" }
-- What libssh2 may hold (core/ssh/bio.h) and 8 MiB for the rest; with a channel its window in
-- small packets, too.
local LIMIT_KIB = { login = (16 + 8) * 1024, ready = (16 + 64 + 8) * 1024 }

-- Which of the two depends on how fast the machine is.
local BOUND = { timeout = true, TooLarge = true }
local BAD = { kind = "protocol", code = "Malformed" }

local slack = t.sanitized() and 1 << 30 or 0

local function memory()
  return tonumber(fs.read("/proc/self/status"):match("RssAnon:%s+(%d+)"))
end

--- Runs fn(port, host key) against the server; it must fail like want within sec, and the process
-- must not grow by more than its limit meanwhile.
local function evil(program, mode, sec, want, fn)
  local p <close> = proc.spawn { servers .. program, mode }
  local line = p:lines("out")
  local port = math.tointeger(tonumber((line())))
  local pin = program == "evil_late" and line() or nil
  collectgarbage()
  local before, most = memory(), 0
  local t0, e = time.mono()
  async.scope(function(sc)
    local watch = sc:spawn(function()
      while true do
        most = math.max(most, memory())
        async.sleep(0.02)
      end
    end)
    e = t.raises(function() fn(port, pin) end, want ~= BOUND and want or {}, mode)
    t.ok(want ~= BOUND or BOUND[e.kind] or BOUND[e.code], mode .. ": by a bound")
    most = math.max(most, memory())
    watch:cancel()
  end)
  local took = time.mono() - t0
  t.ok(took <= sec, ("%s: an error after %.1f s of at most %g"):format(mode, took, sec))
  local limit = LIMIT_KIB[mode:match("%a+$")] or LIMIT_KIB.login
  t.ok(most - before <= limit + slack, ("%s: %d KiB more"):format(mode, most - before))
  t.ok(not tostring(e):find("[\1-\31\127]"), mode .. ": " .. tostring(e))
end

local function connect(port, pin, o)
  local a = { user = "root", port = port, host_key = pin, keys = { dir .. "/id" }, label = "t",
    timeout = { banner = 2, kex = 2, login = 2, total = 4 } }
  for k, v in pairs(o or {}) do
    a[k] = v
  end
  return ssh.connect("127.0.0.1", a)
end

t.test("before the key exchange", function()
  local key = fs.read(dir .. "/id.pub")
  for _, r in ipairs {
    { "ignore-flood", BOUND }, { "debug-flood", BOUND }, { "ext-info-flood", BOUND },
    { "unknown-flood", BOUND }, { "slow-kex", BOUND }, { "huge", { kind = "protocol" } },
  } do
    evil("evil_sshd", r[1], 6, r[2], function(port) connect(port, key) end)
  end
end)

t.test("after it, instead of the login", function()
  for _, r in ipairs {
    { "ignore", BOUND }, { "debug", BOUND }, { "ext-info", BOUND }, { "ext-count", BOUND },
    { "banner", BOUND }, { "unknown", BOUND }, { "success", BOUND }, { "ask", BOUND },
    { "open", BOUND }, { "data", BOUND }, { "huge", BAD }, { "empty", BAD }, { "slow", BOUND },
    { "replay", BAD },
  } do
    evil("evil_late", r[1] .. "-login", 6, r[2], connect)
  end
end)

t.test("packets that are none", function()
  for _, mode in ipairs { "padding", "nothing", "etm-padding", "etm-nothing", "etm-odd",
    "etm-huge", "etm-empty", "etm-replay" } do
    evil("evil_late", mode .. "-login", 6, BAD, connect)
  end
end)

t.test("after the login, during a command", function()
  for _, r in ipairs {
    { "ignore", BOUND }, { "debug", BOUND }, { "ext-info", BOUND }, { "ext-count", BOUND },
    { "banner", BOUND }, { "unknown", BOUND }, { "success", BOUND }, { "ask", BOUND },
    { "open", BOUND }, { "data", BOUND }, { "huge", BAD }, { "empty", BAD }, { "slow", BOUND },
    { "replay", BAD },
  } do
    evil("evil_late", r[1] .. "-ready", 8, r[2], function(port, pin)
      local s <close> = connect(port, pin)
      s:exec("true", { timeout = 2, kill = "none" })
    end)
  end
end)

return t.done()
