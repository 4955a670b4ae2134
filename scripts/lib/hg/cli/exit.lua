--- Exit codes and the last lines of a failing command.
local M = {}

local BY_KIND = {
  task = 1, remote = 1, runtime = 1, io = 1, notfound = 1, exists = 1, aws = 1,
  usage = 2, load = 2,
  auth = 3,
  net = 4, protocol = 4,
  timeout = 5, cost = 5,
  bug = 70, memory = 70,
  cancelled = 130,
}

local DENIED = {
  "^AuthFailure$", "^UnauthorizedOperation$", "^AccessDenied", "^InvalidClientTokenId$",
  "^UnrecognizedClientException$", "^SignatureDoesNotMatch$", "^ExpiredToken",
  "^RequestExpired$", "^OptInRequired$", "^InvalidSignatureException$",
}

local HINTS = {
  { "^RequestLimitExceeded$", "AWS throttles this account; try again later or with fewer lanes" },
  { "^InsufficientInstanceCapacity$", "try another zone or instance type" },
  { "^VcpuLimitExceeded$", "ask AWS for a higher vCPU quota, or use a smaller instance type" },
  { "^InstanceLimitExceeded$",
    "terminate instances (hgauto terminate-ec2-instances) or ask for a higher limit" },
  { "^DependencyViolation$", "something still uses it; hgauto gc removes things in their order" },
  { "%.Duplicate$", "a thing of that name exists; hgauto purge-ec2-resources removes ours" },
  { "^ExpiredToken", "the session is over; log in again" },
  { "^RequestExpired$", "check this machine's clock" },
  { "^OptInRequired$", "the account is not subscribed to this service or region" },
  { "^Invalid.*%.NotFound$", "it does not exist in this region and account" },
}

local function matches(code, list)
  for _, pattern in ipairs(list) do
    if code:find(pattern) then
      return true
    end
  end
  return false
end

--- Exit code of an uncaught error.
-- Usage errors that a running task did not raise itself (hg.fail) are faults
-- of the script: 1.
-- @param err any
-- @param[opt] in_task boolean
-- @return integer
function M.code(err, in_task)
  if type(err) ~= "table" then
    return 1
  end
  local chosen = err.kind and math.tointeger(err.exit)
  if chosen and chosen >= 0 and chosen <= 255 then
    return chosen
  end
  local kind, code = err.kind, tostring(err.code or "")
  if kind == "cancelled" then
    local why = require("hgauto.host").cancel_reason()
    return (why == "TERM" or why == "HUP") and 143 or 130
  end
  if kind == "aws" then
    if matches(code, DENIED) then
      return 3
    elseif err.throttling or (math.tointeger(err.status) or 0) >= 500 then
      return 4
    end
  end
  -- The service itself failed, not what was run through it.
  if kind == "remote" and (code == "WSManFault" or code == "Http" or code == "PoolFailed") then
    return 4
  end
  if kind == "usage" and in_task then
    return 1
  end
  return BY_KIND[kind] or 1
end

--- Hint of an error: its own, else one for its AWS code.
-- @param err table
-- @return string|nil
function M.hint(err)
  if err.hint then
    return err.hint
  end
  local code = tostring(err.code or "")
  if code == "InsufficientInstanceCapacity" and require("hg.session").local_cloud then
    return "free some disk space, or choose another --state-path"
  end
  if err.kind == "aws" and (code == "UnauthorizedOperation" or code:find "^AccessDenied") then
    local session = require "hg.session"
    local task = session.task_file or session.task
    return "what has to be allowed: hgauto iam-policy" .. (task and " " .. task or "")
  end
  for _, h in ipairs(HINTS) do
    if code:find(h[1]) then
      return h[2]
    end
  end
  return nil
end

--- One line about an error of any type.
-- @param err any
-- @return string
function M.text(err)
  if type(err) ~= "table" or err.kind or (getmetatable(err) or {}).__tostring then
    return (tostring(err):gsub("%s*\n%s*", " "))
  end
  return "error " .. require("hg.pp").text(err):gsub("%s*\n%s*", ", ")
end

--- Prints `hgauto: WHAT` and `hint: …` to stderr; with verbose the traceback.
-- @param err any
-- @param opts table {verbose=boolean}
function M.report(err, opts)
  local term = require "hgauto.term"
  local text, kind, trace = M.text(err), nil, nil
  if type(err) == "table" then
    kind, trace = err.kind, err.traceback
  end
  term.err("hgauto: " .. term.filter(text) .. "\n")
  local hint = kind and M.hint(err) or nil
  if hint then
    term.err("hint: " .. term.filter(hint) .. "\n")
  end
  if type(err) == "table" and err.suppressed then
    for _, other in ipairs(err.suppressed) do
      term.err("also: " .. term.filter(tostring(other)) .. "\n")
    end
  end
  if opts.verbose and type(err) == "table" and type(err.tried) == "string" then
    for line in err.tried:gmatch "[^\n]+" do
      term.err("tried " .. term.filter(line) .. "\n")
    end
  end
  if trace and (opts.verbose or kind == "bug") then
    term.err(term.filter(trace) .. "\n")
  end
end

return M
