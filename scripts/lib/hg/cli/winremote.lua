--- `hgauto ssh`, `exec` and `cp` on a Windows machine of ours, over WinRM.
local hg = require "hg"
local term = require "hgauto.term"

local Remote = { windows = true }
Remote.__index = Remote
Remote.__close = function(self)
  self.winrm:close()
end

local M = {}

--- A session to an instance, with what hg.cli.remote uses of one.
-- @param instance table as EC2 describes it
-- @param[opt] user string
-- @return table closable
function M.open(instance, user)
  local s = hg.windows.recall(instance.InstanceId, instance.PublicIpAddress, user)
  return setmetatable({ winrm = s, label = instance.InstanceId }, Remote)
end

local function writer(file)
  return function(text)
    file:write(text)
    file:flush()
  end
end

-- Lines of the terminal or of a file, one after the other.
local function run_line(self, line)
  local r = self.pool:ps(line, { scope = "session", check = false, errors = "report",
    native = "report", on_output = function(v)
      io.stdout:write(tostring(v), "\n")
    end, on_stderr = function(text)
      io.stderr:write(text, "\n")
    end })
  for _, e in ipairs(r.errors) do
    io.stderr:write(term.filter(e.message), "\n")
  end
  io.stdout:flush()
  return r.ok and (r.exit_code or 0) or 1
end

-- PowerShell, line by line; what a line sets the next one sees.
local function lines(self)
  local pool <close> = self.winrm:pool()
  self.pool = pool
  local reader <close> = require("hgauto.readline").open { prompt = self.label .. "> ",
    edit = term.isatty(0) and term.isatty(1) }
  local code = 0
  while true do
    local line = reader:read()
    if not line or line:match "^%s*exit%s*$" then
      return code
    end
    if line:find "%S" then
      code = run_line(self, line)
    end
  end
end

--- Lines of PowerShell on a machine that is at hand, until `exit` or the end.
-- @param m table machine of hg.machines.windows
-- @return integer what the last line gave
-- @waits
function M.interactive(m)
  return lines { winrm = m.winrm, label = m.label }
end

-- A program without a path is looked for by cmd.exe, in whose language some
-- characters of the words would mean something else.
local function found_by_cmd(words)
  if type(words) ~= "table" or words[1]:find "[\\/]" then
    return words
  end
  for _, w in ipairs(words) do
    if w:find "[^%w%-_.,:=+@/\\]" or w == "" then
      hg.fail { kind = "usage", message = ("%s: with such a word the program needs its full path")
        :format(w), hint = [[hgauto exec ID -- 'C:\…\program.exe' WORD…]] }
    end
  end
  return table.concat(words, " ")
end

--- A command with its output, or lines of PowerShell.
-- @param words string|string[]|nil line for cmd.exe, or program and arguments
-- @param command boolean
-- @return integer exit code, at most 255
-- @waits
function Remote:attached(words, command)
  local code
  if command then
    words = found_by_cmd(words)
    code = self.winrm:cmd(words, { check = false, collect = false,
      on_stdout = writer(io.stdout), on_stderr = writer(io.stderr) }).code
  else
    code = lines(self)
  end
  return code == 0 and 0 or math.max(1, math.min(255, code & 255 == 0 and 255 or code & 255))
end

--- Uploads a file, for cp.
-- @waits
function Remote:put(from, to)
  local r = self.winrm:upload(from, to)
  return { files = 1, bytes = r.bytes, seconds = r.seconds }
end

--- Downloads a file, for cp.
-- @waits
function Remote:get(from, to)
  local r = self.winrm:download(from, to)
  return { files = 1, bytes = r.bytes, seconds = r.seconds }
end

return M
