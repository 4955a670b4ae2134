-- hgauto.ssh: files over SFTP beyond the simple transfers: open files, resume, retries, several
-- channels, trees that are brought up to date or swapped, errors told in words.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local s = ssh.connect("127.0.0.1", d:args())

local MB = 1024 * 1024
local data = crypto.random(MB):rep(40) .. "tail"
fs.write(dir .. "/big", data)
local sum = crypto.sha256(data)

local function parts(path)
  return proc.run({ "find", path or dir, "-name", "*.hga-*" }).out
end

--- Ends the server's process of this session, from inside a transfer.
local function killer(session, after)
  local pid = session:exec("echo $PPID").out:match("%d+")
  local done = false
  return function(n)
    if not done and n >= after then
      done = true
      proc.run({ "kill", "-9", pid }, { check = false })
    end
  end
end

t.test("single operations", function()
  local r = dir .. "/ops"
  s:mkdir(r)
  local v = s:statvfs(r)
  t.ok(v.size > 0 and v.available <= v.free and v.free <= v.size and v.block > 0, "statvfs")
  s:write(r .. "/f", "text")
  s:link(r .. "/f", r .. "/g")
  t.is({ s:read(r .. "/g"), fs.stat(r .. "/f").nlink or 2 }, { "text", 2 }, "link")
  s:utime(r .. "/f", 1000000000)
  t.is(s:stat(r .. "/f").mtime, 1000000000, "utime")
  s:symlink("f", r .. "/l")
  t.raises(function() s:symlink("f", r .. "/l") end, { kind = "exists" }, "symlink over a file")
  t.raises(function() s:link(r .. "/f", r .. "/l") end, { kind = "exists" }, "link over a file")
  s:mkdir(r .. "/d")
  s:write(r .. "/d/x", "")
  t.raises(function() s:rename(r .. "/f", r .. "/d") end,
    { kind = "remote", code = "IsDirectory" }, "rename onto a directory")
  t.raises(function() s:remove(r .. "/d") end, { match = "not empty" }, "remove of what is full")
  t.is(s:realpath("~root"), "/root", "~user")
  t.raises(function() s:stat("~nobody-here/x") end, { kind = "notfound" }, "~unknown")
  t.raises(function() s:read(r .. "/none") end, { kind = "notfound", match = "/none" }, "read")
  for i = 1, 150 do
    fs.write(("%s/d/%d"):format(r, i), "")
  end
  s:remove(r, { tree = true })
  t.is(fs.exists(r), false, "a tree of many files")
end)

