-- Bodies that stream: files as parameters, files and functions for answers;
-- what a retry does to them.  And the rest services as scripts use them.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local t = require "hg.tap"

local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "wJalr-canary-secret" }
host.setenv("HOME", t.tmpdir())
host.setenv("HGAUTO_RETRY_SEED", "1")

local servers = {}

-- A server; act(n, req) answers request number n.
local function serve(act)
  local seen = {}
  local s = httpd.new {
    max_body = 64 << 20,
    on_request = function(req)
      seen[#seen + 1] = req
      act(#seen, req)
    end,
  }
  servers[#servers + 1] = s
  return "http://127.0.0.1:" .. s:listen { host = "127.0.0.1" }, seen
end

local function client(service, url, more)
  local opts = { region = "us-west-2", endpoint_url = url, credentials = CREDS }
  for k, v in pairs(more or {}) do
    opts[k] = v
  end
  return aws.client(service, opts)
end

local BIG = ("0123456789abcdef"):rep(1 << 17) -- 2 MiB
local GET = { Bucket = "hg-test", Key = "dir/big.bin" }

-- Names in dir.
local function names(dir)
  local out = {}
  for _, e in ipairs(fs.list(dir)) do
    out[#out + 1] = type(e) == "table" and e.name or e
  end
  table.sort(out)
  return table.concat(out, " ")
end

-- ---- parameters ---------------------------------------------------------------

t.test("a file is a body, read again for a retry", function()
  local path = t.tmpdir() .. "/body"
  fs.write(path, BIG)
  local url, seen = serve(function(n, req)
    req:respond(n == 1 and { status = 503, body = "<Error><Code>SlowDown</Code></Error>" }
      or { headers = { ETag = '"e"' } })
  end)
  local r = client("s3", url):put_object {
    Bucket = "hg-test", Key = "dir/big file", Body = aws.file(path),
    ChecksumAlgorithm = "SHA256", ContentType = "application/x-tar", Metadata = { who = "me" },
  }
  t.is(r.ETag, '"e"', "the answer's header")
  t.is(#seen, 2, "repeated once")
  for i, req in ipairs(seen) do
    t.ok(req.body == BIG, "attempt " .. i .. ": the whole file")
    t.is(req.method, "PUT", "the method")
    t.is(req.headers["content-length"], tostring(#BIG), "its length")
    t.is(req.headers["x-amz-content-sha256"], crypto.sha256(BIG), "its digest is signed")
    t.is(req.headers["x-amz-checksum-sha256"],
      crypto.base64(crypto.unhex(crypto.sha256(BIG))), "the checksum that was asked for")
    t.is(req.headers["content-type"], "application/x-tar", "the type of the caller")
    t.is(req.headers["x-amz-meta-who"], "me", "metadata are headers")
  end
end)

t.test("a text is a body; an empty one, too", function()
  local url, seen = serve(function(_, req)
    req:respond {}
  end)
  local s3 = client("s3", url)
  s3:put_object { Bucket = "hg-test", Key = "k", Body = "text" }
  s3:put_object { Bucket = "hg-test", Key = "k", Body = "" }
  s3:put_object { Bucket = "hg-test", Key = "k" }
  t.is(seen[1].body, "text", "as it is")
  t.is(seen[2].body, "", "empty")
  t.is(seen[3].headers["content-length"], "0", "none is length 0")
end)

t.test("files that are none", function()
  local url, seen = serve(function(_, req)
    req:respond {}
  end)
  local s3, dir = client("s3", url), t.tmpdir()
  local function put(body)
    return function()
      s3:put_object { Bucket = "hg-test", Key = "k", Body = body }
    end
  end
  t.raises(put(aws.file(dir .. "/missing")), { kind = "notfound" }, "a missing file")
  t.raises(put(aws.file(dir)), { kind = "usage", code = "NotAFile" }, "a directory")
  local e = t.raises(put({ path = "x" }), { kind = "usage" }, "a table")
  t.like(e.message, "aws.file", "the message says how")
  t.raises(function()
    aws.file(3)
  end, { kind = "usage" }, "a number")
  t.is(#seen, 0, "nothing was sent")
end)

t.test("a file that grows under the call", function()
  local path = t.tmpdir() .. "/body"
  fs.write(path, BIG)
  local url, seen = serve(function(_, req)
    fs.append(path, "more")
    req:respond { status = 503, body = "" }
  end)
  t.raises(function()
    client("s3", url):put_object { Bucket = "b12", Key = "k", Body = aws.file(path) }
  end, { kind = "io", code = "Changed" }, "is not sent again")
  t.is(#seen, 1, "one request")
end)

-- ---- answers into a file --------------------------------------------------------

t.test("an answer goes into a file", function()
  local url, seen = serve(function(_, req)
    req:respond { body = BIG, headers = { ETag = '"e"', ["x-amz-meta-who"] = "me" } }
  end)
  local dir = t.tmpdir()
  local to = dir .. "/got"
  local r = client("s3", url, { max_response = 65536 }):get_object(GET, { to = to })
  t.is(r.Body, { path = to, size = #BIG }, "the member says where and how much")
  t.is(r.ETag, '"e"', "other members are there")
  t.is(r.Metadata.who, "me", "metadata too")
  t.ok(fs.read(to) == BIG, "all of it, above max_response")
  t.is(fs.stat(to).mode & 511, 384, "mode 0600")
  t.is(names(dir), "got", "nothing else is left")
  t.is(seen[1].path, "/hg-test/dir/big.bin", "the path")
end)

t.test("a cut answer is fetched again from zero", function()
  local url, seen = serve(function(n, req)
    if n > 1 then
      return req:respond { body = BIG }
    end
    local sent
    req:respond { length = #BIG, body = function()
      if sent then
        error("cut")
      end
      sent = true
      return ("x"):rep(100000)
    end }
  end)
  local to = t.tmpdir() .. "/got"
  fs.write(to, "old")
  local r = client("s3", url):get_object(GET, { to = to })
  t.is(#seen, 2, "two requests")
  t.is(r.Body.size, #BIG, "size of the last one")
  t.ok(fs.read(to) == BIG, "without the first piece")
end)

t.test("an error leaves the file as it was", function()
  local url = serve(function(_, req)
    req:respond { status = 404,
      body = "<Error><Code>NoSuchKey</Code><Message>no</Message><Key>k</Key></Error>" }
  end)
  local dir = t.tmpdir()
  fs.write(dir .. "/got", "old")
  local e = t.raises(function()
    client("s3", url):get_object(GET, { to = dir .. "/got" })
  end, { kind = "aws", code = "NoSuchKey", status = 404 }, "the service's error")
  t.is(e.message:match("no$"), "no", "its message")
  t.is(fs.read(dir .. "/got"), "old", "untouched")
  t.is(names(dir), "got", "no temporary file")
  t.raises(function()
    client("s3", url):get_object(GET, { to = dir .. "/no/such" })
  end, { kind = "notfound" }, "a missing directory")
end)

-- ---- answers into a function ---------------------------------------------------

t.test("an answer goes into a function, in the calling task, which may wait", function()
  local url = serve(function(_, req)
    req:respond { body = BIG }
  end)
  local parts, largest, turns = {}, 0, 0
  async.scope(function(s)
    local other = s:spawn(function()
      while true do
        turns = turns + 1
        async.sleep(0)
      end
    end)
    local r = client("s3", url, { max_response = 65536 }):get_object(GET, {
      to = function(chunk)
        parts[#parts + 1] = chunk
        largest = math.max(largest, #chunk)
        async.sleep(0.001)
      end,
    })
    t.is(r.Body, { size = #BIG }, "the member says how much")
    other:cancel("done")
  end)
  t.ok(table.concat(parts) == BIG, "all of it, in order")
  t.ok(#parts > 4, "in pieces")
  t.ok(largest <= 262144, "none above 256 KiB (" .. largest .. ")")
  t.ok(turns > 0, "others run meanwhile")
end)

t.test("a slow function pauses the transfer", function()
  local made = 0
  local url = serve(function(_, req)
    req:respond { length = 64 << 20, body = function()
      if made >= 64 << 20 then
        return nil
      end
      made = made + 65536
      return ("y"):rep(65536)
    end }
  end)
  local e = t.raises(function()
    client("s3", url):get_object(GET, {
      to = function()
        async.sleep(0.3)
        error("enough", 0)
      end,
    })
  end, {}, "what the function raises ends the call")
  t.like(tostring(e), "enough", "with its error")
  t.ok(made < 32 << 20, "the service was held up after " .. made .. " bytes")
end)

t.test("no attempt after the first chunk", function()
  local got = 0
  local url, seen = serve(function(_, req)
    local sent
    req:respond { length = #BIG, body = function()
      if not sent then
        sent = true
        return ("z"):rep(65536)
      end
      t.eventually(function()
        return got > 0
      end)
      error("cut")
    end }
  end)
  t.raises(function()
    client("s3", url):get_object(GET, { to = function(chunk)
      got = got + #chunk
    end })
  end, { code = "ShortBody" }, "an error")
  t.is(#seen, 1, "one request")
end)

t.test("an error before the first chunk is repeated", function()
  local url, seen = serve(function(n, req)
    req:respond(n == 1 and { status = 500, body = "<Error><Code>InternalError</Code></Error>" }
      or { body = "abc" })
  end)
  local got = ""
  client("s3", url):get_object(GET, { to = function(chunk)
    got = got .. chunk
  end })
  t.is(#seen, 2, "two requests")
  t.is(got, "abc", "only the answer's body is handed out")
end)

t.test("to only where an answer streams", function()
  local url, seen = serve(function(_, req)
    req:respond {}
  end)
  t.raises(function()
    client("s3", url):list_buckets({}, { to = "/tmp/x" })
  end, { kind = "usage" }, "another operation")
  t.raises(function()
    client("s3", url):get_object(GET, { to = 3 })
  end, { kind = "usage" }, "a number")
  t.is(#seen, 0, "nothing was sent")
end)

t.test("without to a body is a string up to max_response", function()
  local url = serve(function(_, req)
    req:respond { body = BIG }
  end)
  t.ok(client("s3", url):get_object(GET).Body == BIG, "the string")
  t.raises(function()
    client("s3", url, { max_response = 65536 }):get_object(GET)
  end, { kind = "protocol", code = "TooLarge" }, "the limit")
end)

-- ---- the services ------------------------------------------------------------

t.test("lambda: a payload both ways", function()
  local url, seen = serve(function(_, req)
    req:respond { body = '{"ok":true}', headers = { ["X-Amz-Executed-Version"] = "7" } }
  end)
  local r = client("lambda", url):invoke { FunctionName = "my fn", Payload = '{"a":1}' }
  t.is(r.Payload, '{"ok":true}', "the answer's body")
  t.is(r.StatusCode, 200, "the status")
  t.is(r.ExecutedVersion, "7", "a header")
  t.is(seen[1].path, "/2015-03-31/functions/my%20fn/invocations", "the label")
  t.is(seen[1].body, '{"a":1}', "the request's body")
end)

t.test("lambda: JSON members, errors with members of the headers", function()
  local url, seen = serve(function(n, req)
    if n == 1 then
      return req:respond { body = '{"Functions":[{"FunctionName":"f","MemorySize":128}]}' }
    end
    req:respond { status = 429, body = '{"Reason":"ConcurrentInvocationLimitExceeded"}',
      headers = { ["X-Amzn-Errortype"] = "TooManyRequestsException", ["Retry-After"] = "1" } }
  end)
  local lambda = client("lambda", url, { max_attempts = 1 })
  local r = lambda:list_functions({ MaxItems = 3 })
  t.is(r.Functions[1].MemorySize, 128, "a member")
  t.is(seen[1].path .. "?" .. (seen[1].query or ""), "/2015-03-31/functions/?MaxItems=3",
    "a query string")
  local e = t.raises(function()
    lambda:get_function { FunctionName = "f" }
  end, { kind = "aws", code = "TooManyRequestsException" }, "an error")
  t.is(e.throttling, true, "known as throttling")
  t.is(e.response.Reason, "ConcurrentInvocationLimitExceeded", "a member of the body")
  t.is(e.response.retryAfterSeconds, "1", "a member of the headers")
end)

t.test("s3: checksums where they are required", function()
  local url, seen = serve(function(_, req)
    req:respond { body = "<DeleteResult/>" }
  end)
  client("s3", url):delete_objects {
    Bucket = "hg-test", Delete = { Objects = { { Key = "a&b" }, { Key = "c" } } },
  }
  t.like(seen[1].body, "<Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object>",
    "a flattened list")
  t.ok(seen[1].headers["x-amz-checksum-crc32"], "CRC-32")
  t.is(seen[1].query, "delete", "the model's own query")
end)

t.test("s3: an error under status 200 is repeated", function()
  local url, seen = serve(function(n, req)
    req:respond { body = n == 1 and "<Error><Code>InternalError</Code><Message>m</Message></Error>"
      or "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>" }
  end)
  local r = client("s3", url):copy_object { Bucket = "hg-test", Key = "k", CopySource = "a/b" }
  t.is(r.CopyObjectResult.ETag, "e", "then it works")
  t.is(#seen, 2, "two requests")
end)

t.test("s3: the location of a bucket is the text of the root", function()
  local url = serve(function(_, req)
    req:respond { body = '<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
      .. "eu-west-1</LocationConstraint>" }
  end)
  t.is(client("s3", url):get_bucket_location({ Bucket = "hg-test" }).LocationConstraint,
    "eu-west-1", "it is a member")
end)

t.test("event streams are refused before anything is sent", function()
  local url, seen = serve(function(_, req)
    req:respond {}
  end)
  t.raises(function()
    client("lambda", url):invoke_with_response_stream { FunctionName = "f" }
  end, { kind = "usage", code = "Unsupported" }, "of a rest service")
  t.raises(function()
    client("logs", url):start_live_tail { logGroupIdentifiers = { "g" } }
  end, { kind = "usage", code = "Unsupported" }, "of a json service")
  t.is(#seen, 0, "no request")
end)

t.test("ec2: a copy of another region's snapshot carries a URL signed there", function()
  local url, seen = serve(function(_, req)
    req:respond { body = "<CopySnapshotResponse><snapshotId>snap-1</snapshotId>"
      .. "</CopySnapshotResponse>" }
  end)
  local ec2 = client("ec2", url)
  local ask = { SourceRegion = "eu-west-1", SourceSnapshotId = "snap-0" }
  t.is(ec2:copy_snapshot(ask).SnapshotId, "snap-1", "the answer")
  local form = {}
  for k, v in seen[1].body:gmatch("([^&=]+)=([^&]*)") do
    form[k] = v:gsub("%%(%x%x)", function(h)
      return string.char(tonumber(h, 16))
    end)
  end
  t.is(form.DestinationRegion, "us-west-2", "where it goes")
  t.like(form.PresignedUrl, "%%2Feu%-west%-1%%2Fec2%%2Faws4_request", "signed for its region")
  t.like(form.PresignedUrl, "SourceSnapshotId=snap%-0", "with its parameters")
  t.like(form.PresignedUrl, "DestinationRegion=us%-west%-2", "and the destination")
  t.ok(not form.PresignedUrl:find("PresignedUrl", 1, true), "once")
  t.is(ask.PresignedUrl, nil, "the caller's table is untouched")
end)

t.test("sso: unsigned, the token in a header", function()
  local url, seen = serve(function(_, req)
    req:respond { body = '{"accountList":[{"accountId":"012345678901"}]}' }
  end)
  local r = client("sso", url):list_accounts { accessToken = "tok" }
  t.is(r.accountList[1].accountId, "012345678901", "the answer")
  t.is(seen[1].headers["x-amz-sso_bearer_token"], "tok", "the header")
  t.is(seen[1].headers["authorization"], nil, "no signature")
end)

for _, s in ipairs(servers) do
  s:close()
end
return t.done()
