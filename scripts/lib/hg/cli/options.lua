--- Options that every command understands, and those of running a task.
local spec = require "hg.spec"
local arg = spec.arg

local M = {}

M.global = {
  arg.path { name = "directory", short = "C", metavar = "DIR", must = "dir",
    help = "work as if started in DIR" },
  arg.profile { name = "profile", help = "profile of the AWS configuration" },
  arg.region { name = "region", aliases = { "aws-region" }, help = "AWS region" },
  arg.string { name = "endpoint-url", metavar = "URL", help = "send AWS requests there" },
  arg.path { name = "state-path", metavar = "DIR", env = "HGAUTO_STATE",
    help = "state directory [default: ~/.hgautomation]" },
  arg.enum { name = "color", "auto", "always", "never", default = "auto", help = "colour" },
  arg.path { name = "trace", metavar = "FILE",
    help = "append requests and answers to a file, without secrets" },
  arg.flag { name = "quiet", short = "q", help = "errors and results only" },
  arg.flag { name = "verbose", short = "v", help = "more detail; tracebacks" },
  arg.flag { name = "help", short = "h", help = "show this help" },
}

M.run = {
  arg.duration { name = "timeout", help = "cancel the task after this" },
  arg.flag { name = "local", env = "HGAUTO_LOCAL",
    help = "use the local cloud on this machine, started when needed" },
  arg.enum { name = "on-error", "cleanup", "keep", default = "cleanup", env = "HGAUTO_ON_ERROR",
    help = "what happens to machines of a run that fails" },
  arg.number { name = "max-cost", min = 0, metavar = "USD", env = "HGAUTO_MAX_COST",
    help = "end the run before it costs more" },
  arg.flag { name = "yes", short = "y", help = "answer the task's questions with yes" },
  arg.string { name = "events", metavar = "FILE|-",
    help = "write what happens as JSON lines there, too" },
}

-- Of the command run (and a task's name as a command) alone.
M.task = {
  arg.flag { name = "plan", help = "show what the task would change; change nothing" },
  arg.flag { name = "detailed-exitcode", help = "with --plan: 7 when something would change" },
  arg.string { name = "resume", metavar = "RUN",
    help = "go on where that run ended, with its task and arguments" },
  arg.string { name = "from", metavar = "STEP", help = "with --resume: run this step and all later"
    .. " ones again" },
}

--- Names tasks may not use for their own options: dashed name -> true.
M.reserved = {}
for _, list in ipairs { M.global, M.run, M.task } do
  for _, a in ipairs(list) do
    M.reserved[a.name] = true
    for _, alias in ipairs(a.aliases or {}) do
      M.reserved[alias] = true
    end
  end
end
for _, name in ipairs { "version", "config", "output-format", "query", "yes", "no-input",
  "plan", "detailed-exitcode", "resume", "from", "on-error", "max-cost", "output", "events" } do
  -- "version" is global only before the command, so tasks may declare it.
  if name ~= "version" then
    M.reserved[name] = true
  end
end

--- Lists joined into one.
-- @param ... table[]
-- @return table[]
function M.join(...)
  local out = {}
  for _, list in ipairs { ... } do
    table.move(list, 1, #list, #out + 1, out)
  end
  return out
end

return M
