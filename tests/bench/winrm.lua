-- Our client of bench-winrm: PORT, WHAT it does, LINE, COUNT, DIR.
--   cmd      runs the command LINE COUNT times and counts its output
--   discard  the same without keeping the output
--   up, down a file of DIR there or back by the method LINE
--   idle     nothing
-- Says bytes, requests and its peak memory.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local t = require "hg.tap"
local winrm = require "hgauto.winrm"

local s <close> = winrm.connect {
  host = "127.0.0.1", port = tonumber(host.getenv("PORT")), password = "Bench-Pass.word1",
  plaintext = true, allow_plaintext = true,
}
local what, line, dir = host.getenv("WHAT"), host.getenv("LINE"), host.getenv("DIR")
local n = 0
for _ = 1, tonumber(host.getenv("COUNT")) do
  if what == "cmd" then
    n = n + #s:cmd(line).stdout
  elseif what == "discard" then
    s:cmd(line, { collect = false, on_stdout = function(part) n = n + #part end, binary = true })
  elseif what == "up" then
    n = n + s:upload(dir .. "/local", [[C:\there]], { via = line }).bytes
  elseif what == "down" then
    n = n + s:download([[C:\there]], dir .. "/back", { via = line }).bytes
  end
end
t.diag("%d bytes, %d requests, peak %s KiB", n, s:stats().requests,
  fs.read("/proc/self/status"):match("VmHWM:%s*(%d+)"))
t.ok(n > 0 or what == "idle", "output")
return t.done()
