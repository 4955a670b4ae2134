-- publish-windows-artifacts against a package index and a web server of our own:
-- what is refused, what is sent, that a repeat goes on where it stopped, and that
-- the token is nowhere but in its header.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local pypi = require "hg.pypi"
local release = require "hg.release"
local t = require "hg.tap"
local wheel = require "hg.wheel"

local VERSION, TOKEN = "7.9", "pypi-SecretToken0123456789abcdef"
local dist = t.tmpdir() .. "/dist"

local function make_release()
  if fs.exists(dist) then
    fs.remove(dist, { tree = true })
  end
  local r = proc.run({ "python3", "tests/lib/release.py", dist, VERSION }, { check = false })
  if not r.ok then
    t.skip("needs python3")
  end
end
make_release()
local NAME = "mercurial-7.9-cp313-cp313-win_amd64.whl"

-- ---- the index ----

local index = { files = {}, uploads = {}, answer = nil }

local function fields_of(body, boundary)
  local fields = {}
  for part in (body:sub(#boundary + 3)):gmatch("(.-)\r\n%-%-" .. boundary:gsub("%p", "%%%0")) do
    local name, data = part:match '^\r\n[^\r]-name="([^"]*)".-\r\n\r\n(.*)$'
    fields[#fields + 1] = { name, data }
  end
  return fields
end

local function upload(req)
  local boundary = req.headers["content-type"]:match "^multipart/form%-data; boundary=(.+)$"
  local u = { auth = req.headers.authorization, fields = fields_of(req.body, boundary), value = {} }
  for _, f in ipairs(u.fields) do
    u.value[f[1]] = f[2]
  end
  u.name = req.body:match 'name="content"; filename="([^"]*)"'
  index.uploads[#index.uploads + 1] = u
  local answer = index.answer and index.answer(u)
  if answer then
    return req:respond(answer)
  end
  index.files[u.name] = crypto.sha256(u.value.content)
  return req:respond { body = "OK" }
end

local server <close> = httpd.new { max_body = 1 << 24, on_request = function(req)
  if req.method == "POST" then
    return upload(req)
  end
  local list = {}
  for name, sum in pairs(index.files) do
    list[#list + 1] = { filename = name, hashes = { sha256 = sum } }
  end
  index.accept = req.headers.accept
  return req:respond { body = json.encode { files = json.list(list) } }
end }
local base = ("http://127.0.0.1:%d"):format(server:listen {})

-- ---- the web server ----

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local home, site = t.tmpdir(), t.tmpdir()
fs.mkdir(home .. "/.ssh", { mode = 448 })
fs.write(home .. "/.ssh/id_ed25519", fs.read(dir .. "/id_ed25519"), { mode = 384 })
local function know(port, key)
  fs.write(home .. "/.ssh/known_hosts", ("[127.0.0.1]:%d %s"):format(port, fs.read(key)))
end
know(d.port, dir .. "/host_ed25519.pub")

local state = t.tmpdir() .. "/state"
local function run(words, o)
  o = o or {}
  local all = { host.getenv "HGAUTO", "--state-path", state, "--region", "us-west-2", "-v", "run",
    "publish-windows-artifacts", VERSION, "--dist-path", dist, "--pypi-url", base .. "/upload",
    "--pypi-index", base .. "/simple", "--host", "127.0.0.1:" .. d.port, "--ssh-username", "root",
    "--directory-there", site }
  for _, w in ipairs(words or { "-y" }) do
    all[#all + 1] = w
  end
  local r = proc.run(all, { check = false, timeout = 120, env = { HOME = home,
    SSH_AUTH_SOCK = "", HGAUTO_PYPI_TOKEN = o.token or TOKEN, HGAUTO_LOCAL_ONLY = "1",
    AWS_EC2_METADATA_DISABLED = "true" } })
  return r
end

local function edit_manifest(fn)
  local doc = json.decode(fs.read(dist .. "/manifest.json"))
  fn(doc.files)
  fs.write(dist .. "/manifest.json", json.encode(doc))
end

-- ---- tests ----

t.test("METADATA of a wheel, and its fields", function()
  local text = wheel.metadata(dist .. "/" .. NAME)
  t.like(text, "^Metadata%-Version: 2%.1\nName: mercurial\n", "as packed")
  local fields = {}
  for _, f in ipairs(wheel.fields(text)) do
    fields[#fields + 1] = f[1] .. "=" .. f[2]
  end
  t.is(fields, { "metadata_version=2.1", "name=mercurial", "version=7.9",
    "summary=Fast scalable distributed SCM", "home_page=https://example.org/",
    'author=Somebody and "others"', "license=GNU GPLv2 or any later version", "platform=UNKNOWN",
    "classifiers=Development Status :: 6 - Mature",
    "classifiers=Programming Language :: Python :: 3", "requires_python=>=3.9",
    "project_urls=Tracker, https://example.org/tracker",
    "description_content_type=text/x-rst", "license_file=COPYING",
    "description=A description\nof several lines; \u{e4}.\n" }, "one by one")
  t.is(wheel.fields("License: a\n        b\nKeywords: x\n"), { { "license", "a\nb" },
    { "keywords", "x" } }, "continued lines")
  local bytes = fs.read(dist .. "/" .. NAME)
  math.randomseed(7)
  for i = 1, 300 do
    local at = math.random(#bytes)
    fs.write(home .. "/w.whl", i % 3 == 0 and bytes:sub(1, at - 1)
      or bytes:sub(1, at - 1) .. string.char(math.random(0, 255)) .. bytes:sub(at + 1))
    local ok, e = pcall(wheel.metadata, home .. "/w.whl")
    if not ok and (type(e) ~= "table" or e.kind ~= "task") then
      t.ok(false, ("a damaged wheel (%d, byte %d): %s"):format(i, at, tostring(e)))
    end
  end
end)

t.test("latest.dat, to the byte", function()
  local files = {}
  for _, arch in ipairs { "x86", "x64" } do
    files[#files + 1] = { kind = "inno", arch = arch, name = "Mercurial-7.9-" .. arch .. ".exe" }
    files[#files + 1] = { kind = "wix", arch = arch, name = "mercurial-7.9-" .. arch .. ".msi" }
  end
  local at = "https://mercurial-scm.org/release/windows/"
  t.is(release.latest("7.9", files), table.concat({
    "10\t7.9\t.*Windows.*\t" .. at .. "Mercurial-7.9-x86.exe\tMercurial 7.9 Inno Setup installer"
      .. " - x86 Windows (Python 3) - does not require admin rights",
    "10\t7.9\t.*Windows.*(WOW|x)64.*\t" .. at .. "Mercurial-7.9-x64.exe\tMercurial 7.9 Inno Setup"
      .. " installer - x64 Windows (Python 3) - does not require admin rights",
    "10\t7.9\t.*Windows.*\t" .. at .. "mercurial-7.9-x86.msi\tMercurial 7.9 MSI installer"
      .. " - x86 Windows (Python 3) - requires admin rights",
    "10\t7.9\t.*Windows.*(WOW|x)64.*\t" .. at .. "mercurial-7.9-x64.msi\tMercurial 7.9 MSI"
      .. " installer - x64 Windows (Python 3) - requires admin rights", "" }, "\n"), "four lines")
end)

local function nothing_sent(what)
  t.is(#index.uploads, 0, what .. ": nothing was uploaded")
  t.is(fs.list(site), {}, what .. ": nothing is on the web server")
end

t.test("what must not go out is refused before anything is sent", function()
  for what, c in pairs {
    ["an entry marked as simulated"] = { function(files)
      files[1].simulated = true
    end, "made by a simulated machine and is never published" },
    ["an entry too few"] = { function(files)
      table.remove(files, 14)
      table.remove(files, 1)
    end, "lacks wheel for Python 3%.9 x86, MSI installer x64" },
    ["another file under the name"] = { function(files)
      files[1].sha256 = ("0"):rep(64)
    end, "is not the file that was built" },
    ["a name that leaves the directory"] = { function(files)
      files[1].name = "../" .. files[1].name
    end, "without a proper name" },
  } do
    make_release()
    edit_manifest(c[1])
    local r = run()
    t.is(r.code, 1, what .. ": exit 1")
    t.like(r.err, c[2], "says so")
    nothing_sent(what)
  end
  make_release()
  -- Its mark is in the file itself, whatever the manifest was made to say.
  fs.write(dist .. "/" .. NAME, "HGAUTO SIMULATED ARTIFACT\n{}")
  edit_manifest(function(files)
    for _, f in ipairs(files) do
      if f.name == NAME then
        f.sha256 = fs.sha256(dist .. "/" .. NAME)
      end
    end
  end)
  local r = run()
  t.is(r.code, 1, "a file with the mark: exit 1")
  t.like(r.err, "made by a simulated machine", "says so")
  nothing_sent "a file with the mark"
  make_release()
  r = run {}
  t.is(r.code, 2, "without -y and a terminal: exit 2")
  t.like(r.err, "%-y answers yes", "says what to do")
  nothing_sent "unasked"
  r = run { "-y", "--pypi-url", "http://127.0.0.1.example:8/upload" }
  t.is(r.code, 2, "an index without TLS, elsewhere: exit 2")
  t.like(r.err, "sent in the clear to 127%.0%.0%.1%.example", "says why")
  nothing_sent "in the clear"
end)

t.test("the record of a simulated run speaks, too", function()
  make_release()
  fs.mkdir(state .. "/runs/20260101-0000-abcd", { parents = true, mode = 448 })
  fs.write(state .. "/runs/20260101-0000-abcd/run.json",
    '{"v":1,"run":"20260101-0000-abcd","status":"ok","ended":"2026",'
      .. '"machines":[{"simulated":true}]}')
  edit_manifest(function(files)
    files[3].run = "20260101-0000-abcd"
  end)
  local r = run()
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "made by a simulated machine", "says so")
  nothing_sent "a simulated run"
  fs.remove(state .. "/runs/20260101-0000-abcd", { tree = true })
end)

local function whole_site()
  local names = fs.list(site)
  table.sort(names)
  return names
end
local FILES = { "Mercurial-7.9-x64.exe", "Mercurial-7.9-x86.exe", "latest.dat",
  "mercurial-7.9-x64.msi", "mercurial-7.9-x86.msi" }

t.test("all of it goes out, latest.dat last", function()
  make_release()
  fs.write(site .. "/latest.dat", "the old one\n")
  local r = run()
  if not t.is(r.code, 0, "exit 0") then
    t.diag(r.err)
    return
  end
  t.is(#index.uploads, 10, "ten wheels")
  t.is(index.accept, "application/vnd.pypi.simple.v1+json", "the index was asked for JSON")
  local u
  for _, x in ipairs(index.uploads) do
    u = x.name == NAME and x or u
  end
  t.is({ u.value[":action"], u.value.protocol_version, u.value.filetype, u.value.pyversion,
    u.value.name, u.value.version, u.value.sha256_digest },
    { "file_upload", "1", "bdist_wheel", "cp313", "mercurial", "7.9",
      fs.sha256(dist .. "/" .. NAME) }, "the form's fields")
  t.is(u.value.content, fs.read(dist .. "/" .. NAME), "the wheel itself")
  t.is(u.auth, "Basic " .. crypto.base64("__token__:" .. TOKEN), "the token")
  t.is(whole_site(), FILES, "the web server has the installers and nothing else")
  for _, name in ipairs(FILES) do
    if name ~= "latest.dat" then
      t.is(fs.sha256(site .. "/" .. name), fs.sha256(dist .. "/" .. name), name)
      t.is(fs.stat(site .. "/" .. name).mode & 511, 436, name .. " is 0664")
    end
  end
  t.like(fs.read(site .. "/latest.dat"), "^10\t7%.9\t", "latest.dat")
  local old
  for _, name in ipairs(fs.list(dist)) do
    old = name:match "^latest%-windows%-%d+T%d+%.dat$" and name or old
  end
  t.is(old and fs.read(dist .. "/" .. old), "the old one\n", "the old one is kept")
  t.like(r.out, "  Mercurial%-7%.9%-x86%.exe  https://mercurial%-scm%.org/release/windows/Merc",
    "stdout tells hashes and addresses")
end)

t.test("a repeat sends nothing again", function()
  index.uploads = {}
  local r = run()
  t.is(r.code, 0, "exit 0")
  t.is(#index.uploads, 0, "no upload")
  t.like(r.err, "already there", "says so")
end)

t.test("other content under a published name is an error", function()
  index.files[NAME] = ("0"):rep(64)
  local r = run()
  t.is(r.code, 1, "on the index: exit 1")
  t.like(r.err, "already, with other content", "says so")
  index.files[NAME] = fs.sha256(dist .. "/" .. NAME)
  fs.write(site .. "/Mercurial-7.9-x86.exe", "MZ other")
  r = run()
  t.is(r.code, 1, "on the web server: exit 1")
  t.like(r.err, "published already, with other content", "says so")
  t.is(fs.read(site .. "/Mercurial-7.9-x86.exe"), "MZ other", "and it stays")
  fs.remove(site .. "/Mercurial-7.9-x86.exe")
end)

t.test("the index fails at times", function()
  index.files, index.uploads = {}, {}
  local n = 0
  -- The first answer is lost although the file arrived; the second is an error.
  index.answer = function(u)
    n = n + 1
    if n == 1 then
      index.files[u.name] = crypto.sha256(u.value.content)
      return { status = 503, body = "busy" }
    elseif n == 2 then
      return { status = 502, body = "busy" }
    end
  end
  local r = run { "-y", "--no-mercurial-scm-org" }
  t.is(r.code, 0, "exit 0")
  t.is(#index.uploads, 11, "what had arrived is not sent again, what had not is")
  index.files, index.uploads = {}, {}
  index.answer = function(u)
    return { status = 400, body = "<html>\27[31mbad " .. u.auth .. "</html>" }
  end
  r = run { "-y", "--no-mercurial-scm-org" }
  t.is(r.code, 1, "refused: exit 1")
  t.like(r.err, "refuses mercurial%-7%.9%-cp39", "says which")
  t.ok(not r.err:find("\27[31mbad", 1, true), "no control characters of the server")
  index.answer = function()
    return { status = 403, body = "Invalid token" }
  end
  r = run { "-y", "--no-mercurial-scm-org" }
  t.is(r.code, 3, "token refused: exit 3")
  t.like(r.err, "refuses the token", "says so")
  index.answer = nil
end)

t.test("the web server's host key must be known", function()
  know(d.port, dir .. "/other.pub")
  local r = run { "-y", "--no-pypi" }
  t.is(r.code, 3, "another one: exit 3")
  know(1, dir .. "/host_ed25519.pub")
  r = run { "-y", "--no-pypi" }
  t.is(r.code, 3, "an unknown one: exit 3")
  know(d.port, dir .. "/host_ed25519.pub")
end)

t.test("the token is in no log, record or message", function()
  local hidden = { TOKEN, crypto.base64("__token__:" .. TOKEN), crypto.base64(TOKEN) }
  local seen = 0
  for _, name in ipairs(fs.list(state .. "/runs")) do
    for _, file in ipairs(fs.list(state .. "/runs/" .. name)) do
      local text = fs.read(("%s/runs/%s/%s"):format(state, name, file))
      seen = seen + 1
      for _, secret in ipairs(hidden) do
        t.ok(not text:find(secret, 1, true), ("not in %s of %s"):format(file, name))
      end
    end
  end
  t.ok(seen > 10, "records were looked through")
  local r = run({ "-y", "--no-mercurial-scm-org" }, { token = " " })
  t.ok(not (r.err .. r.out):find(TOKEN, 1, true), "nor on the screen")
end)

d:stop()
async.sleep(0)
t.ok(pypi.has({}, { name = "x", sha256 = "y" }) == false, "an empty index has nothing")
return t.done()
