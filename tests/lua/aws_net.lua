-- AWS calls over a network that misbehaves: dying connections, answers that
-- are none, huge ones, redirects, wrong clocks, cancelling in each state.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local time = require "hgauto.time"

local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "wJalr-canary-secret" }
host.setenv("HOME", t.tmpdir())
host.setenv("HGAUTO_RETRY_SEED", "1")

local servers = {}

-- A server; act(n, form, req) answers request number n.
local function serve(act)
  local seen = {}
  local s = httpd.new {
    on_request = function(req)
      local f = {}
      for k, v in req.body:gmatch("([^&=]+)=([^&]*)") do
        f[k] = v
      end
      seen[#seen + 1] = f
      act(#seen, f, req)
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

local LAUNCHED = "<RunInstancesResponse><instancesSet><item><instanceId>i-0123456789abcdef0"
  .. "</instanceId></item></instancesSet></RunInstancesResponse>"
local NONE = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"
local LAUNCH = { ImageId = "ami-1", MinCount = 1, MaxCount = 1 }
local COMMAND = { DocumentName = "AWS-RunShellScript", InstanceIds = { "i-1" } }

-- ---- a kept connection dies under a request -----------------------------------

t.test("SendCommand on a dying connection is not repeated", function()
  local url, seen = serve(function(n, _, req)
    if n == 1 then
      req:respond { body = "{}", headers = { ["Content-Type"] = "application/x-amz-json-1.1" } }
    else
      req:abort("rst")
    end
  end)
  local ssm = client("ssm", url)
  ssm:describe_instance_information {}
  local e = t.raises(function()
    ssm:send_command(COMMAND)
  end, { kind = "net" }, "an error")
  t.is(e.ambiguous, true, "ambiguous")
  t.is(e.sent, true, "sent")
  t.is(#seen, 2, "sent once")
end)

t.test("RunInstances on a dying connection succeeds", function()
  local url, seen = serve(function(n, f, req)
    if n == 2 then
      req:abort("fin")
    else
      req:respond { body = f.Action == "RunInstances" and LAUNCHED or NONE }
    end
  end)
  local ec2 = client("ec2", url)
  ec2:describe_instances()
  local r = ec2:run_instances(LAUNCH)
  t.is(r.Instances[1].InstanceId, "i-0123456789abcdef0", "with its answer")
  t.is(#seen, 3, "sent twice")
  t.is(seen[2].ClientToken, seen[3].ClientToken, "with one token")
  t.ok(seen[2].ClientToken, "a token")
  t.is(aws.meta(r).RetryAttempts, 0, "not counted as a retry")
end)

-- ---- answers that are none ------------------------------------------------------

local BAD = {
  ["cut in the middle"] = LAUNCHED:sub(1, 60),
  ["empty"] = "",
  ["with a zero byte"] = "<RunInstancesResponse>\0</RunInstancesResponse>",
  ["a portal page"] = "<!DOCTYPE html><html><body>please log in</body></html>",
  ["of another operation"] = NONE,
  ["JSON"] = '{"ok":true}',
}

t.test("a 2xx that is no answer is repeated with the same token", function()
  for what, body in pairs(BAD) do
    local url, seen = serve(function(n, _, req)
      req:respond { body = n == 1 and body or LAUNCHED }
    end)
    local r = client("ec2", url):run_instances(LAUNCH)
    t.is(r.Instances[1].InstanceId, "i-0123456789abcdef0", what .. ": repeated")
    t.is(#seen, 2, what .. ": two requests")
    t.is(seen[1].ClientToken, seen[2].ClientToken, what .. ": same token")
  end
end)

t.test("a body shorter than announced", function()
  local url, seen = serve(function(n, _, req)
    if n > 1 then
      req:respond { body = LAUNCHED }
      return
    end
    local sent = false
    req:respond { length = #LAUNCHED, body = function()
      if sent then
        return nil
      end
      sent = true
      return LAUNCHED:sub(1, 40)
    end }
  end)
  t.ok(client("ec2", url):run_instances(LAUNCH), "is repeated")
  t.is(#seen, 2, "two requests")
end)

t.test("it stays an error for what must not be repeated", function()
  local url, seen = serve(function(_, _, req)
    req:respond { body = "<html>log in</html>" }
  end)
  local e = t.raises(function()
    client("ssm", url):send_command(COMMAND)
  end, { kind = "protocol" }, "protocol")
  t.is(e.ambiguous, true, "ambiguous")
  t.is(#seen, 1, "one request")
end)

t.test("a redirect is not followed", function()
  local target, hits = serve(function(_, _, req)
    req:respond { body = NONE }
  end)
  local url = serve(function(_, _, req)
    req:respond { status = 301, headers = { Location = target .. "/" }, body = "" }
  end)
  t.raises(function()
    client("ec2", url):describe_instances()
  end, { kind = "aws", match = "was not followed" }, "an error")
  t.is(#hits, 0, "no request at the target")
end)

-- ---- limits -----------------------------------------------------------------------

local function peak_mib()
  return tonumber(fs.read("/proc/self/status"):match("VmHWM:%s*(%d+)")) / 1024
end

local function too_much(what, url, seen)
  local cpu = os.clock()
  local e = t.raises(function()
    client("ec2", url):describe_instances()
  end, { kind = "protocol" }, what .. " is refused")
  t.is(#seen, 1, what .. ": not asked for again")
  t.ok(os.clock() - cpu < 1, what .. ": within 1 s of CPU")
  t.ok(peak_mib() < 64, ("%s: %.0f MiB at most"):format(what, peak_mib()))
  return e
end

t.test("33 MiB", function()
  -- Foreign elements: skipped, but counted.
  local block = ("<zz>" .. ("x"):rep(1015) .. "</zz>"):rep(64)
  local url, seen = serve(function(_, _, req)
    local left = 33 * 16
    req:respond { body = function()
      left = left - 1
      if left == 33 * 16 - 1 then
        return "<DescribeInstancesResponse>" .. block
      end
      return left >= 0 and block or nil
    end }
  end)
  local e = too_much("33 MiB", url, seen)
  t.like(e.message, "33554432", "the limit is named")
end)

t.test("deep nesting", function()
  -- Foreign elements are skipped, but not without end.
  local function nested(n)
    local url, seen = serve(function(_, _, req)
      req:respond { body = "<DescribeInstancesResponse>" .. ("<a>"):rep(n) .. ("</a>"):rep(n)
        .. "</DescribeInstancesResponse>" }
    end)
    return url, seen
  end
  t.ok(client("ec2", (nested(63))):describe_instances(), "64 elements deep is fine")
  local e = too_much("65 deep", nested(64))
  t.like(e.message, "64", "the limit is named")
  too_much("100,000 deep", nested(100000))
  local url, seen = serve(function(_, _, req)
    req:respond { body = '{"Zz":' .. ("["):rep(200) .. ("]"):rep(200) .. "}" }
  end)
  t.raises(function()
    client("ssm", url):get_parameters { Names = { "x" } }
  end, { kind = "protocol" }, "JSON 200 deep is refused")
  t.is(#seen, 1, "and not asked for again")
end)

t.test("declarations", function()
  local entities = { '<!ENTITY e0 "0123456789">' }
  for i = 1, 20 do
    entities[i + 1] = ("<!ENTITY e%d %q>"):format(i, ("&e%d;"):format(i - 1):rep(10))
  end
  local url, seen = serve(function(_, _, req)
    req:respond { body = '<?xml version="1.0"?><!DOCTYPE DescribeInstancesResponse ['
      .. table.concat(entities) .. "]><DescribeInstancesResponse><requestId>&e20;</requestId>"
      .. "</DescribeInstancesResponse>" }
  end)
  local cpu = os.clock()
  t.raises(function()
    client("ec2", url):describe_instances()
  end, { kind = "protocol" }, "entities are not expanded")
  t.is(#seen, 3, "a page that is no answer is asked for again")
  t.ok(os.clock() - cpu < 1, "within 1 s of CPU")
  t.ok(peak_mib() < 64, "and 64 MiB")
end)

-- ---- the clock -----------------------------------------------------------------------

t.test("a clock an hour off", function()
  local url, seen = serve(function(n, _, req)
    local ahead = time.now() + 3600
    local date = os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(ahead))
    if n == 1 then
      req:respond { status = 400, headers = { Date = date }, body = "<Response><Errors><Error>"
        .. "<Code>RequestExpired</Code><Message>old</Message></Error></Errors></Response>" }
    else
      req:respond { headers = { Date = date }, body = NONE }
    end
  end)
  local r = client("ec2", url):describe_instances()
  t.is(aws.meta(r).RetryAttempts, 0, "is corrected within the first attempt")
  t.is(#seen, 2, "by a second request")
end)

-- ---- cancelling -----------------------------------------------------------------------

-- Seconds that the end of a cancelled task takes.
local function cancelled(fn, ready)
  return async.scope(function(s)
    local h = s:spawn(fn)
    local stop = time.mono() + 5
    while not ready() and time.mono() < stop do
      async.sleep(0.01)
    end
    local from = time.mono()
    h:cancel("test")
    pcall(h.join, h)
    return time.mono() - from
  end, { isolate = true })
end

-- A server that never accepts: connections wait in its backlog.
local function mute_server()
  local p = proc.spawn({ "/usr/bin/python3", "-c", "import socket, sys\ns = socket.socket()\n"
    .. "s.bind(('127.0.0.1', 0))\ns.listen(8)\nprint(s.getsockname()[1], flush=True)\n"
    .. "sys.stdin.read()" }, { stdin = true })
  return p, p:lines()()
end

t.test("cancelling in each state takes less than 100 ms", function()
  local url, seen = serve(function(_, f, req)
    if f.Action == "DescribeImages" then
      req:respond { status = 503, headers = { ["x-amz-retry-after"] = "4000" }, body = "<Response>"
        .. "<Errors><Error><Code>ServiceUnavailable</Code></Error></Errors></Response>" }
      return
    end
    while not req:gone() do
      async.sleep(0.01)
    end
  end)
  local ec2 = client("ec2", url, { max_concurrency = 1 })
  t.ok(cancelled(function()
    ec2:describe_instances()
  end, function()
    return true
  end) < 0.1, "before it is sent")
  t.ok(cancelled(function()
    ec2:describe_instances()
  end, function()
    return #seen >= 1
  end) < 0.1, "while it waits for the answer")
  local n = #seen
  t.ok(cancelled(function()
    ec2:describe_images()
  end, function()
    return #seen > n
  end) < 0.1, "in the pause before a retry")
  n = #seen
  local took = async.scope(function(s)
    local first = s:spawn(function()
      ec2:describe_instances()
    end)
    while #seen == n do
      async.sleep(0.01)
    end
    local d = cancelled(function()
      ec2:describe_instances()
    end, function()
      return true
    end)
    first:cancel("test")
    return d
  end, { isolate = true })
  t.ok(took < 0.1, "while it waits for its turn")
  t.ok(cancelled(function()
    ec2:wait("instance_stopped", {}, { delay = 60 })
  end, function()
    return #seen > n + 1
  end) < 0.1, "in a waiter")
  local mute <close>, port = mute_server()
  local from_now = time.mono() + 0.3
  t.ok(cancelled(function()
    client("ec2", "https://127.0.0.1:" .. port):describe_instances()
  end, function()
    return time.mono() > from_now
  end) < 0.1, "in the TLS handshake")
  t.ok(mute, "which never ends")
  local throttled = client("ec2", (serve(function(_, _, req)
    req:respond { status = 503, body = "<Response><Errors><Error><Code>RequestLimitExceeded"
      .. "</Code></Error></Errors></Response>" }
  end)), { retry_mode = "adaptive", max_attempts = 50 })
  from_now = time.mono() + 2
  t.ok(cancelled(function()
    throttled:describe_instances()
  end, function()
    return time.mono() > from_now
  end) < 0.1, "while the rate limiter holds it back")
end)

for _, s in ipairs(servers) do
  s:close()
end
return t.done()
