-- hgauto.fs on a temporary directory.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local t = require "hg.tap"
local dir = t.tmpdir()

t.test("write, read, append", function()
  local f = dir .. "/f"
  fs.write(f, "one\n")
  t.is(fs.read(f), "one\n", "read")
  t.is(fs.stat(f).mode, 384, "mode 600")
  fs.append(f, "two\n")
  t.is(fs.read(f), "one\ntwo\n", "appended")
  fs.write(f, "x", { mode = 420, sync = true })
  t.is({ fs.read(f), fs.stat(f).mode }, { "x", 420 }, "replaced, with mode")
  fs.write(f, "in place", { atomic = false })
  t.is(fs.read(f), "in place", "in place")
  t.raises(function() fs.read(f, { max = 3 }) end, { kind = "protocol", code = "TooLarge" }, "max")
  t.is(fs.list(dir), { "f" }, "no temporary file is left")
end)

t.test("errors name operation and path", function()
  t.raises(function() fs.read(dir .. "/none") end, { kind = "notfound", match = "/none" }, "read")
  t.raises(function() fs.stat(dir .. "/none") end, { kind = "notfound" }, "stat")
  t.raises(function() fs.list(dir .. "/none") end, { kind = "notfound" }, "list")
  t.raises(function() fs.write(dir .. "/none/x", "") end, { kind = "notfound" }, "write")
  t.raises(function() fs.remove(dir .. "/none") end, { kind = "notfound" }, "remove")
  t.raises(function() fs.mkdir(dir) end, { kind = "exists" }, "mkdir")
  t.raises(function() fs.read("a\0b") end, { kind = "usage" }, "a zero byte")
  t.raises(function() fs.read("") end, { kind = "usage" }, "empty")
  t.raises(function() fs.read(dir, { mx = 1 }) end, { kind = "usage", match = "max" }, "option")
end)

t.test("directories, links, trees", function()
  fs.mkdir(dir .. "/a/b/c", { parents = true })
  fs.mkdir(dir .. "/a/b/c", { parents = true })
  t.is(fs.stat(dir .. "/a/b").mode, 448, "mode 700")
  fs.symlink("b", dir .. "/a/l")
  t.is(fs.readlink(dir .. "/a/l"), "b", "readlink")
  t.is({ fs.stat(dir .. "/a/l").type, fs.lstat(dir .. "/a/l").type }, { "dir", "link" }, "types")
  t.is(fs.realpath(dir .. "/a/l/c"), fs.realpath(dir) .. "/a/b/c", "realpath")
  fs.write(dir .. "/a/f", "x")
  fs.link(dir .. "/a/f", dir .. "/a/g")
  t.is(fs.stat(dir .. "/a/g").nlink, 2, "link")
  fs.rename(dir .. "/a/g", dir .. "/a/h")
  fs.chmod(dir .. "/a/h", 256)
  t.is(fs.stat(dir .. "/a/f").mode, 256, "chmod")
  t.is(fs.list(dir .. "/a"), { "b", "f", "h", "l" }, "list is sorted")
  fs.copy(dir .. "/a/f", dir .. "/a/copy")
  t.is(fs.read(dir .. "/a/copy"), "x", "copy")
  fs.symlink(dir .. "/f", dir .. "/a/b/out")
  fs.remove(dir .. "/a", { tree = true })
  t.ok(not fs.exists(dir .. "/a") and fs.exists(dir .. "/f"), "a tree goes, not what links show")
  fs.remove(dir .. "/a", { tree = true })
  t.ok(true, "a missing tree is fine")
end)

t.test("tmpdir, space, fstype, cwd, home", function()
  local d = fs.tmpdir(dir, "p-")
  t.like(d, "/p%-", "prefix")
  t.is(fs.stat(d).mode, 448, "mode 700")
  t.ok(fs.space(dir) > 0, "space")
  fs.write(dir .. "/make.lua", [[local fs, dir = require "hgauto.fs", ...
    fs.mkdir(dir .. "/open/x", { mode = 509, parents = true })
    fs.mkdir(dir .. "/ours")
    fs.write(dir .. "/text", "")
    print(fs.umask())]])
  local r = require("hgauto.proc").run { "sh", "-c", 'umask 022; exec "$@"', "sh",
    fs.readlink("/proc/self/exe"), "__lua", dir .. "/make.lua", dir }
  t.is({ r.out, fs.stat(dir .. "/open/x").mode, fs.stat(dir .. "/open").mode,
    fs.stat(dir .. "/ours").mode, fs.stat(dir .. "/text").mode },
    { "18\n", 493, 493, 448, 384 }, "the caller's umask, for what is asked for alone")
  t.ok(#fs.fstype(dir) > 0, "fstype")
  t.ok(fs.stat(fs.cwd()).type == "dir" and fs.home():sub(1, 1) == "/", "cwd, home")
end)

t.test("sha256 lets other tasks run", function()
  fs.write(dir .. "/s", "abc")
  t.is(fs.sha256(dir .. "/s"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "FIPS 180 example")
  fs.write(dir .. "/big", ("x"):rep(20 * 1024 * 1024))
  local n, stop = 0, false
  async.scope(function(s)
    s:spawn(function() while not stop do n = n + 1 async.sleep(0) end end)
    fs.sha256(dir .. "/big")
    stop = true
  end)
  t.ok(n > 2, "others ran meanwhile")
  t.is(coroutine.wrap(function() return fs.sha256(dir .. "/s") end)():sub(1, 4), "ba78",
    "works where it cannot wait")
  t.raises(function() async.timeout(0.001, function()
    while true do fs.sha256(dir .. "/big") end
  end) end, { kind = "timeout" }, "is cancelled")
end)

t.test("locks", function()
  local path = dir .. "/lock"
  do
    local lock <close> = fs.lock(path)
    t.ok(lock ~= nil, "taken")
    t.raises(function() fs.lock(path) end, { kind = "exists", code = "Locked" }, "taken twice")
    t.is(fs.lock(path, { wait = false }), nil, "wait=false gives nil")
    t.raises(function() fs.lock(path, { wait = 0.05 }) end, { kind = "timeout" }, "wait in vain")
  end
  local a = fs.lock(path, { shared = true })
  local b = fs.lock(path, { shared = true })
  b:close()
  b:close()
  t.ok(true, "second close is harmless")
  async.scope(function(s)
    s:spawn(function() async.sleep(0.02) a:close() end)
    local c <close> = fs.lock(path, { wait = 5 })
    t.ok(c ~= nil, "waits for its turn")
  end)
end)

t.test("while a file is loaded only reading is allowed", function()
  local host = require "hgauto.host"
  t.is(host.sandbox(fs.read, dir .. "/s"), "abc", "read")
  for name, args in pairs {
    write = { "x", "" }, append = { "x", "" }, mkdir = { "x" }, remove = { "x" },
    rename = { "x", "y" }, symlink = { "x", "y" }, chmod = { "x", 0 }, tmpdir = { "." },
    lock = { "x" },
  } do
    t.raises(function() host.sandbox(fs[name], table.unpack(args)) end, { kind = "load" }, name)
  end
end)

return t.done()
