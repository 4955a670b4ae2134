-- One case of tests/bench/ssh.sh: BENCH=case; PORT, DIR, SIZE from there.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir, case = host.getenv("DIR"), host.getenv("BENCH")
local s <close> = ssh.connect("127.0.0.1", {
  user = "root", port = math.tointeger(host.getenv("PORT")), keys = { dir .. "/id_ed25519" },
  host_key = fs.read(dir .. "/host_ed25519.pub"), ciphers = { "aes128-gcm@openssh.com" },
})

local cases = {
  get = function() s:get(dir .. "/big", dir .. "/out1") end,
  put = function() s:put(dir .. "/big", dir .. "/out2") end,
  out = function() s:exec({ "cat", dir .. "/big" }, { max_output = 1000 }) end,
  ["in"] = function() s:exec("cat >/dev/null", { stdin = { file = dir .. "/big" } }) end,
  small = function() s:put(dir .. "/small", dir .. "/small2") end,
  none = function() end,
  execs = function()
    local t0 = time.mono()
    for _ = 1, 200 do
      s:exec({ "true" }, { kill = "none" })
    end
    io.stderr:write(("%.5f\n"):format((time.mono() - t0) / 200))
  end,
}
cases[case]()
t.ok(true, case)
return t.done()
