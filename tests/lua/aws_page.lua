-- Automatic paging as botocore does it: oracle/paginators.*.json of the shared
-- cases, answers given by a before_call hook.
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local t = require "hg.tap"

local root = host.getenv("HGAUTO_VECTORS") or "../shared/vectors"
if not fs.exists(root .. "/aws/oracle/paginators.0.json") then
  t.skip("no third-party cases (HGAUTO_VECTORS)")
  return t.done()
end

local known, clients = {}, {}
for _, name in ipairs(aws.services()) do
  known[name] = true
end

local function client(service)
  clients[service] = clients[service] or aws.client(service, {
    region = "us-west-2", validate = false,
    credentials = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "canary-secret" },
  })
  return clients[service]
end

local function same(a, b)
  if a == json.null then
    a = nil
  end
  if b == json.null then
    b = nil
  end
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for k, v in pairs(a) do
    if not same(v, rawget(b, k)) then
      return false
    end
  end
  for k, v in pairs(b) do
    if rawget(a, k) == nil and v ~= json.null then
      return false
    end
  end
  return true
end

local function token_of(text)
  return text and json.decode(crypto.unbase64(text))
end

-- Our result also has what the first page says beside the lists; theirs has
-- the keys that are merged, those of the first page, and the token.
local function result_fits(got, want)
  for key, value in pairs(want) do
    if key ~= "NextToken" and not same(rawget(got, key), value) then
      return false, key
    end
  end
  if not same(token_of(rawget(got, "NextToken")), token_of(rawget(want, "NextToken"))) then
    return false, "NextToken"
  end
  return true
end

local function run_case(c)
  local api, requests = client(c.service), {}
  local off = api:on("before_call", function(ctx)
    local params = {}
    for k, v in pairs(ctx.params) do
      params[k] = v
    end
    requests[#requests + 1] = params
    return json.decode(json.encode(c.pages[#requests] or c.pages[#c.pages]))
  end)
  local ok, got = pcall(api.call, api, c.operation, { PaginationConfig = c.config })
  off()
  if not ok then
    return false, tostring(got)
  end
  local fits, key = result_fits(got, c.expect.result)
  if not fits then
    return false, "result " .. key .. ": " .. json.encode(got)
  end
  if not same(requests, c.expect.requests) then
    return false, "requests: " .. json.encode(requests)
  end
  return true
end

t.test("paginators", function()
  local total, good, skipped = 0, 0, 0
  for i = 0, 9 do
    local path = ("%s/aws/oracle/paginators.%d.json"):format(root, i)
    if fs.exists(path) then
      for _, c in ipairs(json.decode(fs.read(path, { max = 1 << 26 })).cases) do
        if known[c.service] then
          total = total + 1
          local ok, why = run_case(c)
          good = good + (ok and 1 or 0)
          if not ok then
            print("# FAIL " .. c.caseId .. ": " .. why:sub(1, 300))
          end
        else
          skipped = skipped + 1
        end
      end
    end
  end
  print(("# aws paginators %d/%d (%d of services without model)"):format(good, total, skipped))
  t.ok(total + skipped > 0 and good == total, "every case passes")
end)

return t.done()
