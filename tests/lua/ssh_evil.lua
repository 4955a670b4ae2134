-- hgauto.ssh: SFTP servers that lie; nothing lands outside, nothing wrong is success.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local program = (host.getenv("HGAUTO") or fs.readlink("/proc/self/exe")):gsub("[^/]+$", "")
  .. "servers/evil_sftp"
if not fs.exists(program) then
  t.skip("needs servers/evil_sftp (make tests-build)")
end
local sshd = dofile("tests/servers/sshd.lua")

local function count(path)
  return tonumber(proc.run({ "sh", "-c", "find . -type f | wc -l" }, { cwd = path }).out)
end

--- Runs fn against the server in that mode; it must fail within 5 s like this.
local function evil(mode, fn, want)
  local d = sshd.start(dir, { "Subsystem sftp " .. program .. " " .. mode })
  local box = ("%s/box-%s"):format(dir, mode)
  fs.mkdir(box .. "/in", { parents = true })
  local s = ssh.connect("127.0.0.1", d:args())
  local t0 = time.mono()
  local e
  if want then
    e = t.raises(function() fn(s, box .. "/in") end, want, mode)
    t.is(count(box), 0, mode .. ": no file is left, inside or outside")
  else
    fn(s, box .. "/in")
  end
  t.ok(time.mono() - t0 < (want and 5 or 30), mode .. ": at once")
  s:close()
  d:stop()
  return e
end

local function tree(s, to)
  s:get("/some.dir", to .. "/t")
end
local function file(s, to)
  s:get("/some.file", to .. "/f")
end

local UNSAFE = { kind = "protocol", code = "UnsafeName" }
local SHORT = { kind = "protocol", code = "ShortTransfer" }
local BAD = { kind = "protocol", code = "Malformed" }

t.test("names", function()
  for _, mode in ipairs { "up", "up2", "abs", "slash", "nl", "ctl", "utf8", "long", "dup",
    "empty" } do
    evil(mode, tree, UNSAFE)
  end
  for mode, name in pairs { dots = "...", back = "C:\\win", option = "-rf", space = " sp " } do
    evil(mode, function(s, to)
      s:get("/some.dir", to .. "/t")
      t.is(fs.read(to .. "/t/" .. name), ("d"):rep(10), mode .. ": a strange name is one file")
    end)
  end
  local e = evil("ctl", tree, UNSAFE)
  t.ok(not tostring(e):find("\27"), "no escape in the message")
  evil("count", tree, BAD)
  evil("loop", tree, { kind = "protocol", code = "TooLarge" })
  evil("link", function(s, to)
    local r = s:get("/some.dir", to .. "/t")
    t.is({ r.files, r.skipped }, { 1, { "link" } }, "a link is skipped")
  end)
end)

t.test("contents", function()
  local e = evil("short", file, SHORT)
  t.like(tostring(e), "got 10 of 1,048,576 bytes", "the text")
  evil("more", file, SHORT)
  evil("huge", file, { kind = "protocol", code = "TooLarge" })
  evil("id", file, BAD)
  evil("type", file, BAD)
  evil("frame", file, BAD)
  evil("more", function(s) s:read("/some.file", { max = 1 << 20 }) end,
    { kind = "protocol", code = "TooLarge" })
  evil("one", function(s, to)
    s:get("/some.file", to .. "/f")
    t.is(fs.read(to .. "/f"), ("d"):rep(3000), "one byte a read")
  end)
  evil("grow", file, SHORT)
  evil("attrs", file, BAD)
  evil("handle", file, BAD)
  evil("twice", file, BAD)
  evil("endown", file, { kind = "remote", code = "SftpFailure", match = "program ended" })
  local function put(s)
    s:write("/some.file", "0123456789")
  end
  evil("lie", put, SHORT)
  evil("handle", put, BAD)
  evil("twice", put, BAD)
  evil("attrs", put, BAD)
  evil("endown", put, { kind = "remote", match = "program ended" })
  evil("noext", function(s, to)
    put(s)
    t.raises(function() s:statvfs("/some.file") end, { code = "Unsupported" }, "statvfs")
    t.raises(function() s:link("/some.file", "/b") end, { code = "Unsupported" }, "link")
    t.raises(function() s:stat("~user/x") end, { kind = "usage" }, "~user")
    fs.write(dir .. "/src", "0123456789")
    t.is(s:put(dir .. "/src", "/some.file").atomic, false, "no atomic replacement")
    t.raises(function() s:put(dir .. "/src", "/some.file", { atomic = "require" }) end,
      { code = "Unsupported" }, "atomic=require")
    s:get("/some.file", to .. "/f")
    t.is(fs.read(to .. "/f"), ("d"):rep(10), "get")
  end)
  evil("silent", function(s, to)
    async.timeout(1, file, s, to)
  end, { kind = "timeout" })
end)

t.test("an endless listing", function()
  local d = sshd.start(dir, { "Subsystem sftp " .. program .. " endless" })
  local s = ssh.connect("127.0.0.1", d:args())
  t.raises(function() s:list("/some.dir") end, { code = "TooLarge" }, "endless")
  s:close()
  d:stop()
end)

t.test("the names of local files are ours", function()
  local d = sshd.start(dir)
  local s = ssh.connect("127.0.0.1", d:args())
  fs.mkdir(dir .. "/remote/sub", { parents = true })
  fs.write(dir .. "/remote/sub/f", "new")
  fs.mkdir(dir .. "/here")
  fs.mkdir(dir .. "/elsewhere")
  fs.symlink(dir .. "/elsewhere", dir .. "/here/sub")
  t.raises(function() s:get(dir .. "/remote", dir .. "/here") end, { kind = "io" },
    "a link in the place of a directory")
  t.is(fs.list(dir .. "/elsewhere"), {}, "is not followed")
  fs.write(dir .. "/victim", "old")
  fs.symlink(dir .. "/victim", dir .. "/link")
  s:get(dir .. "/remote/sub/f", dir .. "/link")
  t.is({ fs.read(dir .. "/victim"), fs.lstat(dir .. "/link").type }, { "old", "file" },
    "a link in the place of a file is replaced")
  s:close()
  d:stop()
end)

return t.done()
