-- Refusals of the local cloud: one table per error, turned into the wire form
-- of the asking service by wire.lua.  Anything else that is raised in a handler
-- is a fault of ours and answered with 500.

local M = {}

local Refusal = { __name = "localcloud.refusal" }
Refusal.__index = Refusal
Refusal.__tostring = function(e)
  return e.code .. ": " .. e.message
end

-- HTTP status where it is not 400, by error code.
local STATUS = {
  DryRunOperation = 412,
  UnauthorizedOperation = 403,
  AuthFailure = 401,
  RequestLimitExceeded = 503,
  Unavailable = 503,
  InternalError = 500,
  InternalFailure = 500,
  MissingAuthenticationToken = 403,
  InvalidClientTokenId = 403,
  SignatureDoesNotMatch = 403,
  ExpiredToken = 403,
  AccessDenied = 403,
  NoSuchEntity = 404,
  EntityAlreadyExists = 409,
  DeleteConflict = 409,
  LimitExceeded = 409,
}

--- Makes a refusal without raising it.
-- @param code string AWS error code
-- @param message string text for the caller
-- @param status integer|nil HTTP status, default by code
-- @return table
function M.new(code, message, status)
  return setmetatable(
    { code = code, message = message, status = status or STATUS[code] or 400 }, Refusal)
end

--- Refuses the request.
-- @param code string AWS error code
-- @param fmt string message, a string.format pattern when values follow
-- @raise the refusal
function M.raise(code, fmt, ...)
  local message = select("#", ...) > 0 and fmt:format(...) or fmt
  error(M.new(code, message), 0)
end

--- Tells refusals from other errors.
-- @param e any
-- @return boolean
function M.is(e)
  return getmetatable(e) == Refusal
end

return M