t.test("open files", function()
  local path = dir .. "/open"
  do
    local f <close> = s:open(path, "w", { mode = 448 })
    f:write("one\ntwo\n"):write("three")
    t.is(f:seek("cur"), 13, "position")
    f:seek("set", 4)
    f:write("TWO")
    t.is(f:stat().size, 13, "size")
    f:sync()
  end
  t.is({ fs.read(path), fs.stat(path).mode & 511 }, { "one\nTWO\nthree", 448 }, "written")
  do
    local f <close> = s:open(path, "a")
    f:write("\nfour\n")
  end
  local lines = {}
  local f = s:open(path)
  for line in f:lines() do
    lines[#lines + 1] = line
  end
  t.is(lines, { "one", "TWO", "three", "four" }, "append, lines")
  t.is({ f:read(5), f:seek("set", 2), f:read(3), f:read("a") },
    { nil, 2, "e\nT", "WO\nthree\nfour\n" }, "seek, read")
  t.raises(function() f:write("x") end, { kind = "usage" }, "a file opened to read")
  f:close()
  f:close()
  t.raises(function() f:read(1) end, { kind = "usage", match = "closed" }, "a closed file")
  f = s:open(path, "r+")
  f:truncate(3)
  t.is(f:read("a"), "one", "truncate")
  f:close()
  f = s:open(dir .. "/big")
  local h = crypto.sha256(f:read("a"))
  t.is(h, sum, "a large file")
  f:seek("end", -4)
  t.is(f:read(100), "tail", "its end")
  f:close()
  t.raises(function() s:open(dir .. "/no/file", "w") end, { kind = "notfound" }, "missing")
  t.raises(function()
    local x <close> = s:open(dir)
    x:read(1)
  end, { kind = "remote" }, "a directory")
  t.raises(function() s:open(path, "x") end, { kind = "usage" }, "how")
  local kept
  async.scope(function()
    kept = s:open(path)
  end)
  t.raises(function() kept:read(1) end, { kind = "usage" }, "closed with its scope")
  local c = ssh.connect("127.0.0.1", d:args())
  f = c:open(path)
  killer(c, 0)(0)
  t.raises(function() f:read(1) end, { kind = "net" }, "its connection lost")
  f:close()
  c:close()
end)

t.test("several channels", function()
  for _, n in ipairs { 1, 4 } do
    local r = s:put(dir .. "/big", dir .. "/up", { parallel = n, verify = "sha256" })
    t.is({ r.bytes, r.sha256, crypto.sha256(fs.read(dir .. "/up", { max = 1 << 26 })) },
      { #data, sum, sum }, "put over " .. n)
    r = s:get(dir .. "/up", dir .. "/down", { parallel = n, sha256 = sum })
    t.is(crypto.sha256(fs.read(dir .. "/down", { max = 1 << 26 })), sum, "get over " .. n)
    t.is(r.bytes, #data, "bytes")
  end
  t.is(s:exec("echo on").out, "on\n", "the session goes on")
  local d2 = dofile("tests/servers/sshd.lua").start(dir, { "MaxSessions 1" })
  local c <close> = ssh.connect("127.0.0.1", d2:args())
  c:put(dir .. "/big", dir .. "/up2", { parallel = 4 })
  t.is(crypto.sha256(fs.read(dir .. "/up2", { max = 1 << 26 })), sum, "one channel allowed")
  d2:stop()
  t.is(parts(), "", "no parts")
end)

t.test("cancelled over several channels", function()
  for _, after in ipairs { 0, 0.02, 0.05, 0.1 } do
    for _, put in ipairs { true, false } do
      local _, e = pcall(async.timeout, after, function()
        if put then
          s:put(dir .. "/big", dir .. "/cut", { parallel = 4 })
        else
          s:get(dir .. "/big", dir .. "/cut", { parallel = 2 })
        end
      end)
      t.ok(e == nil or e.kind == "timeout", "cancelled: " .. tostring(e))
    end
  end
  t.is(parts(), "", "no parts")
  proc.run { "rm", "-f", dir .. "/cut" }
  t.is(s:exec("echo on").out, "on\n", "the session goes on")
end)

t.test("a lost connection", function()
  local c = ssh.connect("127.0.0.1", d:args())
  local e = t.raises(function()
    c:put(dir .. "/big", dir .. "/lost", { progress = killer(c, 4 * MB) })
  end, { kind = "net" }, "put")
  t.ok(not fs.exists(dir .. "/lost"), "no truncated file under the name")
  local left = e.left and e.left[1] or ""
  t.ok(tostring(e):find("may be left", 1, true) and parts():find(left, 1, true), "named part")
  fs.remove(left)
  c:wait_ready()
  t.raises(function()
    c:get(dir .. "/big", dir .. "/lost", { progress = killer(c, 4 * MB) })
  end, { kind = "net" }, "get")
  t.ok(not fs.exists(dir .. "/lost") and parts() == "", "nothing is left of it")
  c:wait_ready()
  for _, put in ipairs { true, false } do
    local method = put and c.put or c.get
    t.raises(function()
      method(c, dir .. "/big", dir .. "/again", { resume = true, progress = killer(c, 8 * MB) })
    end, { kind = "net" }, "first try")
    t.like(parts(), "again%.hga%-", "the part stays")
    c:wait_ready()
    local r = method(c, dir .. "/big", dir .. "/again", { resume = true, verify = "sha256" })
    t.ok(r.resumed and r.resumed > 0 and r.bytes == #data, "goes on at " .. tostring(r.resumed))
    t.is({ r.sha256, crypto.sha256(fs.read(dir .. "/again", { max = 1 << 26 })) }, { sum, sum },
      "the file is whole")
    t.is(parts(), "", "no part is left")
    fs.remove(dir .. "/again")
    r = method(c, dir .. "/big", dir .. "/again", { retry = 2, progress = killer(c, 8 * MB) })
    t.is({ r.attempts, crypto.sha256(fs.read(dir .. "/again", { max = 1 << 26 })) }, { 2, sum },
      "retry logs in again")
    fs.remove(dir .. "/again")
  end
  c:close()
end)

t.test("what is resumed is the same file", function()
  local c = ssh.connect("127.0.0.1", d:args())
  t.raises(function()
    c:put(dir .. "/big", dir .. "/other", { resume = true, progress = killer(c, 8 * MB) })
  end, { kind = "net" }, "first try")
  c:wait_ready()
  fs.write(dir .. "/big2", data:reverse())
  fs.write(dir .. "/big2", data:reverse())
  local r = c:put(dir .. "/big2", dir .. "/other", { resume = true })
  t.is({ r.resumed, fs.read(dir .. "/other", { max = 1 << 26 }) == data:reverse() }, { nil, true },
    "another source starts anew")
  local part = parts():match("[^\n]+")
  fs.remove(part)
  fs.symlink(dir .. "/victim", part)
  fs.write(dir .. "/victim", ("v"):rep(100))
  r = c:put(dir .. "/big", dir .. "/other", { resume = true })
  t.is({ fs.read(dir .. "/victim"), fs.lstat(dir .. "/other").type }, { ("v"):rep(100), "file" },
    "a link in the place of the part is not followed")
  t.is({ r.resumed, fs.read(dir .. "/other", { max = 1 << 26 }) == data }, { nil, true }, "content")
  local get
  get = async.spawn(function()
    c:get(dir .. "/big", dir .. "/cut", {
      resume = true,
      progress = function(n)
        if n >= 4 * MB then get:cancel() end
      end,
    })
  end)
  local ok, e = pcall(get.join, get)
  t.is({ ok, not ok and e.kind }, { false, "cancelled" }, "cancelled on the way")
  t.ok(parts():find("cut.hga", 1, true), "a cancelled get with resume leaves its part")
  r = c:get(dir .. "/big", dir .. "/cut", { resume = true, sha256 = sum })
  t.is({ r.bytes, parts() }, { #data, "" }, "and goes on")
  c:close()
end)

t.test("trees brought up to date", function()
  proc.run({ "sh", "-ec", [[mkdir -p t/a; cd t
    for i in 1 2 3 4 5 6 7 8 9; do echo $i > a/f$i; done; head -c 2000000 /dev/zero > big]] },
    { cwd = dir })
  local r = s:put(dir .. "/t", dir .. "/t2", { newer = true })
  t.is({ r.files, r.unchanged }, { 10, 0 }, "first put")
  fs.write(dir .. "/t/a/f3", "changed")
  r = s:put(dir .. "/t", dir .. "/t2", { newer = true })
  t.is({ r.files, r.unchanged, fs.read(dir .. "/t2/a/f3") }, { 1, 9, "changed" }, "second put")
  r = s:get(dir .. "/t2", dir .. "/t3", { newer = true })
  t.is({ r.files, r.unchanged }, { 10, 0 }, "first get")
  fs.write(dir .. "/t2/a/f4", "changed")
  r = s:get(dir .. "/t2", dir .. "/t3", { newer = true })
  t.is({ r.files, r.unchanged, fs.read(dir .. "/t3/a/f4") }, { 1, 9, "changed" }, "second get")
end)

t.test("trees swapped", function()
  for _, put in ipairs { true, false } do
    local to = dir .. (put and "/s1" or "/s2")
    local method = put and s.put or s.get
    method(s, dir .. "/t", to, { swap = true })
    fs.write(to .. "/old", "old")
    method(s, dir .. "/t", to, { swap = true })
    t.is({ fs.exists(to .. "/old"), fs.exists(to .. "/a/f9") }, { false, true }, "replaced whole")
    fs.write(to .. "/old", "old")
    t.raises(function() method(s, dir .. "/t", to, { swap = true, max_files = 3 }) end,
      { code = "TooLarge" }, "a failure")
    t.is({ fs.exists(to .. "/old"), parts() }, { true, "" }, "leaves the old one alone")
  end
end)

t.test("trees that go on after errors", function()
  proc.run({ "sh", "-ec", [[mkdir -p k/a k/b; cd k; ln -s none broken; ln -s loop loop
    for i in 1 2; do echo $i > a/f$i; echo $i > b/f$i; done
    mkdir ../k2; echo file > ../k2/b]] }, { cwd = dir })
  t.raises(function() s:put(dir .. "/k", dir .. "/k1", { links = "follow" }) end,
    { kind = "notfound", match = "broken" }, "without: the first ends it")
  t.is(fs.exists(dir .. "/k1"), false, "and nothing is sent")
  local r = s:put(dir .. "/k", dir .. "/k2", { links = "follow", keep_going = true })
  t.is({ r.files, r.failed, #r.errors }, { 2, 5, 5 }, "put: what can be sent is")
  t.is(fs.read(dir .. "/k2/a/f2"), "2\n", "whole")
  local texts = table.concat(r.errors, "\n")
  for _, what in ipairs { "broken", "loop", "/k2/b/f1", "/k2/b/f2" } do
    t.ok(texts:find(what, 1, true), what .. " is named")
  end
  t.raises(function() s:put(dir .. "/k/a", dir .. "/k2/b", { keep_going = true }) end,
    { kind = "remote" }, "a file in place of the whole tree")
  proc.run({ "sh", "-ec", "chmod -R a+rX k; chmod 0 k/b" }, { cwd = dir })
  local c = ssh.connect("127.0.0.1", d:args { user = "hgtest" })
  r = c:get(dir .. "/k", dir .. "/k3", { keep_going = true })
  t.is({ r.files, r.failed, fs.read(dir .. "/k3/a/f1") }, { 2, 1, "1\n" }, "get: likewise")
  t.like(r.errors[1], "/k/b", "a directory that cannot be read")
  c:close()
end)

t.test("trees and a lost connection", function()
  fs.mkdir(dir .. "/m")
  for i = 1, 300 do
    fs.write(("%s/m/%d"):format(dir, i), ("%d\n"):format(i):rep(8000))
  end
  local c = ssh.connect("127.0.0.1", d:args())
  local e = t.raises(function()
    c:put(dir .. "/m", dir .. "/m2", { progress = killer(c, 2 * MB) })
  end, { kind = "net" }, "put")
  local found = {}
  for path in parts(dir .. "/m2"):gmatch("[^\n]+") do
    found[path] = true
  end
  for _, path in ipairs(e.left or {}) do
    found[path] = nil
  end
  t.is(next(found), nil, "every part that is left is named")
  t.is(proc.run({ "sh", "-c", [[for f in m2/*; do case $f in *.part) ;; *)
    cmp "m/${f#m2/}" "$f" || true;; esac; done]] }, { cwd = dir }).out, "", "no file is cut")
  c:wait_ready()
  for _, path in ipairs(e.left or {}) do
    -- "May be left": the server may have finished some before it died.
    pcall(fs.remove, path)
  end
  local r = c:put(dir .. "/m", dir .. "/m2", { retry = 1, progress = killer(c, 4 * MB) })
  t.is({ r.attempts, proc.run({ "diff", "-r", "m", "m2" }, { cwd = dir }).out, parts() },
    { 2, "", "" }, "a retry completes it and removes what was left")
  c:close()
end)

t.test("options that have no effect are mistakes", function()
  t.raises(function() s:put(dir .. "/t", dir .. "/x", { verify = "sha256" }) end,
    { kind = "usage", match = "verify is for a file" }, "verify of a tree")
  t.raises(function() s:put(dir .. "/big", dir .. "/x", { newer = true }) end,
    { kind = "usage", match = "newer is for a directory" }, "newer of a file")
  t.raises(function() s:put(dir .. "/big", dir .. "/x", { verify = "md5" }) end,
    { kind = "usage" }, "verify=md5")
end)

s:close()
d:stop()
return t.done()
