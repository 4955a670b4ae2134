--- Stand-in for hg.mercurial in sweeps: a source that is there and known.
local M = {}

function M.resolve()
  return { repo = "/nowhere", hg = "hg", node = ("5a"):rep(20), branch = "default", tag = "7.9" }
end

function M.sync()
  return { bytes = 0, seconds = 0 }
end

return M
