--- HTTP server: each request runs as a task of its own.
local async = require "hgauto.async"
local core = require "hgauto.httpd.core"
local log = require "hgauto.log"

local M = {}

local function fail(message, code)
  error(require("hgauto.host").error { kind = "usage", code = code, message = message }, 0)
end

--- A request. Fields: method, target (as received), path and query (raw, query without "?"),
-- headers (lower-case names, repeats joined), raw_headers ({{name, value}, ...} in order), body,
-- peer ("127.0.0.1:50000" or "unix"), tag (of the listener), id, time (epoch seconds).
local Request = { __name = "hgauto.request" }
Request.__index = Request

local ANSWER = { status = true, headers = true, body = true, length = true, cut = true }

local function stream(req, answer)
  req[1]:begin(answer.status or 200, answer.headers, "", answer.length)
  while true do
    local part = answer.body()
    if part == nil then
      break
    end
    req[1]:write(part)
  end
  req[1]:finish(not answer.cut)
end

--- Answers the request.
-- @param answer.status integer|nil default 200
-- @param answer.headers table|nil name = value, name = {values} or {{name, value}, ...}
-- @param answer.body string|function|nil a function is called for parts until it returns nil
-- @param answer.length integer|nil of the body when it is a function; else it is sent chunked
-- @param answer.cut boolean|nil the connection ends after the function's last part, as if the
--   rest of the announced length were lost
-- @raise usage (Answered, Header, Status)
-- @waits when the body is a function
-- @example req:respond { status = 404, body = "not here\n" }
function Request:respond(answer)
  for key in pairs(answer) do
    if not ANSWER[key] then
      fail(("respond: unknown option %s"):format(tostring(key)), "UnknownOption")
    end
  end
  if type(answer.body) == "function" then
    stream(self, answer)
  else
    self[1]:respond(answer.status or 200, answer.headers, answer.body)
  end
end

--- Ends the request without an answer.
-- @param how string|nil "fin" closes the connection (default), "rst" resets it
-- @raise usage (Answered)
function Request:abort(how)
  self[1]:abort(how or "fin")
end

--- Limits how many routers packets to this client may pass from now on.
-- @param n integer 1 to 255
function Request:hops(n)
  self[1]:hops(n)
end

--- Answers with bytes as they are, whatever HTTP says of them, and closes.
-- @param bytes string some 100 KiB at most; the rest is lost
-- @raise usage (Answered)
-- @example req:raw "HTTP/1.1 abc what\r\n\r\n"
function Request:raw(bytes)
  self[1]:raw(bytes)
end

--- Whether the client has left or the request is answered.
-- @return boolean
function Request:gone()
  return self[1]:gone()
end

--- A server; see `new`.
local Server = { __name = "hgauto.server" }
Server.__index = Server

--- Listens on an address or a path; may be called several times.
-- @param opts.host string|nil numeric address, default 127.0.0.1
-- @param opts.port integer|nil default: any free one
-- @param opts.unix string|nil path of a socket instead
-- @param opts.mode integer|nil of the socket file, default 0600
-- @param opts.tag string|nil becomes req.tag
-- @return integer|nil the port
-- @raise exists (InUse), usage (Address), io (Listen)
function Server:listen(opts)
  return self.core:listen(opts)
end

--- Takes over a listening descriptor.
-- @param fd integer
-- @param tag string|nil becomes req.tag
-- @raise io
function Server:adopt(fd, tag)
  self.core:adopt(fd, tag)
end

--- Connections open now.
-- @return integer
function Server:connections()
  return self.core:connections()
end

--- Closes listeners and connections and cancels running handlers; repeatable.
function Server:close()
  self.core:close()
end

Server.__close = Server.close

local function give_up(req, why)
  log.error("http server: %s %s: %s", req.method, req.path, why)
  req[1]:respond(500, { ["Content-Type"] = "text/plain" }, "internal error\n")
end

--- Runs the handler; whatever it does, the request is ended afterwards.
local function handle(server, req)
  local good, err = pcall(server.on_request, req)
  server.running[req.id] = nil
  local cancelled = not good and type(err) == "table" and err.kind == "cancelled"
  local state = req[1]:state()
  if state == "streaming" then
    req[1]:finish(false)
  elseif state == "open" and (cancelled or req[1]:gone()) then
    req[1]:abort("fin")
  elseif state == "open" then
    give_up(req, good and "the handler did not answer" or tostring(err))
    return
  end
  if cancelled then
    error(err, 0)
  end
  if not good then
    log.error("http server: %s %s: %s", req.method, req.path, tostring(err))
  end
end

local function accept_loop(server)
  local core_server <close> = server.core
  async.label("http server")
  async.scope(function(scope)
    while true do
      local what, v = core_server:next()
      if not what then
        break
      end
      if what == "request" then
        local req = setmetatable(v, Request)
        server.running[req.id] = scope:spawn(handle, server, req)
      elseif server.running[v] then
        server.running[v]:cancel("the client has left")
      end
    end
  end, { isolate = true })
end

--- Opens a server; close it, since it keeps its scope alive.
-- Each request runs as a task: a client that leaves cancels it; an error in it, or no answer,
-- becomes status 500 and a line in the log.
-- @param opts.on_request function fn(req)
-- @param opts.max_body integer|nil bytes, default 8 MiB; larger bodies get status 413
-- @param opts.idle_timeout number|nil seconds until an idle connection is closed, default 60
-- @param opts.max_connections integer|nil default 256
-- @return server
-- @raise usage, io
-- @example local s <close> = httpd.new { on_request = function(r) r:respond { body = "hi" } end }
function M.new(opts)
  local rest = {}
  for key, v in pairs(opts) do
    if key ~= "on_request" then
      rest[key] = v
    end
  end
  if type(opts.on_request) ~= "function" then
    fail("httpd.new: on_request must be a function", "MissingOption")
  end
  local server = setmetatable({ core = core.new(rest), on_request = opts.on_request,
    running = {} }, Server)
  async.spawn(accept_loop, server)
  return server
end

return M
