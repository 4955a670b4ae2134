--- For tests with real instances: a state directory with the built base images.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local M = {}

--- Skips the file unless instances can be started here.
function M.need()
  local images = host.getenv "HGAUTO_TEST_IMAGES"
  if fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+(%d+)") ~= "0" then
    t.skip("instances need root")
  elseif not images or not fs.exists(images) then
    t.skip("no base image (hgauto local image build debian13;"
      .. " HGAUTO_TEST_IMAGES=STATE/local/images)")
  elseif not proc.which "hg" then
    t.skip("hg is missing (apt install mercurial)")
  end
end

--- A state directory that uses the built base images (read-only, by links).
-- @return string
function M.state()
  local state = t.tmpdir() .. "/state"
  fs.mkdir(state .. "/local/images", { parents = true, mode = 448 })
  fs.chmod(state, 448)
  local images = fs.realpath(host.getenv "HGAUTO_TEST_IMAGES")
  for _, name in ipairs(fs.list(images)) do
    if name:sub(1, 1) ~= "." then
      fs.symlink(images .. "/" .. name, state .. "/local/images/" .. name)
    end
  end
  if not require("localcloud.images").have(state .. "/local", "debian13") then
    t.skip("HGAUTO_TEST_IMAGES holds no current debian13 (hgauto local image build debian13)")
  end
  return state
end

local CLEAN = { HGRCPATH = "", HGPLAIN = "1", HGUSER = "test <t@localhost>" }

--- Runs hg without anybody's configuration.
-- @param dir string
-- @param ... string
-- @return string its output
function M.hg(dir, ...)
  return proc.run({ "hg", ... }, { cwd = dir, env = CLEAN }).out
end

local function make_standin(change)
  local dir = t.tmpdir() .. "/repo"
  proc.run { "cp", "-a", "tests/data/standin", dir }
  if change then
    change(dir)
  end
  M.hg(dir, "init")
  M.hg(dir, "commit", "-q", "-A", "-m", "stand-in", "-d", "1700000000 0")
  M.hg(dir, "tag", "-d", "1700000000 0", "7.9")
  M.hg(dir, "update", "-q", "7.9")
  return dir
end

local first

--- A repository of the stand-in source, tagged.
-- @param[opt] change function(dir) before the commit
-- @return string
function M.standin(change)
  if change then
    return make_standin(change)
  end
  first = first or make_standin()
  local dir = t.tmpdir() .. "/repo"
  proc.run { "cp", "-a", first, dir }
  return dir
end

--- The program under test.
M.program = host.getenv "HGAUTO"

--- Runs the program in a state directory.
-- @param state string
-- @param words string[]
-- @param[opt] opts table as proc.run
-- @return table
function M.run(state, words, opts)
  opts = opts or {}
  opts.check = false
  opts.timeout = opts.timeout or 300
  return proc.run({ M.program, "--state-path", state, table.unpack(words) }, opts)
end

--- What tests with simulated Windows machines need: no root, no base image.
-- `local state, _d <close> = env.windows()`: its local cloud ends with the scope.
-- @return string state directory
-- @return table closable
function M.windows()
  if not proc.which "hg" then
    t.skip("hg is missing (apt install mercurial)")
  end
  local state = t.tmpdir() .. "/state"
  fs.mkdir(state, { mode = 448 })
  return state, async.defer(function()
    require("localcloud.client").stop { state = state }
  end, 60)
end

local Started = {}
Started.__index = Started
Started.__close = function(self)
  self.p:close()
end

--- Starts the program; its output is followed by reaches and ends.
-- @param state string
-- @param words string[]
-- @param[opt] more table variables of its environment
-- @return table {text=output so far}
function M.start(state, words, more)
  local p = proc.spawn({ M.program, "--state-path", state, table.unpack(words) },
    { stderr = "merge", timeout = 300, env = more })
  return setmetatable({ p = p, text = "" }, Started)
end

--- Follows the output until a pattern was printed; false: it ended before.
-- @param pattern string
-- @return boolean
function Started:reaches(pattern)
  while not self.text:find(pattern) do
    local bytes = self.p:read()
    if not bytes then
      t.diag(self.text)
      return false
    end
    self.text = self.text .. bytes
  end
  return true
end

--- Follows the output to the end.
-- @return integer|string exit code, or the signal that ended it
function Started:ends()
  for bytes in function() return (self.p:read()) end do
    self.text = self.text .. bytes
  end
  local r = self.p:wait()
  return r.code or "signal " .. r.signal
end

--- Instances of a state directory's local cloud that nobody is ending.
-- @param state string
-- @return string[] ids
function M.running(state)
  local ids = {}
  for _, i in ipairs(require("localcloud.client").instances { state = state }) do
    if i.state ~= "terminated" and i.state ~= "shutting-down" then
      ids[#ids + 1] = i.id
    end
  end
  return ids
end

--- Whether within 30 seconds all instances are terminated.
-- @param state string
-- @return boolean
function M.all_end(state)
  return t.eventually(function()
    for _, i in ipairs(require("localcloud.client").instances { state = state }) do
      if i.state ~= "terminated" then
        return false
      end
    end
    return true
  end, 30) == true
end

return M
