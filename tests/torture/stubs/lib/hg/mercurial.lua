--- Stand-in for hg.mercurial in sweeps: a source that is there and known.
local fs = require "hgauto.fs"

local M = {}

function M.resolve()
  return { repo = "/nowhere", hg = "hg", node = ("5a"):rep(20), branch = "default", tag = "7.9",
    date = "1700000000 0", user = "a user", description = "a change", phase = "draft" }
end

M.describe = M.resolve

function M.sync()
  return { bytes = 0, seconds = 0 }
end

--- What a revision brings for preparing Windows machines.
function M.cat(_, paths)
  local files = {}
  for _, path in ipairs(paths) do
    files[path] = path:find "%.ps1$" and "Install-Dependencies\nClone-Mercurial-Repo\n" or "{}\n"
  end
  return files
end

function M.public_head() end

function M.bundle_drafts(_, file)
  fs.write(file, "HG20, a bundle")
  return file
end

return M
