-- Building base images with a stand-in for mmdebstrap and apt: what they are
-- asked for, what a failure says, what is left behind.  And the doctor.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local images = require "localcloud.images"
local json = require "hgauto.json"
local t = require "hg.tap"

if not fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+0%s") then
  t.skip("building images needs root")
end

local top = t.tmpdir()
local bin = top .. "/bin"
local PATH = os.getenv("PATH")

local function program(name, text)
  fs.write(bin .. "/" .. name, "#!/bin/sh\n" .. text)
  fs.chmod(bin .. "/" .. name, 493)
end

local ROWS = [[
http://mirror.test/debian/|bookworm|main|$(SIGNED_BY)|Debian|bookworm
http://mirror.test/debian/|bookworm-updates|main|/k.gpg|Debian|bookworm-updates
http://mirror.test/security/|stable-security|main||Debian|bookworm-security
http://mirror.test/debian/|bookworm|contrib|$(SIGNED_BY)|Debian|bookworm
http://other.test/|now|main|$(SIGNED_BY)|Elsewhere|now
]]

-- The stand-in writes its arguments down and makes what an image must have.
local GOOD = ([[
printf '%%s\n' "$@" >%s/args
cat "$(printf '%%s\n' "$@" | sed -n 's/^--aptopt=//p')" >%s/conf
for a in "$@"; do case $a in */root) root=$a ;; esac; done
mkdir -p "$root/usr/sbin" "$root/usr/bin" "$root/bin"
echo >"$root/usr/sbin/sshd"; echo >"$root/usr/bin/sudo"; echo >"$root/bin/sh"
echo "Unpacking x"
]]):format(top, top)

local function setup()
  fs.mkdir(bin, { parents = true })
  fs.write(top .. "/rows", ROWS)
  program("apt-get", ("cat %s/rows\n"):format(top))
  program("apt-config", [[echo 'Acquire::http::Proxy "http://proxy.test:8000";'
echo 'Acquire::https "";'; echo 'APT::Architecture "amd64";'; echo 'Acquire::Retries "3";']])
  program("dpkg", "echo amd64\n")
  program("mmdebstrap", GOOD)
  host.setenv("PATH", bin .. ":" .. PATH)
end

local function lines_of(name)
  return "\n" .. fs.read(top .. "/" .. name)
end

local function leftovers(path)
  local n = 0
  for _, name in ipairs(fs.list(path .. "/images")) do
    n = n + (name:match("^%.build") and 1 or 0)
  end
  return n
end

setup()
local path = top .. "/local"

