-- Scopes, failures, cleanup, waits: every allocation fails once in here.
local async = require "hgauto.async"
local cleaned = 0

local function work(s)
  s:spawn(function()
    local _d <close> = async.defer(function() async.sleep(0) cleaned = cleaned + 1 end)
    async.label("x")
    async.local_set("k", {})
    async.sleep(0.001)
    error("boom")
  end)
  s:spawn(function()
    local _d <close> = async.defer(function() async.sleep(0) error("cleanup") end)
    pcall(async.sleep, 10)
    async.sleep(10)
  end)
  local ev = async.event()
  s:spawn(function() ev:set(1) end)
  ev:wait()
  async.register(setmetatable({}, { __close = function() async.sleep(0) end }))
  local ch = async.channel(1)
  s:spawn(function() for i = 1, 3 do ch:send(i) end ch:close() end)
  for v in function() return ch:recv() end do cleaned = cleaned + v end
  async.timeout(0.001, function() while true do pcall(async.sleep, 1) end end)
end

for _ = 1, 2 do
  local ok, e = pcall(async.scope, work)
  assert(not ok)
  tostring(e)
end
pcall(async.map, { 1, 2, 3 }, function(v) async.sleep(0) return { v } end, { limit = 2 })
pcall(async.interruptible, function() async.shield(1, async.sleep, 0) end)
pcall(coroutine.wrap(function() coroutine.yield(1) end))
local h = async.spawn(function() async.sleep(10) end)
async.sleep(0)
h:cancel("enough")
pcall(h.join, h)
