-- Finding, importing and sending Mercurial's source, with real hg; the machine
-- is a directory of this one.
local t = require "hg.tap"
local embed = require "hgauto.embed"
local fs = require "hgauto.fs"
local hg = require "hg"
local proc = require "hgauto.proc"
local session = require "hg.session"
local env = dofile "tests/lib/task_env.lua"
local repos = dofile "tests/lib/local_env.lua"
local hg_in = repos.hg

env.need "hg"
env.state()
session.run = session.state:run "test"
local said = env.listen()

local function resolve(source, more)
  local o = { source = source, revision = ".", hg = "hg" }
  for k, v in pairs(more or {}) do
    o[k] = v
  end
  return hg.mercurial.resolve(o)
end

local function refused(name, source, match, more)
  return t.raises(function()
    resolve(source, more)
  end, { kind = "usage", match = match }, name)
end

-- An unpacked release: the stand-in without a repository, version by PKG-INFO.
local function tree(change)
  local dir = t.tmpdir() .. "/mercurial-7.9"
  proc.run { "cp", "-a", "tests/data/standin", dir }
  fs.write(dir .. "/PKG-INFO", "Metadata-Version: 2.1\nName: mercurial\nVersion: 7.9\n")
  if change then
    change(dir)
  end
  proc.run { "find", dir, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+" }
  return dir
end

local function tarball(dir, name, words)
  local file = t.tmpdir() .. "/" .. (name or "mercurial-7.9.tar.gz")
  local base, last = dir:match("^(.*)/([^/]+)$")
  proc.run { "tar", "--force-local", "-czf", file, "-C", base, last, table.unpack(words or {}) }
  return file
end

-- ---- finding ----

t.test("a checkout is used as it is", function()
  local repo = repos.standin()
  local s = resolve(repo)
  t.is({ s.repo, s.tag, s.branch, #s.node }, { fs.realpath(repo), "7.9", "default", 40 },
    "resolved")
  t.is(resolve(repo .. "/mercurial").repo, s.repo, "from a directory inside")
  t.is(resolve(repo, { revision = "7.9" }).node, s.node, "a tag as revision")
  t.is(resolve(repo, { revision = "tip" }).tag, nil, "the commit of the tag has none")
  said.clear()
  fs.append(repo .. "/mercurial/hg.py", "# changed\n")
  resolve(repo)
  t.like(said.text(), "uncommitted changes are not sent", "changes are warned of")
  said.clear()
  resolve(repo, { dirty = true })
  t.ok(not said.text():find("warning"), "not with --dirty")
  refused("--dirty needs the parent", repo, "one parent", { dirty = true, revision = "tip" })
end)

t.test("odd paths", function()
  for _, name in ipairs { "a:b [x]* quo'te\"", "-R" } do
    local dir = t.tmpdir() .. "/" .. name
    fs.rename(repos.standin(), dir)
    t.is(resolve(dir).tag, "7.9", ("checkout %q"):format(name))
    local src = t.tmpdir() .. "/" .. name
    fs.rename(tree(), src)
    t.is(resolve(src).tag, "7.9", ("directory %q"):format(name))
    t.is(resolve(tarball(tree(), name .. ".tar.gz")).tag, "7.9", ("tarball %q"):format(name))
  end
end)

t.test("several tags: the one that is a version", function()
  local repo = repos.standin()
  hg_in(repo, "tag", "-r", "7.9", "-f", "nightly")
  t.is(resolve(repo, { revision = "7.9" }).tag, "7.9", "found")
end)

t.test("revisions", function()
  local repo, bad = repos.standin(), t.tmpdir() .. "/pwned"
  local e = refused("unknown", repo, "nonsense", { revision = "nonsense" })
  t.is(e.exit, 2, "exit 2")
  refused("several", repo, "2 changesets, need exactly one", { revision = "all()" })
  refused("none", repo, "no changeset", { revision = "none()" })
  for _, r in ipairs { "-x", "--config=alias.log=!touch " .. bad, "--debugger", "--cwd=/", "--" } do
    t.raises(function()
      resolve(repo, { revision = r })
    end, { kind = "usage" }, "not an option: " .. r)
  end
  t.ok(not fs.exists(bad), "nothing was run")
end)

t.test("what is no source is refused", function()
  refused("a missing path", "/nonexistent", "no such file")
  refused("an empty directory", t.tmpdir(), "no Mercurial source")
  local file = t.tmpdir() .. "/x.tar.gz"
  fs.write(file, "this is no archive")
  refused("a file that is no archive", file, "not a readable archive")
  refused("a device", "/dev/null", "neither file nor directory")
  refused("apt with a path", "apt:..", "no such file")
  local old = repos.standin(function(dir)
    fs.write(dir .. "/pyproject.toml", "[build-system]\nrequires = ['setuptools']\n")
  end)
  refused("a revision before 7.0", old, "predates 7%.0")
  refused("a missing hg", old, "there is no /nonexistent/hg", { hg = "/nonexistent/hg" })
end)

-- ---- importing ----

t.test("an import depends on the content only", function()
  local dir = tree()
  local file = tarball(dir)
  local a, b = resolve(file), resolve(dir)
  t.is(a.node, b.node, "tarball and directory")
  t.is(a.tag, "7.9", "tagged")
  t.ok(not fs.exists(a.repo .. "/PKG-INFO"), "without generated files")
  local repo = a.repo
  said.clear()
  t.is(resolve(file).repo, repo, "a second time")
  t.ok(not said.text():find "importing", "nothing is imported")
  fs.remove(session.state.path .. "/cache/source", { tree = true })
  t.is(resolve(file).node, a.node, "made again: the same node")
  t.is(hg_in(repo, "status"), "", "clean")
  t.is(hg_in(repo, "log", "-r", "draft()", "-T", "x"), "", "public")
  local other = tree(function(d)
    fs.symlink("hg.py", d .. "/mercurial/link.py")
  end)
  t.ok(resolve(other).node ~= a.node, "a link more is another content")
end)

t.test("leftovers of a killed import are removed, a half one is not used", function()
  local dir = tree(function(d)
    fs.write(d .. "/x", "1")
  end)
  local node = resolve(dir).node
  local cache = session.state.path .. "/cache/source"
  local key = fs.realpath(resolve(dir).repo):match("([^/]+)/repo$")
  fs.remove(cache .. "/" .. key, { tree = true })
  fs.mkdir(cache .. "/" .. key .. ".tmp-0123/x", { parents = true })
  t.is(resolve(dir).node, node, "imported again")
  t.ok(not fs.exists(cache .. "/" .. key .. ".tmp-0123"), "the leftover is gone")
end)

t.test("hostile archives", function()
  local bad = t.tmpdir() .. "/pwned"
  local function hostile(name, match, change)
    local file = tarball(tree(change))
    if match then
      refused(name, file, match)
    else
      t.is(resolve(file).tag, "7.9", name)
    end
    t.ok(not fs.exists(bad), name .. ": nothing was run")
  end
  hostile("a link out", "leads to", function(d)
    fs.symlink("../secret", d .. "/link")
  end)
  hostile("an absolute link", "leads to /etc/passwd", function(d)
    fs.symlink("/etc/passwd", d .. "/PKG-INFO2")
  end)
  hostile("a link in and out", "leads to", function(d)
    fs.symlink("../doc/../../x", d .. "/mercurial/link")
  end)
  hostile("a link that stays inside", nil, function(d)
    fs.symlink("../hg", d .. "/mercurial/link")
  end)
  hostile("a pipe", "neither file nor directory", function(d)
    proc.run { "mkfifo", d .. "/pipe" }
  end)
  hostile("a version that is an option", "odd version", function(d)
    fs.write(d .. "/PKG-INFO", "X: y\nVersion: --config=hooks.pretag=touch " .. bad .. "\n")
  end)
  hostile("a repository with a configuration", nil, function(d)
    fs.mkdir(d .. "/.hg")
    fs.write(d .. "/.hg/hgrc", ("[hooks]\npre-init = touch %s\npre-add = touch %s\n"):format(bad,
      bad))
  end)
  local dir = tree()
  local file = tarball(dir, nil, { "--transform", "s,^mercurial-7.9/hg$,mercurial-7.9/../hg," })
  refused("a name with ..", file, "refused, it names")
  file = tarball(dir, nil, { "-P", "--transform", "s,^mercurial-7.9/hg$,/tmp/h," })
  refused("an absolute name", file, "refused, it names /tmp/h")
end)

t.test("a subrepository is not fetched", function()
  local file = tarball(tree(function(d)
    fs.write(d .. "/.hgsub", "sub = http://127.0.0.1:1/sub\n")
  end))
  t.raises(function()
    resolve(file)
  end, { kind = "task", match = "subrepos not enabled" }, "refused")
end)

t.test("versions", function()
  local function without(dir)
    fs.remove(dir .. "/PKG-INFO")
  end
  t.is(resolve(tree(without)).tag, "7.9", "by the directory's name")
  local nameless = t.tmpdir() .. "/x"
  fs.rename(tree(without), nameless)
  fs.write(nameless .. "/y", "")
  refused("unknown", nameless, "cannot tell the version")
  t.is(resolve(nameless, { version_hint = "7.8rc0" }).tag, "7.8rc0", "--version-hint")
  t.is(resolve(nameless, { version_hint = "7.8" }).tag, "7.8", "another hint is another import")
end)

-- ---- sending ----

local Fake = {}
Fake.__index = Fake

-- A machine in a directory; it counts its commands.
local function machine()
  local m = setmetatable({ src = t.tmpdir() .. "/src", calls = {} }, Fake)
  hg_in("/", "init", m.src)
  fs.write(m.src .. "/.hg/hgrc", "[phases]\npublish = false\n")
  return m
end

function Fake:exec(argv, o)
  self.calls[#self.calls + 1] = argv
  local env_of = { HGRCPATH = "" }
  for k, v in pairs(o.env or {}) do
    env_of[k] = v
  end
  return proc.run(argv, { cwd = o.cwd, env = env_of, check = o.check })
end

function Fake:script(name, args, o)
  local text = embed.read("linux/" .. name .. ".sh")
  return self:exec({ "sh", "-c", text, name, table.unpack(args) }, o)
end

function Fake:put(from, to) -- luacheck: no self
  fs.copy(from, to)
end

function Fake:write(path, text) -- luacheck: no self
  fs.write(path, text)
end

function Fake:remove(path) -- luacheck: no self
  fs.remove(path)
end

function Fake:at()
  return hg_in(self.src, "log", "-r", ".", "-T", "{node}")
end

t.test("sync: all, nothing, more", function()
  local repo, m = repos.standin(), machine()
  local s = resolve(repo)
  local r = hg.mercurial.sync(m, s)
  t.ok(r.bytes > 0, "something is sent")
  t.is(m:at(), s.node, "the machine is there")
  t.is(hg_in(m.src, "status", "-mardui"), "", "and clean")
  t.is(hg_in(m.src, "log", "-r", ".", "-T", "{latesttag}"), "7.9", "tags have come along")
  m.calls = {}
  fs.write(m.src .. "/mercurial/hg.py", "altered there\n")
  fs.write(m.src .. "/junk", "")
  t.is(hg.mercurial.sync(m, s).bytes, 0, "again: nothing is sent")
  t.is(#m.calls, 2, "two commands")
  t.is(hg_in(m.src, "status"), "", "changes and junk there are gone")
  hg_in(repo, "update", "-q", "tip")
  fs.append(repo .. "/mercurial/hg.py", "# more\n")
  hg_in(repo, "commit", "-m", "more\27[2J")
  local s2 = resolve(repo)
  local more = hg.mercurial.sync(m, s2).bytes
  t.ok(more > 0 and more < r.bytes, "one more changeset: less is sent")
  t.is(m:at(), s2.node, "the machine follows")
  hg.mercurial.sync(m, s)
  t.is(m:at(), s.node, "and goes back")
  local names = table.concat(fs.list(session.run.dir), " ") .. table.concat(
    fs.list(m.src .. "/.hg"), " ")
  t.ok(not names:find("sync-", 1, true) and not names:find("hgauto-", 1, true), "no bundle stays")
end)

t.test("sync with heads there that we do not know", function()
  local repo, m = repos.standin(), machine()
  local s = resolve(repo)
  hg.mercurial.sync(m, s)
  fs.write(m.src .. "/theirs", "x")
  hg_in(m.src, "add", "-q", m.src .. "/theirs")
  hg_in(m.src, "commit", "-m", "theirs")
  hg_in(repo, "update", "-q", "tip")
  fs.append(repo .. "/mercurial/hg.py", "# more\n")
  hg_in(repo, "commit", "-m", "more")
  local s2 = resolve(repo)
  local r = hg.mercurial.sync(m, s2)
  t.is(m:at(), s2.node, "the machine follows")
  t.is(hg_in(m.src, "log", "-r", "all()", "-T", "x"), "xxxx", "with all changesets")
  t.ok(r.bytes > 0, "sent")
end)

t.test("sync --dirty", function()
  local repo, m = repos.standin(), machine()
  fs.append(repo .. "/mercurial/hg.py", "# \xff dirty\n")
  fs.write(repo .. "/added", "new\n")
  hg_in(repo, "add", "-q", repo .. "/added")
  fs.write(repo .. "/unknown file", "")
  local s = resolve(repo, { dirty = true })
  said.clear()
  hg.mercurial.sync(m, s)
  t.is(hg_in(m.src, "status"), "M mercurial/hg.py\nA added\n", "changes are carried")
  t.is(fs.read(m.src .. "/mercurial/hg.py"), fs.read(repo .. "/mercurial/hg.py"), "bytes are kept")
  t.like(said.text(), "1 untracked file is not sent", "untracked files are counted")
  hg.mercurial.sync(m, s)
  t.is(hg_in(m.src, "status"), "M mercurial/hg.py\nA added\n", "repeatable")
end)

t.test("a bundle that cannot be made is an error, not nothing to send", function()
  local repo, m = repos.standin(), machine()
  local s = resolve(repo)
  s.node = ("f"):rep(39) .. "0"
  t.raises(function()
    hg.mercurial.sync(m, s)
  end, { kind = "task", match = "hg bundle" }, "raised")
end)

t.test("a machine that ends elsewhere", function()
  local repo, m = repos.standin(), machine()
  local s = resolve(repo)
  function m.script()
    return { out = ("0"):rep(40) .. "\n" }
  end
  t.raises(function()
    hg.mercurial.sync(m, s)
  end, { kind = "task", match = "the machine is at 000000000000 instead of" }, "raised")
  function m.script()
    return { out = s.node .. "+\n" }
  end
  t.raises(function()
    hg.mercurial.sync(m, s)
  end, { kind = "task", match = "not clean" }, "as is one with changes")
end)

-- ---- artifacts ----

t.test("a file comes home, the manifest tells it", function()
  local json = require "hgauto.json"
  local there, dist = t.tmpdir(), t.tmpdir() .. "/a b/dist"
  fs.write(there .. "/x.whl", "wheel")
  local m = { sha256 = function(_, path)
    return fs.sha256(path)
  end, get = function(_, from, to)
    fs.copy(from, to)
  end }
  hg.artifacts.prepare(dist)
  local file = hg.artifacts.fetch(m, there .. "/x.whl", dist)
  t.is(file, { name = "x.whl", path = dist .. "/x.whl", size = 5,
    sha256 = fs.sha256(there .. "/x.whl") }, "fetched")
  local function record(name, text)
    fs.write(dist .. "/" .. name, text)
    hg.artifacts.record(dist, { hg.artifacts.entry({ name = name, size = #text,
      sha256 = fs.sha256(dist .. "/" .. name) }, { kind = "wheel", node = "n" }) })
  end
  local function names()
    local list = {}
    for i, e in ipairs(json.decode(fs.read(dist .. "/manifest.json")).files) do
      list[i] = e.name
    end
    return list
  end
  record("x.whl", "wheel")
  record("b", "bb")
  record("a", "aa")
  record("a", "a2")
  t.is(names(), { "a", "b", "x.whl" }, "one entry per name, sorted")
  fs.write(dist .. "/b", "bc")
  fs.remove(dist .. "/x.whl")
  record("a", "a3")
  t.is(names(), { "a" }, "altered and missing files are dropped")
  fs.write(dist .. "/manifest.json", '{"v":1,"files":[1,{"name":3},{"name":"../x"},{"name":"."}]}')
  record("a", "a3")
  t.is(names(), { "a" }, "nonsense in it, too")
  fs.write(dist .. "/manifest.json", "{")
  record("a", "a3")
  t.is(names(), { "a" }, "an unreadable one is replaced")
  t.is(fs.list(dist), { "a", "b", "manifest.json" }, "nothing else is left in dist")
  function m.get(_, _, to)
    fs.write(to, "other")
  end
  t.raises(function()
    hg.artifacts.fetch(m, there .. "/x.whl", dist)
  end, { kind = "protocol", match = "SHA%-256 differs" }, "other bytes than there are refused")
  t.ok(not fs.exists(dist .. "/x.whl"), "and not kept")
  t.raises(function()
    hg.artifacts.prepare "/proc/nowhere"
  end, {}, "a directory that cannot be written is found out first")
end)

-- ---- names of artifacts ----

t.test("only names of the exact form are artifacts", function()
  local function build(...)
    local list = {}
    for i, name in ipairs { ... } do
      list[i] = { name = name }
    end
    return hg.linux.build({ work = "/w", src = "/s", upload_script = function()
      return "/r"
    end, script = function() end, list = function()
      return list
    end }, "wheel", { node = "n" })
  end
  t.is(build("mercurial-7.0.1+3.gabc-cp313-cp313-linux_x86_64.whl").version, "7.0.1+3.gabc",
    "a wheel")
  for _, name in ipairs { "mercurial-7.0-py3-none-any.whl", "mercurial-7.0.tar.gz",
    "other-7.0-cp313-cp313-linux_x86_64.whl",
    "mercurial-7\27[2J-cp313-cp313-linux_x86_64.whl" } do
    t.raises(function()
      build(name)
    end, { kind = "task", match = "expected one file" }, ("%q"):format(name))
  end
  t.raises(build, { kind = "task", match = "found nothing" }, "nothing")
  t.raises(function()
    build("mercurial-7.0-cp313-cp313-linux_x86_64.whl",
      "mercurial-7.1-cp313-cp313-linux_x86_64.whl")
  end, { kind = "task" }, "two")
end)

return t.done()
