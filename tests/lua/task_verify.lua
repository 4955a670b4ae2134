-- What a machine checks of an artifact before it is brought home: scripts/linux/
-- verify.sh on archives and packages that are right and wrong.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"

if not proc.which "dpkg-deb" then
  t.skip("dpkg-deb is missing")
end

local top = t.tmpdir()

local function verify(kind, file)
  return proc.run({ "sh", "scripts/linux/verify.sh", kind, file, top }, { check = false })
end

local function report(more)
  return ('[{"problems": %s, "hgmodulepolicy": "%s", "hgver": "7.9", "hgverextra": "%s"}]'):format(
    more.problems or "0", more.policy or "c", more.extra or "")
end

-- A package whose hg answers that; returns its path.
local function deb(name, more)
  local root = fs.tmpdir(top, "root-")
  fs.mkdir(root .. "/DEBIAN", { parents = true })
  fs.mkdir(root .. "/usr/bin", { parents = true })
  fs.chmod(root, 493)
  fs.chmod(root .. "/DEBIAN", 493)
  fs.write(root .. "/DEBIAN/control", "Package: mercurial\nVersion: " .. (more.version
    or "7.9~trixie1") .. "\nArchitecture: amd64\nMaintainer: t <t@localhost>\nDescription: x\n")
  if not more.empty then
    fs.write(root .. "/usr/bin/hg", "import os, sys\n"
      .. "assert sys.argv[1] == 'debuginstall' and os.getcwd() == '/'\n"
      .. "assert sys.path[1].endswith('/root/usr/lib/python3/dist-packages'), sys.path\n"
      .. ("print('''%s''')\nsys.exit(%s)\n"):format(report(more), more.exit or "0"))
    fs.chmod(root .. "/usr/bin/hg", 493)
  end
  proc.run { "dpkg-deb", "--root-owner-group", "-b", root, top .. "/" .. name }
  return top .. "/" .. name
end

local function refused(r, pattern, what)
  t.ok(r.code ~= 0 and not r.out:find("version", 1, true), what .. " is refused")
  t.like(r.err, pattern, what .. ": why")
end

t.test("a Debian package", function()
  local name = "mercurial_7.9~trixie1_amd64.deb"
  t.is(verify("deb", deb(name, {})).out, "version 7.9\n", "its hg tells the version")
  t.is(verify("deb", deb(name, { extra = "2.habc" })).out, "version 7.9+2.habc\n",
    "with what follows a release")
  refused(verify("deb", deb(name, { version = "8.0" })), "says it is mercurial_8%.0_amd64%.deb",
    "another version than its name's")
  refused(verify("deb", deb(name, { empty = true })), "has no /usr/bin/hg", "one without hg")
  refused(verify("deb", deb(name, { problems = "2" })), "reports 2 problems", "a broken hg")
  refused(verify("deb", deb(name, { exit = "1" })), "debuginstall failed", "an hg that fails")
  refused(verify("deb", deb(name, { policy = "py" })), "module policy is py instead of c",
    "one without its C code")
  fs.write(top .. "/" .. name, "no package")
  refused(verify("deb", top .. "/" .. name), "is no Debian package", "anything else")
end)

-- A source archive with these files; returns its path.
local function sdist(files)
  local root = fs.tmpdir(top, "src-")
  for path, text in pairs(files) do
    fs.mkdir((root .. "/" .. path):match("^(.*)/"), { parents = true })
    fs.write(root .. "/" .. path, text)
  end
  local file = top .. "/mercurial-7.9.tar.gz"
  proc.run { "tar", "-C", root, "-czf", file, table.unpack(fs.list(root)) }
  return file
end

local function source(more, without)
  local files = { ["mercurial-7.9/PKG-INFO"] = "Name: mercurial\nVersion: 7.9\n",
    ["mercurial-7.9/doc/hg.1"] = "x", ["mercurial-7.9/mercurial/__init__.py"] = "" }
  for path, text in pairs(more or {}) do
    files[path] = text
  end
  files[without or ""] = nil
  return sdist(files)
end

t.test("a source archive", function()
  t.is(verify("sdist", source()).out, "version 7.9\n", "PKG-INFO tells the version")
  refused(verify("sdist", source({}, "mercurial-7.9/doc/hg.1")), "doc/hg%.1 is missing",
    "one without documentation")
  refused(verify("sdist", source { ["mercurial-7.9/mercurial/locale/de/hg.mo"] = "x" }),
    "files that do not belong", "translations that a wheel left in the tree")
  refused(verify("sdist", source { ["other/x"] = "x" }), "top directory", "two directories")
  refused(verify("sdist", source { ["mercurial-7.9/PKG-INFO"] = "Version: 7.8\n" }),
    "PKG%-INFO says 7%.8", "another version inside")
end)

t.test("anything else", function()
  refused(verify("rpm", top .. "/x"), "unknown kind rpm", "a kind nobody knows")
  for _, name in ipairs(fs.list(top)) do
    t.ok(not name:find("^verify"), "no temporary file stays: " .. name)
  end
end)

return t.done()
