--- Steps on a Linux machine: preparing it, building, checking artifacts.
local hg = require "hg"

local M = {}

-- Machines of the local cloud see a network only where that was asked for.
local function no_network_hint()
  local cloud = require("hg.session").local_cloud
  if not cloud then
    return nil
  elseif cloud.net then
    return "apt-get update must work on this machine, too"
  end
  return "hgauto local down, then hgauto local up --net gives machines a network"
end

--- Prepares the machine for building and logs in as user hg.
-- @param m table machine
-- @param o table packages=string[] optional=string[] extra=text of a shell script to run as root
-- @raise task the machine lacks packages and cannot get them
-- @waits
function M.bootstrap(m, o)
  local words = { table.unpack(o.packages) }
  if o.optional then
    words[#words + 1] = "--"
    table.move(o.optional, 1, #o.optional, #words + 1, words)
  end
  local r = m:script("bootstrap-debian", words, { sudo = true, check = false, timeout = 1800 })
  if r.code == 20 then
    hg.fail {
      kind = "task", result = r,
      message = r.err:match("machine lacks[^\n]*") or "the machine lacks packages",
      hint = no_network_hint(),
    }
  elseif not r.ok then
    hg.fail { kind = "remote", code = "ExitCode", result = r,
      message = ("bootstrap of %s failed with %s"):format(m.label, r.code or r.signal) }
  end
  m:login("hg")
  if o.extra then
    m:exec({ "sh", "-s" }, { stdin = o.extra, sudo = true, timeout = 3600 })
  end
end

--- Puts the machine's working directory on a file system of its own.
-- @param m table machine
-- @param name string one of hg.facts.filesystems
-- @raise remote the kernel lacks it, the volume is not what was asked for
-- @waits
function M.work_fs(m, name)
  local size = m.volume and m.volume.size_gb and m.volume.size_gb << 30 or 0
  local devices = m.volume and m.volume.devices or {}
  local r = m:script("work-fs", { name, tostring(size), table.unpack(devices) },
    { sudo = true, check = false, timeout = 900 })
  if not r.ok then
    hg.fail { kind = "task", result = r, message = r.err:match("work%-fs: ([^\n]*)\n*$")
      or ("the file system %s could not be made"):format(name) }
  end
end

-- ---- building -----------------------------------------------------------------------

--- The version of a Debian package for one of Mercurial's: pre-releases sort
--- before the release, what follows a release after it.
-- @param version string "7.0.1.post1.dev3+hb9670a9"
-- @param suite string "trixie"
-- @return string "7.0.1+post1.dev3.hb9670a9~trixie1"
function M.debian_version(version, suite)
  local v = version:gsub("^([%d.]*%d)([abr]c?%d)", "%1~%2", 1)
  v = v:gsub("%.post", "+post", 1):gsub("%+h", ".h", 1)
  return ("%s~%s1"):format(v, suite)
end

-- The Debian package, with our own packaging: one package with everything.
local function build_deb(m, out, node)
  local upstream = m:exec({ "python3", "-m", "setuptools_scm" },
    { cwd = m.src, quiet = true, timeout = 300 }).out:match("%S+")
  if not upstream then
    hg.fail { kind = "task", message = "the source does not tell its version (setuptools-scm)" }
  end
  local fact = hg.facts.images[m.distro]
  local suite = fact.suite or fact.codename
  m:script("deb", { hg.linux.debian_version(upstream, suite), node, suite, out,
    m:upload_tree("debian"), upstream }, { cwd = m.src, timeout = 7200 })
  return upstream
end

--- Builds one artifact and returns its remote path.
-- @param m table machine
-- @param kind string "wheel", "sdist" or "deb"
-- @param o table node=string isolation="auto"|"yes"|"no" manylinux=boolean
-- @return table {kind, path, name, version}
-- @raise remote the build failed; task not exactly one file of the right name
-- @waits
function M.build(m, kind, o)
  local out = m.work .. "/out/" .. kind
  local version
  if kind == "deb" then
    version = build_deb(m, out, o.node)
  else
    local requires = m:upload_script("build_requires.py")
    m:script("build", { kind, out, o.node, o.isolation or "auto", requires },
      { cwd = m.src, timeout = 7200 })
    if kind == "wheel" and o.manylinux then
      m:script("manylinux", { out }, { timeout = 600 })
    end
  end
  local found = {}
  for _, entry in ipairs(m:list(out)) do
    found[#found + 1] = entry.name
  end
  local named = found[1] and found[1]:match(hg.facts.artifacts[kind])
  if #found ~= 1 or not named then
    hg.fail { kind = "task", message = ("%s: expected one file like mercurial-VERSION…, found %s")
      :format(kind, #found > 0 and table.concat(found, ", ") or "nothing") }
  end
  return { kind = kind, path = out .. "/" .. found[1], name = found[1],
    version = version or named }
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
