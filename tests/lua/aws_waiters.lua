-- Waiters through the Lua API as botocore's: oracle/waiters.json of the shared
-- cases, answers given by a before_call hook, pauses left out.
local aws = require "hgauto.aws"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local t = require "hg.tap"

local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "canary-secret" }
local path = (host.getenv("HGAUTO_VECTORS") or "../shared/vectors") .. "/aws/oracle/waiters.json"

local function client(service)
  return aws.client(service, { region = "us-west-2", validate = false, credentials = CREDS })
end

-- Answers one after the other; the last one again and again.
local function script(c, answers)
  local calls = 0
  c:on("before_call", function()
    calls = calls + 1
    local r = answers[math.min(calls, #answers)]
    if r.Error then
      error(host.error { kind = "aws", code = r.Error.Code, message = r.Error.Message,
        status = r.ResponseMetadata.HTTPStatusCode, response = r }, 0)
    end
    return r
  end)
  return function()
    return calls
  end
end

local function run(case)
  local c = client(case.service)
  local calls = script(c, case.responses)
  local ok, got, info = pcall(c.wait, c, case.name, {},
    { delay = 0, max_attempts = case.config.MaxAttempts })
  local want = case.expect
  if calls() ~= want.calls then
    return "calls: " .. calls()
  elseif ok ~= (want.outcome == "success") then
    return "outcome: " .. tostring(got)
  elseif not ok and got.message ~= want.message then
    return got.message
  elseif ok and info.attempts ~= want.calls then
    return "attempts: " .. tostring(info.attempts)
  end
  return nil
end

local known = {}
for _, name in ipairs(aws.services()) do
  known[name] = true
end

if fs.exists(path) then
  t.test("the shared cases", function()
    local good, total = 0, 0
    for _, case in ipairs(json.decode(fs.read(path)).cases) do
      if known[case.service] then
        total = total + 1
        local bad = run(case)
        if bad then
          print(("# FAIL %s: %s"):format(case.caseId, bad))
        else
          good = good + 1
        end
      end
    end
    print(("# aws waiters (Lua) %d/%d"):format(good, total))
    t.ok(total > 0 and good == total, "pass")
  end)
else
  t.skip("no third-party cases (HGAUTO_VECTORS)")
end

t.test("polls that say nothing", function()
  local RUNNING = { Reservations = { { Instances = { { State = { Name = "stopping" } } } } } }
  local STOPPED = { Reservations = { { Instances = { { State = { Name = "stopped" } } } } } }
  local c = client("ec2")
  local n = 0
  c:on("before_call", function()
    n = n + 1
    if n <= 6 then
      error(host.error { kind = "aws", code = "RequestLimitExceeded", message = "slow",
        retryable = true, throttling = true }, 0)
    end
    return n == 7 and RUNNING or STOPPED
  end)
  local told = {}
  local last, info = c:wait("instance_stopped", {}, { delay = 0.02, timeout = 5, max_attempts = 2,
    on_poll = function(r, e, i, seconds)
      told[i] = { r ~= nil, e ~= nil, seconds >= 0 }
    end })
  t.is(last, STOPPED, "do not count")
  t.is(info.attempts, 8, "but are told")
  t.is(told[1], { false, true, true }, "as errors")
  t.is(told[8], { true, false, true }, "and answers")
  n = -1000
  local e = t.raises(function()
    c:wait("instance_stopped", {}, { delay = 0.02, max_attempts = 3 })
  end, { code = "WaiterTimeout" }, "they end with the time")
  t.ok(e.attempts >= 3 and e.attempts < 20, "of all attempts")
  t.is(e.cause.code, "RequestLimitExceeded", "with the last error")
end)

return t.done()