t.test("a base of the machine's own release", function()
  local told = {}
  local r = images.ensure("debian12", { path = path, progress = function(text)
    told[#told + 1] = text
  end })
  t.like(r.layer, "^debian12%-%x+$", "layer")
  t.ok(fs.exists(("%s/images/%s/usr/sbin/sshd"):format(path, r.layer)), "is in its place")
  local args = lines_of("args")
  t.like(args, "\ndeb http://mirror%.test/debian/ bookworm main\n", "archive")
  t.like(args, "\ndeb %[signed%-by=/k%.gpg%] http://mirror%.test/debian/ bookworm%-updates main\n",
    "updates with their key")
  t.like(args, "\ndeb http://mirror%.test/security/ bookworm%-security main\n",
    "security, whatever apt calls the suite")
  t.ok(not args:match("other%.test") and not args:match("contrib"), "nothing else")
  t.like(args, "\n%-%-include=[^\n]*openssh%-server[^\n]*python3%-build", "packages")
  local conf = lines_of("conf")
  t.like(conf, '\nAcquire::http::Proxy "http://proxy%.test:8000";\n', "the proxy of apt")
  t.ok(not conf:match("Architecture"), "no other settings")
  t.ok(#told >= 2, "progress is told")
  t.is(leftovers(path), 0, "no leftovers")
  fs.remove(top .. "/args")
  t.is(images.ensure("debian12", { path = path }).layer, r.layer, "the second time")
  t.ok(not fs.exists(top .. "/args"), "nothing is built")
  t.is(images.have(path, "debian12").layer, r.layer, "have")
  t.is(images.have(path, "debian13"), nil, "have not")
  t.is(#images.list(path), 1, "list")
end)

t.test("a base of another release", function()
  images.ensure("debian13", { path = path })
  t.like(lines_of("args"), "\ndeb %[signed%-by=[^\n]*debian%-archive%-keyring%.gpg%] "
    .. "http://mirror%.test/debian/ trixie main\n", "suite replaced, Debian's keyring")
  t.like(lines_of("args"), " trixie%-security main\n", "security too")
end)

t.test("two at once build once", function()
  local other = top .. "/both"
  program("mmdebstrap", ("echo x >>%s/builds\n%s"):format(top, GOOD))
  async.map({ 1, 2, 3 }, function()
    images.ensure("debian12", { path = other })
  end)
  t.is(lines_of("builds"), "\nx\n", "one build")
end)

t.test("failures say what to do and leave nothing", function()
  local bad = top .. "/bad"
  program("mmdebstrap", "echo 'Err:1 http://mirror.test'; echo 'E: Failed to fetch http://x"
    .. "  Could not connect to mirror.test:80' >&2; exit 1\n")
  local e = t.raises(function()
    images.ensure("debian12", { path = bad })
  end, { kind = "net", code = "Archive", match = "apt cannot fetch" }, "no network")
  t.like(e.hint, "apt%-get update", "hint")
  t.is(leftovers(bad), 0, "no leftovers")
  t.is(#images.list(bad), 0, "no image")
  program("mmdebstrap", "echo 'E: something odd' >&2; exit 7\n")
  t.raises(function()
    images.ensure("debian12", { path = bad })
  end, { kind = "io", code = "Build", match = "E: something odd" }, "another failure")
  program("mmdebstrap", GOOD:gsub("echo >[^;]*sshd\";", ""))
  t.raises(function()
    images.ensure("debian12", { path = bad })
  end, { code = "Build", match = "sshd" }, "an image without sshd")
  t.raises(function()
    images.ensure("debian99", { path = bad })
  end, { kind = "usage", match = "debian13" }, "an unknown name")
  t.raises(function()
    images.ensure("host", { path = bad })
  end, { code = "Unsupported" }, "the host's own system")
  fs.write(top .. "/rows", "http://other.test/|now|main|$(SIGNED_BY)|Elsewhere|now\n")
  t.raises(function()
    images.ensure("debian12", { path = bad })
  end, { code = "NoSources" }, "no Debian archive")
  local need = images.space_needed
  images.space_needed = 1 << 60
  t.raises(function()
    images.ensure("debian12", { path = bad })
  end, { code = "NoSpace", match = "GiB" }, "no space")
  images.space_needed = need
  fs.remove(bin .. "/mmdebstrap")
  host.setenv("PATH", bin)
  e = t.raises(function()
    images.ensure("debian12", { path = bad })
  end, { kind = "notfound", code = "NoTool" }, "no mmdebstrap")
  t.is(e.hint, "apt install mmdebstrap", "hint")
  host.setenv("PATH", PATH)
end)

t.test("a killed build is cleared away by the next", function()
  setup()
  local dir = top .. "/again/images"
  fs.mkdir(dir .. "/.build-dead/root", { parents = true })
  fs.write(dir .. "/.build-dead/root/x", "x")
  fs.write(dir .. "/debian12-abc.json", json.encode { layer = "debian12-abc" })
  t.is(#images.list(top .. "/again"), 0, "a record without its layer is none")
  images.ensure("debian12", { path = top .. "/again" })
  t.is(leftovers(top .. "/again"), 0, "cleared")
  host.setenv("PATH", PATH)
end)

t.test("the doctor says one line per check and at most one next step", function()
  local doctor = require "localcloud.doctor"
  local r = doctor.run { path = top .. "/nowhere/local" }
  local failed = 0
  for _, line in ipairs(r.lines) do
    failed = failed + (line:match(": failed") and 1 or 0)
    t.like(line, "^[%w ]+: ", line)
  end
  t.is(r.ok, failed == 0, "ok means that nothing failed")
  t.is(r.next == nil, r.ok, "a next step where something failed")
  t.is(r.tier, r.ok and "full" or "none", "tier")
  t.ok(not fs.exists(top .. "/nowhere"), "nothing is made")
  host.setenv("PATH", "/nonexistent")
  local none = doctor.run { path = top .. "/nowhere/local" }
  t.is(none.ok, false, "without programs")
  if r.ok then
    t.is(none.next, "apt install mmdebstrap", "the first thing to do")
  end
  host.setenv("PATH", PATH)
end)

return t.done()
