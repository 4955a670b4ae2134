--- HTTP and HTTPS requests; redirects are never followed.
local core = require "hgauto.http.core"

local M = {}

--- From now on every connection but those to 127.0.0.0/8 is refused.
-- @param on boolean
-- @raise usage
function M.local_only(on)
  core.local_only(on)
end

local SAFE = { GET = true, HEAD = true, OPTIONS = true }

local function has_header(headers, name)
  for key, v in pairs(headers) do
    local text = type(key) == "string" and key or type(v) == "table" and v[1]
    if type(text) == "string" and text:lower() == name then
      return true
    end
  end
  return false
end

--- Headers with ours in front where the caller has none.
local function with_agent(headers)
  headers = headers or {}
  if type(headers) ~= "table" or has_header(headers, "user-agent") then
    return headers
  end
  local version = require("hgauto.host").version
  local agent = "hgauto/" .. (type(version) == "table" and version.hgauto or "0")
  local out = {}
  for key, v in pairs(headers) do
    out[key] = v
  end
  if #headers > 0 then
    out[#out + 1] = { "User-Agent", agent }
  else
    out["User-Agent"] = agent
  end
  return out
end

--- Sends one request and returns the answer, whatever its status.
-- @param opts.url string http or https
-- @param opts.method string|nil default GET
-- @param opts.headers table|nil name = value, name = {values} or {{name, value}, ...}
-- @param opts.body string|nil
-- @param opts.timeout number|nil seconds for all of it, default 120
-- @param opts.idle_timeout number|nil seconds without a byte, default 60
-- @param opts.connect_timeout number|nil seconds, default 10
-- @param opts.unix string|nil path of a socket to connect to
-- @param opts.max_body integer|nil limit of a body kept in memory, default 32 MiB
-- @param opts.to string|function|nil file, or function for the parts, of the body of an answer 2xx
-- @param opts.repeatable boolean|nil may be sent again when a kept connection dies; default true
--   for GET, HEAD and OPTIONS
-- @param opts.fresh boolean|nil no kept connection is used
-- @param opts.ca_bundle string|nil file instead of the system's certificates
-- @return {status=integer, headers=table, raw_headers=table, body=string, received=integer,
--   reused=boolean, seconds=number} header names in lower case; no body with opts.to and 2xx
-- @raise net (Resolve, Refused, Reset, Send, TLS, LocalOnly, ...), timeout (Connect, Idle, Total),
--   protocol (TooLarge, Malformed, ShortBody), auth (Certificate), usage; err.sent tells whether
--   the request may have been executed
-- @waits
-- @example local r = http.request { url = "http://127.0.0.1:4566/", timeout = 5 }
function M.request(opts)
  local o = {}
  for key, v in pairs(opts) do
    o[key] = v
  end
  o.method = o.method or "GET"
  o.headers = with_agent(o.headers)
  if o.repeatable == nil then
    o.repeatable = SAFE[o.method] or false
  end
  local to = o.to
  o.to = nil
  if type(to) == "function" then
    o.queue = true
  elseif to ~= nil then
    o.path = to
  end
  local transfer <close> = core.start(o)
  if o.queue then
    while true do
      local part = transfer:read()
      if not part then
        break
      end
      to(part)
    end
  end
  return transfer:wait()
end

return M
