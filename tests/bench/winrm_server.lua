-- The endpoint of bench-winrm: READY gets its port; a command "big N" writes N million
-- bytes; C: is the directory ROOT.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local winsim = require "localcloud.winsim"

local block = ("x"):rep(1000000)
local ep = winsim.open {
  password = "Bench-Pass.word1", root = host.getenv("ROOT"),
  rules = {
    { match = { command_pattern = "^small" }, reply = { { stdout = "hi\r\n" } } },
    { match = { command_pattern = "^big %d+$" }, run = function(job)
      for _ = 1, tonumber(job.line:match("%d+")) do
        job:write("stdout", block)
      end
      return 0
    end },
  },
}
fs.write(host.getenv("READY"), tostring(ep.port))
async.sleep(3600)
