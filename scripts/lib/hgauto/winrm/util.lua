--- What the parts of hgauto.winrm share: options, errors, deadlines.
local async = require "hgauto.async"
local host = require "hgauto.host"

local M = {}

--- URI of the command shell and of the default PowerShell configuration.
M.SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
M.CMD = M.SHELL .. "/cmd"
M.CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
M.POWERSHELL = "http://schemas.microsoft.com/powershell/"

--- Fault codes with a meaning of their own.
M.UNKNOWN_SHELL, M.QUOTA, M.UNLOADED, M.ABORTED = 2150858843, 2150859174, 2147943418, 995

--- Raises an error of the common form.
function M.raise(e)
  error(host.error(e), 0)
end

--- Raises usage.
function M.usage(fmt, ...)
  M.raise { kind = "usage", message = fmt:format(...) }
end

local function nearest(key, defs)
  for name in pairs(defs) do
    if name:lower():gsub("_", "") == key:lower():gsub("[_-]", "") or name:sub(1, #key) == key then
      return "; did you mean " .. name .. "?"
    end
  end
  return ""
end

--- Checks an options table: defs maps names to types ("number string").
function M.options(given, defs, what)
  if given == nil then
    return {}
  end
  if type(given) ~= "table" then
    M.usage("%s: options must be a table, not a %s", what, type(given))
  end
  local o = {}
  for key, value in pairs(given) do
    local types = defs[key]
    if not types then
      M.usage("%s: unknown option %s%s", what, tostring(key), nearest(tostring(key), defs))
    end
    if not (" " .. types .. " "):find(" " .. type(value) .. " ", 1, true) then
      M.usage("%s: option %s must be a %s, not a %s", what, key, types:gsub(" ", " or "),
        type(value))
    end
    o[key] = value
  end
  return o
end

--- Runs fn within seconds (nil: no limit); a failure carries operation, host and the result so far.
function M.guarded(session, operation, seconds, result, fn)
  local good, r
  if seconds then
    good, r = pcall(async.timeout, seconds, fn)
  else
    good, r = pcall(fn)
  end
  if good then
    return r
  end
  if type(r) == "table" and r.kind then
    if r.kind == "timeout" and r.code == "Timeout" then
      r.code = "Deadline"
      r.message = ("winrm %s: no end within %g s (wait, %s)"):format(session.label, seconds,
        operation)
    end
    r.operation, r.host = r.operation or operation, r.host or session.label
    if result and not r.result then
      r.result = result
    end
  end
  error(r, 0)
end

--- Runs fn and drops its failure, unless the task is cancelled: for best-effort cleanup.
function M.quietly(fn, ...)
  local good, r = pcall(fn, ...)
  if not good and async.cancelled() then
    error(r, 0)
  end
  return good, r
end

return M
