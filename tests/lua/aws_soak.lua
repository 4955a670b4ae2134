-- Many calls in one process: descriptors and memory stay flat while the
-- server closes and resets connections, throttles, and keys are rotated.
-- HGAUTO_SOAK=n: number of calls, default 800 (tests/slow has the long form).
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local json = require "hgauto.json"
local t = require "hg.tap"
local time = require "hgauto.time"

local CALLS = tonumber(host.getenv("HGAUTO_SOAK") or "") or 800
local ROTATE = 50 -- calls with one pair of keys
local LANES = 4

local home = t.tmpdir()
host.setenv("HOME", home)
host.setenv("HGAUTO_RETRY_SEED", "1")
fs.mkdir(home .. "/.aws")

local function rotate(n)
  fs.write(home .. "/.aws/credentials", ("[default]\naws_access_key_id = AKIDEXAMPLE%05d\n"
    .. "aws_secret_access_key = soak-secret-number-%05d\naws_session_token = soak-token-%s\n")
    :format(n % 100000, n % 100000, ("x"):rep(300)), { mode = tonumber("600", 8) })
end

local seen, keys, nkeys = 0, {}, 0
local GOOD = "<DescribeInstancesResponse><requestId>r</requestId><reservationSet>"
  .. ("<item><instancesSet><item><instanceId>i-0123456789abcdef0</instanceId></item>"
  .. "</instancesSet></item>"):rep(20) .. "</reservationSet></DescribeInstancesResponse>"
local SLOW = "<Response><Errors><Error><Code>ServiceUnavailable</Code><Message>later</Message>"
  .. "</Error></Errors></Response>"

local server = httpd.new {
  on_request = function(req)
    seen = seen + 1
    local id = req.headers.authorization and req.headers.authorization:match("Credential=(%w+)")
    if id and not keys[id] then
      keys[id], nkeys = true, nkeys + 1
    end
    if seen % 23 == 0 then
      req:abort(seen % 2 == 0 and "rst" or "fin")
    elseif seen % 31 == 0 then
      req:respond { status = 503, body = SLOW }
    else
      req:respond { body = GOOD, headers = seen % 11 == 0 and { Connection = "close" } or nil }
    end
  end,
}
local url = "http://127.0.0.1:" .. server:listen { host = "127.0.0.1" }

local function descriptors()
  return #fs.list("/proc/self/fd")
end

local function is_flat(before, after, kib)
  if t.sanitized() then
    t.skip "AddressSanitizer is in this program: its memory is not ours"
  end
  t.ok(after - before < kib, ("RSS: %d KiB, then %d"):format(before, after))
end

local function rss_kib()
  collectgarbage()
  collectgarbage()
  return tonumber(fs.read("/proc/self/status"):match("VmRSS:%s*(%d+)"))
end

local done, failed = 0, 0

-- One generation: new keys, a new client, calls in several lanes.
local function generation(n)
  rotate(n)
  local ec2 = aws.client("ec2", { region = "us-west-2", endpoint_url = url, max_attempts = 8 })
  async.scope(function(s)
    for _ = 1, LANES do
      s:spawn(function()
        for _ = 1, ROTATE // LANES do
          local ok, r = pcall(ec2.describe_instances, ec2, {})
          if not ok or r.Reservations:count() ~= 20 then
            failed = failed + 1
            print("# " .. tostring(r))
          end
          done = done + 1
        end
      end)
    end
  end)
end

t.test("a long life", function()
  local from, n = time.mono(), 0
  local fds, rss
  while done < CALLS do
    n = n + 1
    generation(n)
    -- Pools and arenas are full after a while.
    if not rss and done >= CALLS / 4 then
      fds, rss = descriptors(), rss_kib()
    end
  end
  local fds2, rss2 = descriptors(), rss_kib()
  print(("# soak: %d calls, %d requests, %d pairs of keys, %.1f s, descriptors %d -> %d, "
    .. "RSS %d -> %d KiB"):format(done, seen, nkeys, time.mono() - from, fds, fds2, rss, rss2))
  t.is(failed, 0, "every call succeeds")
  t.is(nkeys, n, "each generation signs with its own key")
  t.ok(seen > done, "some needed another request")
  t.ok(fds2 <= fds + 2, ("descriptors: %d, then %d"):format(fds, fds2))
  is_flat(rss, rss2, 1024)
end)

-- One client whose keys come from a container: some answers say they expire
-- soon, and the service finds some expired before their time.
t.test("keys that come anew", function()
  local issued, expired, asked, refused, with = 0, {}, 0, 0, {}
  local peer = httpd.new {
    on_request = function(req)
      if req.path == "/keys" then
        issued = issued + 1
        -- Nine minutes are too few to be used a second time.
        local left = issued % 3 == 0 and 9 * 60 or 3600
        req:respond { body = json.encode { AccessKeyId = ("ASIASOAK%08d"):format(issued),
          SecretAccessKey = "soak-secret-" .. crypto.hex(crypto.random(20)),
          Token = crypto.base64(crypto.random(600)),
          Expiration = aws.time(math.floor(time.now()) + left) } }
        return
      end
      asked = asked + 1
      local id = req.headers.authorization:match("Credential=(%w+)")
      with[id] = true
      if asked % 97 == 0 then
        expired[id] = true
      end
      if asked % 211 == 0 then
        req:abort "rst"
      elseif expired[id] then
        refused = refused + 1
        req:respond { status = 400, body = "<Response><Errors><Error><Code>RequestExpired</Code>"
          .. "<Message>over</Message></Error></Errors></Response>" }
      else
        req:respond { body = GOOD, headers = asked % 53 == 0 and { Connection = "close" } or nil }
      end
    end,
  }
  local at = "http://127.0.0.1:" .. peer:listen { host = "127.0.0.1" }
  fs.remove(home .. "/.aws/credentials")
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", at .. "/keys")
  local ec2 = aws.client("ec2", { region = "us-west-2", endpoint_url = at, max_attempts = 4 })
  local from, fds, rss = time.mono(), nil, nil
  local calls, bad = 0, 0
  while calls < CALLS do
    async.scope(function(s)
      for _ = 1, LANES do
        s:spawn(function()
          for _ = 1, 25 do
            local ok, r = pcall(ec2.describe_instances, ec2, {})
            if not ok or r.Reservations:count() ~= 20 then
              bad = bad + 1
              print("# " .. tostring(r))
            end
            calls = calls + 1
          end
        end)
      end
    end)
    if not rss and calls >= CALLS / 2 then
      fds, rss = descriptors(), rss_kib()
    end
  end
  local fds2, rss2, used = descriptors(), rss_kib(), 0
  for _ in pairs(with) do
    used = used + 1
  end
  print(("# renewals: %d calls, %d requests, %d refused as expired, keys issued %d times, "
    .. "%d used, %.1f s, descriptors %d -> %d, RSS %d -> %d KiB"):format(calls, asked, refused,
    issued, used, time.mono() - from, fds, fds2, rss, rss2))
  t.is(bad, 0, "every call succeeds")
  t.ok(refused > 0 and issued > refused / LANES, "keys were refused, and got anew")
  t.is(used, issued, "all of them were used")
  t.ok(fds2 <= fds + 2, ("descriptors: %d, then %d"):format(fds, fds2))
  peer:close()
  is_flat(rss, rss2, 2048)
end)

server:close()
return t.done()
