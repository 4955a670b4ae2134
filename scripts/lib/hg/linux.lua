--- Steps on a Linux machine: preparing it, building, checking artifacts.
local hg = require "hg"

local M = {}

--- Prepares the machine for building and logs in as user hg.
-- @param m table machine
-- @param o table packages=string[]
-- @raise task the machine lacks packages and cannot get them
-- @waits
function M.bootstrap(m, o)
  local r = m:script("bootstrap-debian", o.packages, { sudo = true, check = false, timeout = 1800 })
  if r.code == 20 then
    hg.fail {
      kind = "task", result = r,
      message = r.err:match("machine lacks[^\n]*") or "the machine lacks packages",
      hint = m.simulated_network and "hgauto local image build debian13" or nil,
    }
  elseif not r.ok then
    hg.fail { kind = "remote", code = "ExitCode", result = r,
      message = ("bootstrap of %s failed with %s"):format(m.label, r.code or r.signal) }
  end
  m:login("hg")
end

--- Builds one artifact and returns its remote path.
-- @param m table machine
-- @param kind string "wheel" or "sdist"
-- @param o table node=string isolation="auto"|"yes"|"no"
-- @return table {kind, path, name, version}
-- @raise remote the build failed; task not exactly one file of the right name
-- @waits
function M.build(m, kind, o)
  local out = m.work .. "/out/" .. kind
  local requires = m:upload_script("build_requires.py")
  m:script("build", { kind, out, o.node, o.isolation or "auto", requires },
    { cwd = m.src, timeout = 7200 })
  local found = {}
  for _, entry in ipairs(m:list(out)) do
    found[#found + 1] = entry.name
  end
  local version = found[1] and found[1]:match(hg.facts.artifacts[kind])
  if #found ~= 1 or not version then
    hg.fail { kind = "task", message = ("%s: expected one file like mercurial-VERSION…, found %s")
      :format(kind, #found > 0 and table.concat(found, ", ") or "nothing") }
  end
  return { kind = kind, path = out .. "/" .. found[1], name = found[1], version = version }
end

--- Checks an artifact on the machine.
-- @param m table machine
-- @param artifact table from build
-- @return string version
-- @raise task it does not work or its version differs from its name
-- @waits
function M.verify(m, artifact)
  local r = m:script("verify", { artifact.kind, artifact.path }, { quiet = true, timeout = 600 })
  local version = ("\n" .. r.out):match("\nversion (%S+)\n")
  if version ~= artifact.version then
    hg.fail { kind = "task", message = ("%s says it is version %s"):format(artifact.name,
      tostring(version)) }
  end
  return version
end

return M
