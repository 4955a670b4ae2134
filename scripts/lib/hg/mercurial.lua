--- Mercurial's source: finding or importing it, sending it to a machine.
--
-- In the user's repository only log, cat, diff, status and bundle are run;
-- nothing in it, nor any configuration of his, is changed.
local hg = require "hg"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local out = require "hg.output"
local proc = require "hgauto.proc"
local session = require "hg.session"

local M = {}

-- ---- running hg here ----------------------------------------------------------

-- strictflags: no value can be taken for --config and the like.
local PLAIN = { HGPLAIN = "+strictflags" }
local CLEAN = { HGRCPATH = "", HGPLAIN = "+strictflags", HGENCODING = "utf-8", TZ = "UTC" }

-- Words before the command with a repository: -R PATH.
local function run_hg(cmd, args, o)
  local r = proc.run({ cmd, table.unpack(args) }, {
    cwd = o.cwd, env = o.env or PLAIN, check = false, timeout = o.timeout or 600,
    max_output = 64 * 1024 * 1024,
  })
  local name = args[1]:sub(1, 1) == "-" and args[3] or args[1]
  if not r.ok and not (o.accept and o.accept[r.code]) then
    local why = r.err:match("abort: [^\n]*") or r.err:match("[^\n]+")
      or ("exit " .. tostring(r.code))
    hg.fail { kind = o.kind or "task", exit = o.exit, result = r,
      message = ("hg %s: %s"):format(name, why) }
  elseif r.truncated then
    hg.fail { kind = "task", message = ("hg %s: more than 64 MiB of output"):format(name) }
  end
  return r
end

local function need_hg(cmd)
  if not proc.which(cmd) then
    hg.fail { kind = "usage",
      message = ("Mercurial is needed here, but there is no %s"):format(cmd),
      hint = "apt install mercurial, or name it with --hg PATH" }
  end
end

-- ---- where the source is --------------------------------------------------------

local function none()
  hg.fail { kind = "usage", message = "no Mercurial source here",
    hint = "--source DIR, TARBALL or apt" }
end

local function has_source(dir)
  return fs.exists(dir .. "/setup.py") and fs.exists(dir .. "/mercurial")
end

local function upward(dir, test)
  while true do
    if test(dir) then
      return dir
    end
    local parent = dir:match("^(.*)/[^/]+$")
    if not parent or dir == "/" then
      return nil
    end
    dir = parent == "" and "/" or parent
  end
end

local function checkout_of(dir)
  return upward(fs.realpath(dir), function(d)
    return fs.exists(d .. "/.hg")
  end)
end

-- ---- apt ------------------------------------------------------------------------

-- The Debian archive that this machine's apt uses.
local function archive_uri()
  local r = proc.run({ "apt-get", "indextargets", "--format",
    "$(REPO_URI)|$(ORIGIN)|$(LABEL)", "Created-By: Packages" }, { check = false, timeout = 60 })
  for uri, origin, label in r.out:gmatch("([^|\n]+)|([^|\n]*)|([^|\n]*)") do
    if origin == "Debian" and label == "Debian" then
      return uri
    end
  end
  for _, file in ipairs { "/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources" } do
    if fs.exists(file) then
      for line in fs.read(file):gmatch("[^\n]+") do
        local uri = line:match("^deb%s.-(%a[%w+.-]*:/%S+)") or line:match("^URIs:%s*(%S+)")
        if uri and not uri:find("security", 1, true) then
          return uri
        end
      end
    end
  end
  hg.fail { kind = "task", message = "--source apt: found no Debian archive in apt's sources" }
end

