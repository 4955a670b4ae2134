--- What the network, a proxy on the way or the service may do to one request.
--
-- Each kind has a name, what it does with the request, and whether the client is
-- expected to get over it (`same`: the run ends as if nothing had been) or may
-- end with a clear error.
local async = require "hgauto.async"

local M = {}

local HOP = { connection = true, ["content-length"] = true, ["transfer-encoding"] = true,
  ["keep-alive"] = true }

--- Headers that go from one end to the other.
-- @param raw table {{name, value}, …}
-- @return table
function M.end_to_end(raw)
  local list = {}
  for _, h in ipairs(raw) do
    if not HOP[h[1]:lower()] then
      list[#list + 1] = h
    end
  end
  return list
end

local function send(req, answer, body)
  req:respond { status = answer.status, headers = M.end_to_end(answer.raw_headers),
    body = body or answer.body }
end

local EC2_ERROR = "<Response><Errors><Error><Code>%s</Code><Message>a fault</Message></Error>"
  .. "</Errors><RequestID>r</RequestID></Response>"
local QUERY_ERROR = "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>a fault"
  .. "</Message></Error><RequestId>r</RequestId></ErrorResponse>"

-- A refusal in the form of the service that was asked.
local function refuse(req, status, code, sts_code)
  local is_sts = req.body:find("Action=GetCallerIdentity", 1, true)
  req:respond { status = status, headers = { ["Content-Type"] = "text/xml" },
    body = is_sts and QUERY_ERROR:format(sts_code or code) or EC2_ERROR:format(code) }
end

local function html(req, status, text)
  req:respond { status = status, headers = { ["Content-Type"] = "text/html" },
    body = "<html><body>" .. text .. "</body></html>" }
end

-- An answer with this text in front of its first element.
local function with_prologue(text)
  return function(req, forward)
    local answer = forward()
    send(req, answer, (answer.body:gsub("^<%?xml[^>]*%?>%s*", "")
      :gsub("^", function() return text end)))
  end
end

local function bomb()
  local list = { '<!DOCTYPE lolz [<!ENTITY a0 "ha">' }
  for i = 1, 30 do
    list[#list + 1] = ('<!ENTITY a%d "&a%d;&a%d;">'):format(i, i - 1, i - 1)
  end
  list[#list + 1] = "]>"
  return table.concat(list)
end

local HUGE_MB = 80

-- Says nothing until the client has given up.
local function hang(req)
  while not req:gone() do
    async.sleep(0.02)
  end
  req:abort "fin"
end

--- The kinds in order: {name, fn(req, forward), same=boolean}.
M.KINDS = {
  { "drop-before-rst", function(req)
    req:abort "rst"
  end, same = true },
  { "drop-before-fin", function(req)
    req:abort "fin"
  end, same = true },
  { "drop-after", function(req, forward)
    forward()
    req:abort "rst"
  end, same = true },
  { "hang-before", hang, same = true },
  { "hang-after", function(req, forward)
    forward()
    hang(req)
  end, same = true },
  { "delay", function(req, forward)
    async.sleep(0.5)
    send(req, forward())
  end, same = true },
  { "500-before", function(req)
    refuse(req, 500, "InternalError", "InternalFailure")
  end, same = true },
  { "500-after", function(req, forward)
    forward()
    refuse(req, 500, "InternalError", "InternalFailure")
  end, same = true },
  { "503", function(req)
    refuse(req, 503, "Unavailable", "ServiceUnavailable")
  end, same = true },
  { "throttle", function(req)
    refuse(req, 503, "RequestLimitExceeded", "Throttling")
  end, same = true },
  { "429", function(req)
    req:respond { status = 429, body = "" }
  end, same = true },
  { "502-html", function(req)
    html(req, 502, "Bad Gateway")
  end, same = true },
  { "502-html-after", function(req, forward)
    forward()
    html(req, 502, "Bad Gateway")
  end, same = true },
  { "cut", function(req, forward)
    local answer = forward()
    local parts = { answer.body:sub(1, #answer.body // 2) }
    req:respond { status = answer.status, headers = M.end_to_end(answer.raw_headers),
      length = #answer.body, cut = true, body = function()
        return table.remove(parts, 1)
      end }
  end, same = true },
  { "cut-clean", function(req, forward)
    local answer = forward()
    send(req, answer, answer.body:sub(1, #answer.body // 2))
  end, same = true },
  { "flip", function(req, forward)
    local answer = forward()
    -- Bytes that carry values cannot be told from right ones.
    local at = answer.body:find("<", #answer.body // 2, true) or 1
    send(req, answer, answer.body:sub(1, at - 1) .. "|" .. answer.body:sub(at + 1))
  end, same = true },
  { "root", function(req, forward)
    local answer = forward()
    send(req, answer, (answer.body:gsub("<(/?)%w+Response", "<%1Surprise")))
  end, same = true },
  { "empty", function(req, forward)
    send(req, forward(), "")
  end, same = true },
  { "portal", function(req)
    html(req, 200, "Welcome to the hotel's network")
  end, same = true },
  { "portal-after", function(req, forward)
    forward()
    html(req, 200, "Welcome to the hotel's network")
  end, same = true },
  { "nul", function(req, forward)
    local answer = forward()
    local half = #answer.body // 2
    send(req, answer, answer.body:sub(1, half) .. "\0\0\0" .. answer.body:sub(half + 4))
  end, same = true },
  { "bad-status", function(req, forward)
    req:raw("HTTP/1.1 2oo OK\r\nContent-Type: text/xml\r\nContent-Length: "
      .. #forward().body .. "\r\n\r\n")
  end, same = true },
  { "bad-chunk", function(req, forward)
    req:raw("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "xyz\r\n" .. forward().body .. "\r\n0\r\n\r\n")
  end, same = true },
  { "redirect", function(req)
    req:respond { status = 302, headers = { Location = "http://127.0.0.1:1/" }, body = "" }
  end },
  { "expired", function(req)
    refuse(req, 400, "RequestExpired", "ExpiredToken")
  end },
  { "denied", function(req)
    refuse(req, 403, "UnauthorizedOperation", "AccessDenied")
  end },
  { "duplicate", function(req, forward)
    forward()
    send(req, forward())
  end, same = true },
  { "entities", with_prologue(bomb()), same = true },
  { "external-entity", with_prologue('<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    same = true },
  { "depth", function(req, forward)
    send(req, forward(), ("<a>"):rep(100000))
  end, same = true },
  { "huge", function(req, forward)
    local answer, left = forward(), HUGE_MB * 16
    req:respond { status = 200, headers = { ["Content-Type"] = "text/xml" }, body = function()
      left = left - 1
      return left >= 0 and (" "):rep(65536) or nil
    end }
    local _ = answer
  end },
}

--- A kind by name.
-- @param name string
-- @return table
function M.kind(name)
  for _, kind in ipairs(M.KINDS) do
    if kind[1] == name then
      return kind
    end
  end
  error("no fault kind " .. name)
end

return M
