--- Rules for tests of the simulated endpoint: commands run by the shell here.
local async = require "hgauto.async"
local proc = require "hgauto.proc"

return {
  { name = "unknown", match = { command_pattern = "^never$" } },
  { name = "sh", match = { command_pattern = "^[^NC]" }, run = function(job)
    local args = { "sh", "-c", job.line }
    if #job.stdin > 0 or job.line:find("^cat") then
      job.stdin_done:wait(10)
    end
    local r = proc.run(args, {
      env = job.env, cwd = job.cwd, check = false, stdin = table.concat(job.stdin),
      sink = function(name, block) job:write("std" .. name, block) end,
    })
    async.sleep(0)
    return r.code or 255
  end },
}
