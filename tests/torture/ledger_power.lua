--- T=power: what a disk may hold after a power loss, at any moment.
--
-- A program that writes the ledger, and a whole task, run under strace; from the
-- trace servers/ledger_power makes the images (see there) and opens each.
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local sweep = dofile "tests/lib/sweep.lua"

local CALLS = "openat,write,pwrite64,fdatasync,fsync,ftruncate,rename,renameat,renameat2,link,"
  .. "linkat,unlink,unlinkat,sendto,sendmsg"
local TRACE = { "strace", "-f", "-y", "-xx", "-s", "10000000", "-e", "trace=" .. CALLS, "-o" }

-- Images of the writing program, of a task; operations that the former makes.
local SIZES = { quick = { 150, 50, 6 }, ci = { 1500, 500, 20 }, full = { 9000, 3000, 40 } }

local tool = sweep.program:match("^(.*)/[^/]+$") .. "/servers/ledger_power"

-- A sanitizer cannot look for leaks where somebody traces.
local ENV = { ASAN_OPTIONS = "detect_leaks=0" }

local function traced(trace, argv)
  local words = table.move(TRACE, 1, #TRACE, 1, {})
  words[#words + 1] = trace
  return proc.run(table.move(argv, 1, #argv, #words + 1, words), { timeout = 200, check = false,
    env = ENV })
end

-- Looks at the images; n, failures, operations told, requests.
local function images(dir, state, most, seed, must_fail)
  local r = proc.run({ tool, "images", dir .. "/trace", state, dir .. "/image", tostring(most),
    tostring(seed) }, { timeout = 1200, check = false })
  local n, bad, told, asked = r.out:match(
    "images (%d+), failures (%d+), told (%d+), requests (%d+)")
  if not n then
    error(("%s: %s%s"):format(tool, r.out, r.err), 0)
  end
  if not must_fail then
    for line in r.out:gmatch "trace line[^\n]*" do
      t.diag("%s", line)
    end
  end
  return tonumber(n), tonumber(bad), tonumber(told), tonumber(asked)
end

-- On a file system where a sync costs nothing: what is synced is in the trace.
local function workplace(o)
  local shm = "/dev/shm"
  local top = fs.exists(shm) and fs.tmpdir(shm, "hgauto-power-") or o.dir .. "/power"
  fs.mkdir(top .. "/state", { parents = true, mode = 448 })
  return top
end

local function of_writer(top, size, o, normal)
  local state = top .. (normal and "/normal" or "/state")
  fs.mkdir(state, { parents = true, mode = 448 })
  local r = traced(top .. "/trace", { tool, "write", state, tostring(size[3]), normal })
  t.is(r.code, 0, normal and "a program that does not sync its commits" or "a writing program")
  return images(top, state, size[1], o.seed, normal)
end

local function of_task(top, size, o)
  local rig <close> = sweep.new(o.dir)
  local state, wrapper, program = rig:state(), rig.dir .. "/traced", sweep.program
  fs.write(wrapper, ("#!/bin/sh\nexec %s %s %s \"$@\"\n"):format(table.concat(TRACE, " "),
    top .. "/trace", program), { mode = 448 })
  sweep.program = wrapper
  local ok, r = pcall(rig.run, rig, state, sweep.words "build-linux", ENV)
  sweep.program = program
  if not ok then
    error(r, 0)
  end
  t.is(r.code, 0, "a task")
  local n, bad, _, asked = images(top, state, size[2], o.seed)
  t.is(bad, 0, ("%d images of a task, failures: %d"):format(n, bad))
  t.is(asked, 3, "each of its 3 creating requests left after its intent was durable")
  -- The same as if the log was never synced.
  proc.run { "sh", "-c", 'grep -v "fdatasync(" "$0/trace" >"$0/less" && mv "$0/less" "$0/trace"',
    top }
  local _, missed = images(top, state, size[2], o.seed, true)
  t.ok(missed > 0, ("which without syncs they would not: failures: %d"):format(missed))
  rig:close()
end

--- @param o table level="quick"|"ci"|"full", seed=, dir=
return function(o)
  if not proc.which "strace" then
    t.diag("SKIP: strace is missing (apt install strace)")
    return
  end
  local size, top = SIZES[o.level], workplace(o)
  local _d <close> = require("hgauto.async").defer(function()
    fs.remove(top, { tree = true })
  end)
  local n, bad, told = of_writer(top, size, o)
  t.is(bad, 0, ("%d images, failures: %d"):format(n, bad))
  t.is(told, size[3], "all operations were told")
  local _, missed = of_writer(top, { size[1] // 10, 0, size[3] }, o, "normal")
  t.ok(missed > 0, ("which shows: failures: %d"):format(missed))
  of_task(top, size, o)
end
