--- T=soak: many operations of every sort in one process: memory, descriptors and
--- threads stay as they are once everything was used.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local http = require "hgauto.http"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local sweep = dofile "tests/lib/sweep.lua"

local SIZES = { quick = 200, ci = 500, full = 10000 }

-- What memory may grow by from the second quarter to the last one.
local SHARE, KIB = 0.02, 512

local function figure(name)
  return tonumber(fs.read("/proc/self/status"):match(name .. ":%s*(%d+)"))
end

local function figures()
  collectgarbage()
  collectgarbage()
  return { rss = figure "VmRSS", threads = figure "Threads", fds = #fs.list "/proc/self/fd" }
end

-- The operations; each works on what `w` holds.
local OPS = {
  function(w) -- a creation and its end, with the ledger's rows
    local op = crypto.token()
    w.led:intent { op = op, run = "soak", kind = "volume", place = w.place, token = op,
      req = "", name = "x" }
    w.led:set(op, "live", { id = "vol-" .. op:sub(1, 17) })
    w.led:set(op, "deleting")
    w.led:set(op, "gone")
  end,
  function(w)
    w.ec2:describe_instances {}
  end,
  function(w)
    pcall(w.ec2.describe_volumes, w.ec2, { VolumeIds = { "vol-00000000000000000" } })
  end,
  function(w)
    local id = w.ec2:allocate_address({}).AllocationId
    w.ec2:release_address { AllocationId = id }
  end,
  function(w)
    http.request { url = w.cloud.endpoint_url .. "/", method = "GET", timeout = 10 }
  end,
  function()
    proc.run { "true" }
  end,
  function(w)
    fs.write(w.dir .. "/file", ("x"):rep(1000))
    fs.read(w.dir .. "/file")
    fs.remove(w.dir .. "/file")
  end,
  function()
    json.decode(json.encode { a = { 1, 2, 3 }, b = ("y"):rep(100) })
  end,
  function()
    pcall(async.timeout, 0.001, async.sleep, 1)
    async.map({ 1, 2, 3 }, function(n)
      async.sleep(0)
      return n
    end)
  end,
  function(w)
    w.led:list { run = "none" }
    w.state:run_alive "20200101-0000-aaaa"
  end,
}

local function work(w, from, to)
  async.map({ 0, 1, 2, 3 }, function(lane)
    for n = from + lane, to, 4 do
      OPS[n % #OPS + 1](w)
    end
  end)
end

--- @param o table level="quick"|"ci"|"full", dir=
return function(o)
  local rig <close> = sweep.new(o.dir)
  local state = require("hgauto.state").open(o.dir .. "/state", { create = true })
  local led = state:ledger()
  led:begin_run("soak", "soak")
  local w = { state = state, led = led, cloud = rig.cloud, dir = o.dir,
    place = led:place { partition = "aws", account = "1", region = "us-west-2", endpoint = "" },
    ec2 = aws.client("ec2", { region = rig.cloud.region, endpoint_url = rig.cloud.endpoint_url,
      credentials = { access_key_id = rig.cloud.access_key_id,
        secret_access_key = rig.cloud.secret_access_key } }) }
  local count, at = SIZES[o.level], {}
  for quarter = 1, 4 do
    work(w, (quarter - 1) * count // 4 + 1, quarter * count // 4)
    at[quarter] = figures()
    t.diag("%d operations: RSS %d KiB, %d descriptors, %d threads", quarter * count // 4,
      at[quarter].rss, at[quarter].fds, at[quarter].threads)
  end
  local grown, limit = at[4].rss - at[2].rss, math.max(KIB, at[2].rss * SHARE)
  if not t.sanitized() then
    t.ok(grown <= limit, ("%d operations: memory grew by %d KiB (limit %d)"):format(count, grown,
      limit // 1))
  end
  t.is({ at[4].fds, at[4].threads }, { at[2].fds, at[2].threads }, "descriptors and threads")
  t.ok(fs.stat(state.path .. "/ledger.db").size < 4 << 20, ("the ledger has %d KiB"):format(
    fs.stat(state.path .. "/ledger.db").size // 1024))
  led:close()
  state:close()
  rig:close()
end