local function apt_config(dir, suite)
  local ring = "/usr/share/keyrings/debian-archive-keyring.gpg"
  for _, d in ipairs { "/lists/partial", "/state", "/cache/archives/partial" } do
    fs.mkdir(dir .. d, { parents = true })
  end
  fs.write(dir .. "/status", "")
  fs.write(dir .. "/sources.list", ("deb-src %s%s %s main\n"):format(
    fs.exists(ring) and ("[signed-by=" .. ring .. "] ") or "", archive_uri(), suite))
  local conf = dir .. "/apt.conf"
  local lines = {}
  for _, kv in ipairs {
    { "Dir::Etc::sourcelist", dir .. "/sources.list" }, { "Dir::Etc::sourceparts", "/dev/null" },
    { "Dir::Etc::preferences", "/dev/null" }, { "Dir::Etc::preferencesparts", "/dev/null" },
    { "Dir::State", dir .. "/state" }, { "Dir::State::lists", dir .. "/lists" },
    { "Dir::State::status", dir .. "/status" }, { "Dir::Cache", dir .. "/cache" },
    { "APT::Sandbox::User", "" }, { "Acquire::Languages", "none" }, { "Acquire::Retries", "3" },
  } do
    lines[#lines + 1] = ('%s "%s";\n'):format(kv[1], kv[2])
  end
  fs.write(conf, table.concat(lines))
  return conf
end

local function orig_of(dir)
  if not fs.exists(dir .. "/src") then
    return nil
  end
  for _, name in ipairs(fs.list(dir .. "/src")) do
    if name:match("^mercurial_.*%.orig%.tar%.%a+$") then
      return dir .. "/src/" .. name
    end
  end
  return nil
end

-- Runs fn with a new directory PREFIX… in parent that is removed afterwards;
-- those of killed processes go, too (the caller holds a lock).
local function with_tmpdir(parent, prefix, fn)
  for _, name in ipairs(fs.list(parent)) do
    if name:sub(1, #prefix) == prefix then
      fs.remove(parent .. "/" .. name, { tree = true })
    end
  end
  local tmp = fs.tmpdir(parent, prefix)
  local ok, err = pcall(fn, tmp)
  fs.remove(tmp, { tree = true })
  if not ok then
    error(err, 0)
  end
end

local function download(dir, tmp, suite)
  local env = { APT_CONFIG = apt_config(dir, suite) }
  for _, argv in ipairs {
    { "apt-get", "-q", "update" },
    { "apt-get", "-q", "source", "--download-only", "mercurial" },
  } do
    local r = proc.run(argv, { env = env, cwd = tmp, check = false, timeout = 900 })
    if not r.ok then
      hg.fail { kind = "net", result = r, message = ("--source apt: %s failed: %s"):format(
        argv[3], r.err:match("E: ([^\n]+)") or r.err:match("[^\n]+") or "no reason given"),
        hint = "give a checkout or a release tarball" }
    end
  end
end

-- The upstream tarball of apt's source package; downloaded once per suite.
-- apt writes to the final name at once, so a directory that is renamed when all
-- is there tells what apt has verified.
local function from_apt(suite)
  if not proc.which("apt-get") then
    hg.fail { kind = "usage",
      message = "--source apt needs apt-get; give a checkout or a release tarball" }
  end
  local dir = session.state.path .. "/cache/apt-src/" .. suite
  fs.mkdir(dir, { parents = true })
  local _lock <close> = fs.lock(dir .. "/lock", { wait = 600 })
  local have = orig_of(dir)
  if have then
    return have
  end
  out.note("fetching Mercurial's source package of " .. suite .. " by apt")
  with_tmpdir(dir, "src.tmp-", function(tmp)
    download(dir, tmp, suite)
    fs.remove(dir .. "/src", { tree = true })
    fs.rename(tmp, dir .. "/src")
  end)
  return orig_of(dir) or hg.fail { kind = "task", message = "--source apt: no .orig.tar came" }
end

-- ---- import -----------------------------------------------------------------------

-- A repository inside would bring its own configuration, which hg obeys.
local JUNK = { "PKG-INFO", "setup.cfg", "mercurial/__version__.py", "mercurial/__modulepolicy__.py",
  "hgext/__index__.py", "build", "dist", ".git", ".hg", ".pc" }

local function told_version(dir, name, hint)
  if fs.exists(dir .. "/PKG-INFO") then
    local v = fs.read(dir .. "/PKG-INFO"):match("\nVersion: ([^\r\n]+)")
    if v then
      return v
    end
  end
  if fs.exists(dir .. "/mercurial/__version__.py") then
    local v = fs.read(dir .. "/mercurial/__version__.py"):match("version = b?['\"]([^'\"]+)")
    if v then
      return v
    end
  end
  local v = name and name:match("^mercurial[-_](%d[%w.+]*)")
  if v then
    return (v:gsub("%.orig$", ""):gsub("%.orig%.tar.*$", ""):gsub("%.tar.*$", "")
      :gsub("%.tgz$", ""))
  end
  return hint
end

local function version_of(dir, name, hint)
  local v = told_version(dir, name, hint)
  if not v then
    hg.fail { kind = "usage", message = "cannot tell the version of this source",
      hint = "--version-hint 7.0.1" }
  elseif not v:find("^%d[%w.+_-]*$") or #v > 100 then
    -- It becomes a tag, a word on a command line.
    hg.fail { kind = "usage", message = ("this source has an odd version: %s"):format(v) }
  end
  return v
end

-- --force-local: a colon in the path does not name another machine.
local TAR = { "tar", "--force-local" }

local function unpack_tar(file, dir)
  local list = proc.run({ TAR[1], TAR[2], "-tf", file }, { check = false, timeout = 300,
    max_output = 64 * 1024 * 1024 })
  if not list.ok or list.truncated then
    hg.fail { kind = "usage", message = ("%s: not a readable archive (%s)"):format(file,
      list.err:match("[^\n]+") or "tar failed") }
  end
  for name in list.out:gmatch("[^\n]+") do
    if name:sub(1, 1) == "/" or ("/" .. name .. "/"):find("/../", 1, true) then
      hg.fail { kind = "usage", message = ("%s: refused, it names %s"):format(file, name) }
    end
  end
  local r = proc.run({ TAR[1], TAR[2], "-xf", file, "-C", dir, "--no-same-owner" },
    { check = false, timeout = 600 })
  if not r.ok then
    hg.fail { kind = "usage", message = ("%s: cannot be unpacked (%s)"):format(file,
      r.err:match("[^\n]+") or "tar failed") }
  end
  local top = fs.list(dir)
  if #top == 1 and fs.lstat(dir .. "/" .. top[1]).type == "dir" then
    return dir .. "/" .. top[1], top[1]
  end
  return dir, nil
end

local function find_all(dir, words)
  return proc.run({ "find", dir, table.unpack(words) },
    { timeout = 300, max_output = 64 * 1024 * 1024 }).out
end

local function newest_mtime(dir)
  local newest = 0
  for t in find_all(dir, { "-type", "f", "-printf", "%T@\n" }):gmatch("(%d+)[%d.]*\n") do
    newest = math.max(newest, math.tointeger(t))
  end
  return newest
end

-- Whether a link at PATH (relative) leads out of the tree, by its text alone.
local function leaves(path, target)
  local _, depth = path:gsub("/", "")
  if target:sub(1, 1) == "/" then
    return true
  end
  for part in target:gmatch("[^/]+") do
    depth = depth + (part == ".." and -1 or part == "." and 0 or 1)
    if depth < 0 then
      return true
    end
  end
  return false
end

-- Only files, directories, and links that stay inside.
local function check_tree(dir)
  local text = find_all(dir, { "-not", "-type", "f", "-not", "-type", "d", "-printf",
    "%P\\0%y\\0%l\\0" })
  for path, kind, target in text:gmatch("(%Z*)%z(%Z*)%z(%Z*)%z") do
    if kind ~= "l" then
      hg.fail { kind = "usage",
        message = ("refused, %s is neither file nor directory"):format(path) }
    elseif leaves(path, target) then
      hg.fail { kind = "usage",
        message = ("refused, the link %s leads to %s"):format(path, target) }
    end
  end
end

-- Makes a repository of an unpacked tree: one commit and its tag, nodes that
-- depend on the content only.
local function commit_tree(cmd, dir, version)
  local date = ("%d 0"):format(newest_mtime(dir))
  for _, name in ipairs(JUNK) do
    fs.remove(dir .. "/" .. name, { tree = true })
  end
  for _, name in ipairs(fs.list(dir)) do
    if name:match("%.egg%-info$") then
      fs.remove(dir .. "/" .. name, { tree = true })
    end
  end
  local who = "hgauto import <hgauto@localhost>"
  -- A .hgsub among the files stays one file: nothing is fetched for it.
  local o = { cwd = dir, env = CLEAN, accept = {} }
  local function run(...)
    run_hg(cmd, { "--config", "subrepos.allowed=no", ... }, o)
  end
  run("init")
  run("add", "-q")
  run("commit", "-q", "-m", "import of mercurial-" .. version, "-u", who, "-d", date)
  run("tag", "-u", who, "-d", date, "--", version)
  o.accept[1] = true
  run("phase", "-q", "-p", "-r", "all()")
  o.accept[1] = nil
  run("update", "-q", "-r", version)
end

local function directory_key(dir)
  local list = {}
  local text = find_all(dir, { "-type", "f", "-printf", "%P\\0%m\\0" })
  for path, mode in text:gmatch("(%Z*)%z(%d+)%z") do
    local x = tonumber(mode, 8) & 73 ~= 0 and "x" or "-"
    list[#list + 1] = ("%s\t%s\t%s"):format(path, x, fs.sha256(dir .. "/" .. path))
  end
  text = find_all(dir, { "-type", "l", "-printf", "%P\\0%l\\0" })
  for path, target in text:gmatch("(%Z*)%z(%Z*)%z") do
    list[#list + 1] = ("%s\tl\t%s"):format(path, target)
  end
  table.sort(list)
  return crypto.sha256(table.concat(list, "\n"))
end

local function not_source(path)
  hg.fail { kind = "usage", hint = "--source DIR, TARBALL or apt",
    message = ("%s is no Mercurial source (no setup.py and mercurial/)"):format(path) }
end

-- The tree of an archive or a copy of a directory below tmp, and its own name.
local function unpack(path, is_dir, tmp)
  if not is_dir then
    return unpack_tar(path, tmp)
  end
  proc.run({ "cp", "-a", "--", path .. "/.", tmp }, { timeout = 600 })
  return tmp, path:match("[^/]+$")
end

local function import(o, path, is_dir)
  if not is_dir and fs.stat(path).type ~= "file" then
    hg.fail { kind = "usage", message = ("--source %s: neither file nor directory"):format(path) }
  end
  local content = is_dir and directory_key(path) or fs.sha256(path)
  local key = (o.version_hint and crypto.sha256(content .. " " .. o.version_hint) or content)
    :sub(1, 16)
  local cache = session.state.path .. "/cache/source"
  fs.mkdir(cache, { parents = true })
  local final = cache .. "/" .. key
  local _lock <close> = fs.lock(cache .. "/" .. key .. ".lock", { wait = 600 })
  if fs.exists(final .. "/repo/.hg") then
    return final .. "/repo"
  end
  need_hg(o.hg)
  out.note(("importing %s"):format(path:match("[^/]+$")))
  with_tmpdir(cache, key .. ".tmp-", function(tmp)
    fs.mkdir(tmp .. "/x")
    local tree, name = unpack(path, is_dir, tmp .. "/x")
    check_tree(tree)
    if not has_source(tree) then
      not_source(path)
    end
    commit_tree(o.hg, tree, version_of(tree, name or path:match("[^/]+$"), o.version_hint))
    fs.mkdir(tmp .. "/final")
    fs.rename(tree, tmp .. "/final/repo")
    fs.rename(tmp .. "/final", final)
  end)
  return final .. "/repo"
end

local function find_repo(o)
  local s = o.source
  if not s then
    local here = upward(fs.cwd(), function(d)
      return has_source(d) and (fs.exists(d .. "/.hg") or fs.exists(d .. "/setup.py"))
    end)
    if not here then
      none()
    end
    return checkout_of(here) or import(o, here, true)
  end
  local suite = s == "apt" and hg.facts.images[hg.facts.default_image].suite
    or s:match("^apt:(%a[%w-]*)$")
  if suite then
    return import(o, from_apt(suite), false)
  end
  if s:sub(1, 2) == "~/" then
    s = fs.home() .. s:sub(2)
  end
  if not fs.exists(s) then
    hg.fail { kind = "usage", message = ("--source %s: no such file or directory"):format(s),
      hint = "--source DIR, TARBALL or apt" }
  end
  s = fs.realpath(s)
  if fs.stat(s).type == "dir" then
    local repo = checkout_of(s)
    if not repo and not has_source(s) then
      not_source(s)
    end
    return repo or import(o, s, true)
  end
  return import(o, s, false)
end

-- ---- revision -----------------------------------------------------------------------

local TEMPLATE = "{node}\\0{branch}\\0{date|hgdate}\\0{latesttag}\\0{latesttagdistance}\\0"
  .. "{phase}\\0{desc|firstline}\\0"

local function split0(text)
  local list = {}
  for part in text:gmatch("([^%z]*)%z") do
    list[#list + 1] = part
  end
  return list
end

-- Which of these files a revision has, with their contents.
local function cat(o, repo, node, paths)
  local args = { "-R", repo, "cat", "-r", node, "-T", "{path}\\0{data}\\0" }
  for _, path in ipairs(paths) do
    args[#args + 1] = "path:" .. path
  end
  local files, f = {}, split0(run_hg(o.hg, args, { accept = { [1] = true } }).out)
  for i = 1, #f, 2 do
    files[f[i]] = f[i + 1]
  end
  return files
end

local function check_supported(o, repo, source)
  local files = cat(o, repo, source.node, { "pyproject.toml", "mercurial/hg.py" })
  if not files["mercurial/hg.py"] then
    hg.fail { kind = "usage", message = ("%s is no Mercurial source (no mercurial/hg.py in %s)")
      :format(repo, source.node:sub(1, 12)) }
  end
  if not (files["pyproject.toml"] or ""):find("setuptools[-_]scm") then
    hg.fail { kind = "usage", message = ("revision %s predates 7.0 (no setuptools-scm in"
      .. " pyproject.toml)"):format(source.tag or source.node:sub(1, 12)) }
  end
end

-- The release tag among the tags of one changeset.
local function release_tag(tags)
  for tag in tags:gmatch("[^:]+") do
    if tag:find("^%d[%w.]*$") then
      return tag
    end
  end
  return nil
end

-- What --dirty carries are changes against the revision, so it must be the parent.
local function check_dirty(o, repo, source)
  local r = run_hg(o.hg, { "-R", repo, "log", "-r", "p1() + p2()", "-T", "{node}\n" }, {})
  if r.out ~= source.node .. "\n" then
    hg.fail { kind = "usage", message = "--dirty needs the working directory's one parent as"
      .. " revision" }
  end
end

--- Finds the source and exactly one revision of it.
-- @param o table source revision dirty hg version_hint
-- @return table {repo, node, branch, date, tag, latest_tag, distance, description, hg, dirty}
-- @raise usage no source, unknown or unsupported revision
-- @waits
function M.resolve(o)
  need_hg(o.hg)
  local repo = find_repo(o)
  local r = run_hg(o.hg, { "-R", repo, "log", "--rev=" .. o.revision, "-T", TEMPLATE },
    { kind = "usage", exit = 2 })
  local f = split0(r.out)
  if #f == 0 then
    hg.fail { kind = "usage", message = ("revision %s: no changeset"):format(o.revision) }
  elseif #f > 7 then
    hg.fail { kind = "usage", message = ("revision %s: %d changesets, need exactly one")
      :format(o.revision, #f // 7) }
  end
  local source = { repo = repo, node = f[1], branch = f[2], date = f[3], description = f[7],
    hg = o.hg, dirty = o.dirty, tag = f[5] == "0" and release_tag(f[4]) or nil,
    latest_tag = release_tag(f[4]), distance = math.tointeger(tonumber(f[5])) }
  check_supported(o, repo, source)
  if o.dirty then
    check_dirty(o, repo, source)
  elseif o.revision == "." then
    local status = run_hg(o.hg, { "-R", repo, "diff", "--stat" }, {})
    if status.out:match("%S") then
      out.warn("uncommitted changes are not sent (--dirty sends them)")
    end
  end
  out.note(require("hgauto.term").filter(("%s %s %s"):format(source.node:sub(1, 12),
    source.tag or "", source.description)))
  return source
end

--- Files of a source's revision, never of its working directory.
-- @param source table from resolve
-- @param paths string[]
-- @return table path -> contents of those it has
-- @waits
function M.cat(source, paths)
  return cat({ hg = source.hg }, source.repo, source.node, paths)
end

--- The newest public changeset of a source's repository.
-- @param source table from resolve
-- @return table|nil as from resolve
-- @waits
function M.public_head(source)
  local r = run_hg(source.hg, { "-R", source.repo, "log", "-r", "max(public())", "-T", "{node}" },
    {})
  return r.out ~= "" and { repo = source.repo, hg = source.hg, node = r.out } or nil
end

--- A changeset of a checkout, whatever Mercurial's version in it.
-- @param o table source=directory revision hg
-- @return table {repo, node, branch, user, description, phase, hg}
-- @raise usage no checkout, unknown revision
-- @waits
function M.describe(o)
  need_hg(o.hg)
  local at = o.source or fs.cwd()
  local repo = fs.exists(at) and upward(fs.realpath(at), function(d)
    return fs.exists(d .. "/.hg")
  end)
  if not repo then
    hg.fail { kind = "usage", message = ("%s is in no Mercurial checkout"):format(at),
      hint = "--source DIR" }
  end
  local r = run_hg(o.hg, { "-R", repo, "log", "--rev=" .. o.revision, "-T",
    "{node}\\0{branch}\\0{user}\\0{desc}\\0{phase}\\0" }, { kind = "usage", exit = 2 })
  local f = split0(r.out)
  if #f ~= 5 then
    hg.fail { kind = "usage", message = ("revision %s: %d changesets, need exactly one")
      :format(o.revision, #f // 5) }
  end
  return { repo = repo, node = f[1], branch = f[2], user = f[3], description = f[4], phase = f[5],
    hg = o.hg }
end

--- Bundles a changeset and its draft ancestors.
-- @param source table from describe
-- @param file string new file
-- @return string|nil file, nil when all of it is public
-- @waits
function M.bundle_drafts(source, file)
  if source.phase == "public" then
    return nil
  end
  local r = run_hg(source.hg, { "-R", source.repo, "bundle", "-q", "--type", "gzip-v2", "--base",
    "public()", "--rev", source.node, file }, { accept = { [1] = true } })
  return r.code == 0 and fs.exists(file) and file or nil
end

-- ---- sending it to a machine ----------------------------------------------------------

local REMOTE = { HGPLAIN = "1", HGRCPATH = "" }

local function remote_hg(m, args, o)
  o = o or {}
  return m:exec({ "hg", "-R", m.src, table.unpack(args) }, {
    env = REMOTE, quiet = true, check = o.check ~= false, timeout = o.timeout or 1800,
  })
end

-- Nodes there of a revision set; machines that run no commands of ours ask themselves.
local function nodes_there(m, revset)
  local r = m.hg_nodes and m:hg_nodes(revset)
    or remote_hg(m, { "log", "-r", revset, "-T", "{node}\n" })
  return r.out
end

local function lines(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do
    list[#list + 1] = line
  end
  return list
end

-- Which of these nodes the local repository has.
local function known_here(source, nodes)
  local known = {}
  for from = 1, #nodes, 500 do
    local terms = {}
    for i = from, math.min(from + 499, #nodes) do
      terms[#terms + 1] = ("present(%s)"):format(nodes[i])
    end
    local r = run_hg(source.hg, { "-R", source.repo, "log", "-r", table.concat(terms, "+"), "-T",
      "{node}\n" }, {})
    for _, node in ipairs(lines(r.out)) do
      known[node] = true
    end
  end
  return known
end

-- Nodes of ours worth asking the machine about: heads, tags, ancestors at
-- growing distances.
local function samples(source)
  local terms = { "head()", "tag()" }
  for i = 0, 16 do
    terms[#terms + 1] = ("ancestor(%s,%s)~%d"):format(source.node, source.node, 1 << i)
  end
  local r = run_hg(source.hg, { "-R", source.repo, "log", "-l", "200", "-r",
    "sort(" .. table.concat(terms, "+") .. ",-rev)", "-T", "{node}\n" }, {})
  return lines(r.out)
end

local function bases(m, source)
  local there = lines(nodes_there(m, "head()"))
  if #there == 0 then
    return {}
  end
  local known, list = known_here(source, there), {}
  for _, node in ipairs(there) do
    if known[node] then
      list[#list + 1] = node
    end
  end
  if #list < #there then
    local terms = {}
    for _, node in ipairs(samples(source)) do
      terms[#terms + 1] = ("present(%s)"):format(node)
    end
    for _, node in ipairs(lines(nodes_there(m, ("heads(%s)"):format(table.concat(terms, "+"))))) do
      list[#list + 1] = node
    end
  end
  return list
end

-- The bundle of what the machine lacks, or nil when it lacks nothing.
local function make_bundle(source, base, file)
  local args = { "-R", source.repo, "bundle", "-q", "-t", "zstd-v2" }
  for _, node in ipairs(#base > 0 and base or { "null" }) do
    args[#args + 1] = "--base"
    args[#args + 1] = node
  end
  for _, rev in ipairs { source.node, "file('path:.hgtags') and not secret()" } do
    args[#args + 1] = "-r"
    args[#args + 1] = rev
  end
  args[#args + 1] = file
  -- 1 means nothing to send; any other failure must not pass for it.
  local r = run_hg(source.hg, args, { accept = { [1] = true } })
  return r.code == 0 and fs.exists(file) and file or nil
end

local function send_dirty(m, source)
  local r = run_hg(source.hg, { "-R", source.repo, "diff", "--git" }, {})
  if r.out:match("%S") then
    local path = m.src .. "/.hg/hgauto.patch"
    m:write(path, r.out)
    if m.hg_import then
      m:hg_import(path)
    else
      remote_hg(m, { "import", "--no-commit", "-q", path })
      m:remove(path)
    end
  end
  local n = #split0(run_hg(source.hg, { "-R", source.repo, "status", "-un0" }, {}).out)
  if n > 0 then
    out.warn(("%d untracked file%s not sent"):format(n, n == 1 and " is" or "s are"))
  end
end

--- Brings the machine's repository to exactly this revision.
-- Sends a bundle of what is missing there; repeatable.
-- @param m table machine
-- @param source table from resolve
-- @return table {bytes, seconds}
-- @raise task the machine ends at another revision
-- @waits
function M.sync(m, source)
  if hg.plan.on() then
    hg.plan.note(">", ("%s: sync %s"):format(m.label, source.node:sub(1, 12)),
      m.label)
    return { bytes = 0, seconds = 0 }
  end
  local start = require("hgauto.time").mono()
  local dir = fs.tmpdir(session.run.dir, "sync-")
  local bytes, there = 0, nil
  local ok, err = pcall(function()
    local file = make_bundle(source, bases(m, source), dir .. "/bundle.hg")
    if file then
      bytes = fs.stat(file).size
      there = m.src .. "/.hg/hgauto-" .. crypto.hex(crypto.random(4)) .. ".hg"
      m:put(file, there)
    end
    -- One script, since each start of hg there costs as much as small bundles.
    local r = m:script(m.sync_script or "sync", { source.node, there },
      { cwd = m.src, quiet = true, timeout = 1800 })
    local at, changed = r.out:match("(%x+)(%+?)\n$")
    if at ~= source.node then
      hg.fail { kind = "task", message = ("sync: the machine is at %s instead of %s")
        :format(tostring(at):sub(1, 12), source.node:sub(1, 12)) }
    elseif changed ~= "" then
      hg.fail { kind = "task", message = "sync: the machine's working directory is not clean" }
    end
    if source.dirty then
      send_dirty(m, source)
    end
  end)
  fs.remove(dir, { tree = true })
  if not ok then
    error(err, 0)
  end
  local seconds = require("hgauto.time").mono() - start
  out.note(("sent %s"):format(hg.format.bytes(bytes)))
  return { bytes = bytes, seconds = seconds }
end

return M
