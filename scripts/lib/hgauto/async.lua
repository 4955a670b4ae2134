--- Concurrency: tasks, scopes, timeouts, cleanup.  C half: hgauto.async.core.
local M = require "hgauto.async.core"
local host = require "hgauto.host"

local function check_options(opts)
  for key in pairs(opts) do
    if key ~= "limit" and key ~= "keep_going" then
      error(host.error {
        kind = "usage", code = "UnknownOption",
        message = ("async.map: unknown option %s"):format(tostring(key)),
      }, 0)
    end
  end
end

local function check_limit(limit)
  if math.type(limit) ~= "integer" or limit < 1 then
    error(host.error {
      kind = "usage", code = "OptionType",
      message = "async.map: option limit must be an integer from 1",
    }, 0)
  end
  return limit
end

--- Calls fn(item, index) for each item of a list, several at a time.
-- @param list table
-- @param fn function its first result is kept
-- @param opts.limit integer tasks at a time, default 8
-- @param opts.keep_going boolean failures do not stop the others
-- @return table results by index
-- @return table|nil with keep_going: errors by index (empty when all went well)
-- @raise the first failure, unless keep_going
-- @waits
-- @example local sums = async.map(files, fs.sha256, { limit = 4 })
function M.map(list, fn, opts)
  opts = opts or {}
  check_options(opts)
  local limit = check_limit(opts.limit or 8)
  local results, errors, n, next_index = {}, {}, #list, 0
  local function one(i)
    if not opts.keep_going then
      results[i] = fn(list[i], i)
      return
    end
    -- A scope of its own, so that tasks of the item are its, too.
    local good, r = pcall(M.scope, function()
      return fn(list[i], i)
    end)
    if good then
      results[i] = r
    elseif M.cancelled() then
      error(r, 0)
    else
      errors[i] = r
    end
  end
  M.scope(function(s)
    for _ = 1, math.min(limit, n) do
      s:spawn(function()
        while next_index < n do
          next_index = next_index + 1
          one(next_index)
        end
      end)
    end
  end)
  if opts.keep_going then
    return results, errors
  end
  return results
end

-- Other words for the same.
M.own = M.register
M.disown = M.release

return M
