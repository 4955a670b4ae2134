-- The server's side of signature version 4, against third-party vectors and
-- with one byte flipped at a time.
local t = require "hg.tap"
local auth = require "localcloud.auth"
local fs = require "hgauto.fs"
local json = require "hgauto.json"

-- A raw request as the vectors hold it: blanks in the path, folded headers.
local function read_request(text)
  text = text:gsub("\r\n", "\n")
  local head, body = text:match("^(.-)\n\n(.*)$")
  head = head or text
  local lines = {}
  for line in head:gmatch("[^\n]+") do
    if line:match("^%s") and lines[2] then
      lines[#lines] = lines[#lines] .. " " .. line:match("^%s*(.*)$")
    else
      lines[#lines + 1] = line
    end
  end
  local method, target = lines[1]:match("^(%S+) (.*) HTTP/1%.1$")
  local path, query = target:match("^([^?]*)%??(.*)$")
  local req = { method = method, path = path, query = query, raw_headers = {}, body = body or "" }
  for i = 2, #lines do
    local name, value = lines[i]:match("^([^:]+):(.*)$")
    req.raw_headers[#req.raw_headers + 1] = { name, value }
  end
  return req
end

local function options(context)
  local c = context.credentials
  return { keys = { [c.access_key_id] = { secret = c.secret_access_key, token = c.token } },
    now = auth.parse_date((context.timestamp:gsub("[-:]", ""))), family = "query",
    service = context.service, normalize = context.normalize }
end

local function verified(req, opts)
  return (pcall(auth.verify, req, opts))
end

t.test("dates of signatures are read", function()
  t.is(auth.parse_date("19700101T000000Z"), 0, "the epoch")
  t.is(auth.parse_date("20150830T123600Z"), 1440938160, "a summer day")
  t.is(auth.parse_date("20240229T235959Z"), 1709251199, "a leap day")
  t.is(auth.parse_date("20240229"), nil, "half a date")
end)

t.test("paths are normalised", function()
  for path, want in pairs { ["/"] = "/", [""] = "/", ["//"] = "/", ["/a//b/"] = "/a/b/",
    ["/a/./b/../c"] = "/a/c", ["/.."] = "/", ["/a/.."] = "/", ["/a/b/.."] = "/a/",
    ["/./a"] = "/a" } do
    t.is(auth.normal_path(path), want, path)
  end
end)

local dir = t.vectors() and t.vectors() .. "/aws/sigv4"

t.test("signed requests of the vectors are accepted", function()
  if not (dir and fs.exists(dir)) then
    t.skip("no vectors (set HGAUTO_VECTORS)")
  end
  for _, name in ipairs(fs.list(dir)) do
    local context = json.decode(fs.read(dir .. "/" .. name .. "/context.json"))
    for _, form in ipairs { "header", "query" } do
      local file = ("%s/%s/%s-signed-request.txt"):format(dir, name, form)
      local req = read_request(fs.read(file))
      local opts = options(context)
      -- The token is outside the signature there: ours must be signed with it.
      if context.omit_session_token then
        opts.keys[context.credentials.access_key_id].token = auth.parse(req).token
      end
      local claim = auth.parse(req)
      local want = fs.read(("%s/%s/%s-signature.txt"):format(dir, name, form)):match("%x+")
      if not (context.omit_session_token and form == "query") then
        t.is(auth.signature(req, claim, context.credentials.secret_access_key, opts), want,
          name .. " " .. form)
        t.ok(verified(req, opts), name .. " " .. form .. " is accepted")
      end
    end
  end
end)

local SECRET, NOW = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", auth.parse_date("20150830T123600Z")

local function sample()
  return { method = "POST", path = "/", query = "", body = "Action=DescribeVpcs&Version=2016",
    raw_headers = { { "Host", "127.0.0.1:4566" }, { "X-Amz-Date", "20150830T123600Z" },
      { "Content-Type", "application/x-www-form-urlencoded" } } }
end

local function sign(req, signed)
  local value = "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-west-2/ec2/aws4_request,"
    .. " SignedHeaders=%s, Signature=%s"
  signed = signed or "content-type;host;x-amz-date"
  local at = #req.raw_headers + 1
  req.raw_headers[at] = { "Authorization", value:format(signed, ("0"):rep(64)) }
  local signature = auth.signature(req, auth.parse(req), SECRET)
  req.raw_headers[at] = { "Authorization", value:format(signed, signature or ("0"):rep(64)) }
  return req
end

local function check(req, more)
  local opts = { keys = { AKID = { secret = SECRET } }, now = NOW, family = "ec2",
    service = "ec2" }
  for k, v in pairs(more or {}) do
    opts[k] = v
  end
  return auth.verify(req, opts)
end

t.test("a request signed here is accepted", function()
  local claim = check(sign(sample()))
  t.is(claim.region, "us-west-2", "its region is known")
  t.is(claim.access_key, "AKID", "and its key")
end)

local function refused(req, name, more, code)
  t.raises(function()
    check(req, more)
  end, { code = code or "AuthFailure" }, name)
end

local function flip(text, at)
  return text:sub(1, at - 1) .. string.char(text:byte(at) ~ 1) .. text:sub(at + 1)
end

t.test("one flipped byte is refused, wherever it is", function()
  for at = 1, #sample().body do
    local req = sign(sample())
    req.body = flip(req.body, at)
    refused(req, "body, byte " .. at)
  end
  for i = 1, 3 do
    local req = sign(sample())
    req.raw_headers[i][2] = flip(req.raw_headers[i][2], 1)
    refused(req, "header " .. req.raw_headers[i][1])
  end
  local req = sign(sample())
  req.path = "/x"
  refused(req, "path")
  req = sign(sample())
  req.query = "a=b"
  refused(req, "query")
  req = sign(sample())
  req.method = "PUT"
  refused(req, "method")
  req = sign(sample())
  local value = req.raw_headers[4][2]
  req.raw_headers[4][2] = value:sub(1, -2) .. (value:sub(-1) == "0" and "1" or "0")
  refused(req, "signature")
end)

t.test("what must be signed is", function()
  refused(sign(sample(), "content-type;x-amz-date"), "host is")
  refused(sign(sample(), "content-type;host"), "the date is")
  refused(sign(sample(), "host;x-amz-date;x-missing"), "and only what is there")
end)

t.test("date, scope and keys are checked", function()
  refused(sign(sample()), "too old", { now = NOW + 301 })
  refused(sign(sample()), "too new", { now = NOW - 301 })
  t.ok(check(sign(sample()), { now = NOW + 300 }), "five minutes are allowed")
  refused(sign(sample()), "another service", { service = "sts" })
  refused(sign(sample()), "another key", { keys = {} })
  refused(sign(sample()), "another secret", { keys = { AKID = { secret = "x" } } })
  refused(sample(), "unsigned", nil, "MissingParameter")
  refused(sample(), "unsigned, for STS", { family = "query" }, "MissingAuthenticationToken")
  refused(sample(), "unsigned, for SSM", { family = "json" },
    "MissingAuthenticationTokenException")
  local req = sample()
  req.raw_headers[#req.raw_headers + 1] = { "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD" }
  refused(sign(req, "content-type;host;x-amz-content-sha256;x-amz-date"),
    "a payload that is not signed")
end)

local function canonical(text, part)
  text = text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
  return part == 1 and text:lower() or text
end

t.test("mutilated requests are refused, whatever is left of them", function()
  local errors = require "localcloud.errors"
  local seed = math.random(1 << 30)
  math.randomseed(seed)
  local bad
  for _ = 1, 2000 do
    local req = sign(sample())
    local h = req.raw_headers[math.random(#req.raw_headers)]
    local part = math.random(2)
    local at = math.random(#h[part])
    local what = math.random(3)
    local text = h[part]
    h[part] = what == 1 and text:sub(1, at - 1) or what == 2 and text:sub(1, at - 1)
      .. text:sub(at + 1) or text:sub(1, at) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
    local ok, e = pcall(check, req)
    if not ok and not errors.is(e) then
      bad = bad or tostring(e)
    end
    -- What differs in blanks or in the case of a header's name only may pass.
    if ok and canonical(h[part], part) ~= canonical(text, part)
      and h[1]:lower() ~= "authorization" then
      bad = bad or ("accepted %q"):format(h[part])
    end
  end
  t.is(bad, nil, "with seed " .. seed)
end)

t.test("tokens belong to their key", function()
  local function with_token(token)
    local req = sample()
    req.raw_headers[#req.raw_headers + 1] = { "X-Amz-Security-Token", token }
    return sign(req, "content-type;host;x-amz-date;x-amz-security-token")
  end
  local keys = { AKID = { secret = SECRET, token = "T", expires = NOW + 10 } }
  t.ok(check(with_token "T", { keys = keys }), "the right one is accepted")
  refused(with_token "U", "another one is refused", { keys = keys })
  refused(sign(sample()), "none, too", { keys = keys })
  refused(with_token "T", "one for a lasting key, too")
  refused(with_token "T", "an expired one says so", { keys = keys, now = NOW + 11 },
    "RequestExpired")
end)

return t.done()
