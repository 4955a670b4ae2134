--- What a run costs: machines by the hour, and the limit of --max-cost.
local async = require "hgauto.async"
local hg = require "hg"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

local function each_machine(ctx, fn)
  for _, m in ipairs(ctx and ctx.machines or {}) do
    if m.usd_per_hour then
      fn(m)
    end
  end
end

--- USD that the run's machines have cost so far.
-- @param ctx table|nil
-- @param[opt] now number epoch seconds
-- @return number
function M.spent(ctx, now)
  local usd = 0
  each_machine(ctx, function(m)
    local ended = m.ended and time.parse(m.ended) or now or time.now()
    usd = usd + m.usd_per_hour * math.max(0, ended - time.parse(m.started)) / 3600
  end)
  return usd
end

--- USD per hour of what runs now.
-- @param ctx table|nil
-- @return number
function M.rate(ctx)
  local usd = 0
  each_machine(ctx, function(m)
    usd = usd + (m.ended and 0 or m.usd_per_hour)
  end)
  return usd
end

--- Refuses a machine without a price when there is a limit to keep.
-- @param kind string instance type
-- @param os string
-- @return number|nil USD per hour
-- @raise usage
function M.price(kind, os)
  if session.local_cloud then
    return nil
  end
  local usd = hg.prices.hourly(kind, os, session.prices, session.region)
  if not usd and session.max_cost then
    hg.fail { kind = "usage", message = ("--max-cost: no price known for %s/%s in %s"):format(kind,
      os, session.region) }
  end
  return usd
end

--- Body of the task that ends a run at its limit.
-- @param ctx table
-- @param limit number USD
-- @raise cost
-- @waits
function M.watch(ctx, limit)
  while true do
    local spent, rate = M.spent(ctx), M.rate(ctx)
    if spent >= limit then
      hg.fail { kind = "cost",
        message = ("stopped: USD %.2f would pass --max-cost %g"):format(spent, limit) }
    end
    -- As long as nothing else starts, the limit is reached then.
    async.sleep(rate > 0 and math.max(0.05, math.min(10, (limit - spent) / rate * 3600)) or 1)
  end
end

return M
