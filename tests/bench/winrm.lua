-- Our client of bench-winrm: PORT, LINE, COUNT.
local host = require "hgauto.host"
local t = require "hg.tap"
local winrm = require "hgauto.winrm"

local s <close> = winrm.connect {
  host = "127.0.0.1", port = tonumber(host.getenv("PORT")), password = "Bench-Pass.word1",
  plaintext = true, allow_plaintext = true,
}
local n = 0
for _ = 1, tonumber(host.getenv("COUNT")) do
  n = n + #s:cmd(host.getenv("LINE")).stdout
end
t.diag("%d bytes", n)
t.ok(n > 0, "output")
return t.done()
