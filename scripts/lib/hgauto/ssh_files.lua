--- Files of a session: transfers, trees, single operations, open files.
-- Part of hgauto.ssh, which calls this with its session class and helpers.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local log = require "hgauto.log"
local time = require "hgauto.time"

local CHUNK = 256 * 1024
local IO_MAX = 1024 * 1024
local FAR = 0.02 -- round trip from which one channel cannot fill a line
local LARGE = 64 * 1024 * 1024 -- bytes that are worth a second session
local RETRY_SECONDS = 120 -- for getting in again after a lost connection
local AT_ONCE = 64 -- requests of ours on their way
local DEPTH_MAX = 64

return function(Session, lib)
  local enter, options, raise, usage = lib.enter, lib.options, lib.raise, lib.usage

  -- ---- paths ----

  --- "~user/x" needs the server; all other forms are the engine's.
  local function expand(conn, path)
    if type(path) ~= "string" then
      usage("sftp: a path is needed, not a %s", type(path))
    end
    if not path:find("^~[^/]") then
      return path
    end
    local ok, r = pcall(conn.core.call, conn.core, "expand", path)
    if ok then
      return r
    end
    if r.code == "Unsupported" then
      usage("sftp: the server cannot say where %s is; give the path", path)
    end
    error(r, 0)
  end

  local function base(path)
    return path:match("([^/]+)/*$") or path
  end

  --- dst itself, or the place in it when it ends in a slash.
  local function into(dst, src)
    if dst:sub(-1) == "/" and dst ~= "/" then
      return dst .. base(src)
    end
    return dst
  end

  local function random_name(path)
    return ("%s.hga-%s.part"):format(path:gsub("/+$", ""), crypto.hex(crypto.random(4)))
  end

  -- ---- transfers ----

  local function tidy(conn, ok, ...)
    if ok then
      return ...
    end
    -- A cancelled transfer removes its part; do not pull the line away.
    if conn.core:info().open then
      pcall(async.shield, 5, conn.core.idle, conn.core, 5)
    end
    local err = ...
    if type(err) == "table" and err.kind == "timeout" and err.code ~= "Transfer" then
      err.code, err.phase = "Transfer", "sftp"
    end
    if type(err) == "table" and err.phase then
      lib.of_target(err, conn.target, true)
    end
    error(err, 0)
  end

  local function transfer(conn, method, args, seconds)
    return tidy(conn, pcall(async.timeout, seconds, conn.core[method], conn.core, args))
  end

  local function allowance(size)
    return math.min(14400, 60 + math.max(0, size) / 65536)
  end

  local extra_meta = {
    __close = function(list)
      for _, c in ipairs(list) do
        c:close()
      end
    end,
  }

  --- Runs a get while further sessions come up and take over blocks of it.
  local function assisted(conn, sessions, fn)
    if sessions <= 1 then
      return fn()
    end
    return async.scope(function(sc)
      local extra <close> = setmetatable({}, extra_meta)
      local helper = sc:spawn(function()
        for _ = 2, sessions do
          local ok, c = pcall(lib.another, conn, 15)
          if not ok then
            -- Only a help: the one session goes on alone.
            log.debug("ssh %s: no second session: %s", conn.target.name, tostring(c))
            return
          end
          extra[#extra + 1] = c
          conn.core:assist(c)
        end
      end)
      local ok, r = pcall(fn)
      helper:cancel()
      if not ok then
        error(r, 0)
      end
      return r
    end)
  end

  local function get_sessions(conn, o, size)
    if o.resume or o.retry and o.retry > 0 then
      return 1
    end
    if o.parallel then
      return math.max(1, math.min(4, math.tointeger(o.parallel) or 1))
    end
    return size >= LARGE and conn.core:info().rtt >= FAR and 2 or 1
  end

  local function lost(e)
    return type(e) == "table" and (e.kind == "net" or e.kind == "timeout" and e.code == "Transfer")
      and not async.cancelled()
  end

  --- What a lost connection has left on the server, once we are back.
  local function remove_left(conn, e)
    for _, path in ipairs(e.left or {}) do
      pcall(conn.core.call, conn.core, "remove", path)
    end
  end

  --- Calls fn(attempt); after a lost connection logs in again, at most o.retry times.
  local function with_retries(self, conn, o, fn)
    local most, attempt = 1 + (math.tointeger(o.retry) or 0), 1
    while true do
      local ok, r = pcall(fn, attempt)
      if ok then
        r.attempts = attempt
        return r
      end
      if not lost(r) or attempt >= most then
        if type(r) == "table" then
          r.attempts = attempt
        end
        error(r, 0)
      end
      log.info("ssh %s: transfer attempt %d: %s", conn.target.name, attempt, tostring(r))
      self:wait_ready { for_seconds = RETRY_SECONDS, delay = 0.5 }
      if o.tree then
        remove_left(conn, r)
      end
      attempt = attempt + 1
    end
  end

  local PUT = {
    mode = "number", mtime = "boolean", atomic = "boolean string", fsync = "boolean",
    verify = "string", progress = "function", timeout = "number", links = "string",
    exclude = "table", keep_going = "boolean", max_files = "number", max_bytes = "number",
    resume = "boolean", retry = "number", parallel = "number", newer = "boolean",
    swap = "boolean",
  }
  local GET = lib.merged(PUT, { sha256 = "string", max = "number" })
  local FILE_ONLY = { "mode", "verify", "resume", "sha256", "max", "fsync", "atomic" }
  local TREE_ONLY = { "links", "exclude", "keep_going", "max_files", "max_bytes", "newer", "swap" }
  local CHOICES = {
    verify = { size = true, sha256 = true },
    links = { keep = true, follow = true, skip = true },
    atomic = { [true] = true, [false] = true, require = true },
  }

  local function transfer_options(given, defs, what)
    local o = options(given, defs, what)
    for key, allowed in pairs(CHOICES) do
      if o[key] ~= nil and not allowed[o[key]] then
        usage("%s: option %s cannot be %q", what, key, tostring(o[key]))
      end
    end
    if o.retry and (o.retry < 0 or o.retry > 100) then
      usage("%s: option retry must be 0 to 100", what)
    end
    return o
  end

  --- An option that has no effect is a mistake of the caller's.
  local function only(o, names, what, kind)
    for _, name in ipairs(names) do
      if o[name] ~= nil and o[name] ~= false then
        usage("%s: option %s is for a %s", what, name, kind)
      end
    end
  end

  local function tree_args(o, put, local_path, remote, again)
    return {
      put = put, ["local"] = local_path, remote = remote, links = o.links, exclude = o.exclude,
      mtime = o.mtime ~= false, keep_going = o.keep_going, progress = o.progress,
      max_files = math.tointeger(o.max_files), max_bytes = math.tointeger(o.max_bytes),
      -- What an earlier attempt has brought over is not sent twice.
      newer = o.newer or again,
    }
  end

  --- What a file on the server hashes to: by sha256sum there; without it the file is read.
  local function remote_sha256(self, conn, path, size)
    -- A server for files only refuses commands.
    local ok, sum = pcall(self.exec, self, { "sha256sum", "--", (path:gsub("^~/+", "")) },
      { check = false, timeout = allowance(size) })
    if not ok and sum.kind ~= "remote" then
      error(sum, 0)
    end
    return ok and sum.ok and sum.out:match("^\\?(%x+)")
      or transfer(conn, "xfer", { remote = path, discard = true, hash = true }, 14400).sha256
  end

  --- Compares the part on the server with what was sent, then renames it.
  local function verified_rename(self, conn, r, dst)
    local got = remote_sha256(self, conn, r.part, r.bytes)
    if got ~= r.sha256 then
      conn.core:call("remove", r.part)
      raise { kind = "protocol", code = "ShortTransfer", path = dst, phase = "sftp",
        message = ("sftp put %s:%s: the SHA-256 there differs"):format(conn.target.name, dst) }
    end
    conn.core:call("rename", r.part, dst)
  end

  local function put_file(self, conn, o, src, dst, size)
    local verify = o.verify == "sha256"
    local r = transfer(conn, "xfer", {
      put = true, ["local"] = src, remote = dst, mode = math.tointeger(o.mode),
      mtime = o.mtime ~= false, need_atomic = o.atomic == "require", fsync = o.fsync,
      hash = verify, hold = verify, progress = o.progress,
      resume = o.resume or o.retry ~= nil and o.retry > 0, keep = o.resume,
      parallel = math.tointeger(o.parallel),
    }, o.timeout or allowance(size))
    r.files = 1
    if verify then
      verified_rename(self, conn, r, dst)
      r.part = nil
    end
    return r
  end

  --- Builds the tree beside its place, then changes places.
  local function swapped(place, make)
    local fresh = random_name(place.path)
    local ok, r = pcall(make, fresh)
    if not ok then
      if not (type(r) == "table" and r.kind == "net") then
        pcall(async.shield, 30, place.remove, fresh)
      end
      error(r, 0)
    end
    local old
    if place.exists() then
      old = random_name(place.path)
      place.rename(place.path, old)
    end
    local good, e = pcall(place.rename, fresh, place.path)
    if not good then
      if old then
        pcall(place.rename, old, place.path)
      end
      error(e, 0)
    end
    if old then
      place.remove(old)
    end
    return r
  end

  local function put_tree(self, conn, o, src, dst, again)
    local function make(to)
      return transfer(conn, "tree", tree_args(o, true, src, to, again), o.timeout or 14400)
    end
    if not o.swap then
      return make(dst)
    end
    return swapped({
      path = dst,
      exists = function() return self:find(dst) ~= nil end,
      rename = function(a, b) conn.core:call("rename", a, b) end,
      remove = function(p) self:remove(p, { tree = true }) end,
    }, make)
  end

  local function get_tree(conn, o, src, dst, again)
    local function make(to)
      return transfer(conn, "tree", tree_args(o, false, to, src, again), o.timeout or 14400)
    end
    if not o.swap then
      return make(dst)
    end
    return swapped({
      path = dst,
      exists = function() return fs.exists(dst) end,
      rename = fs.rename,
      remove = function(p) fs.remove(p, { tree = true }) end,
    }, make)
  end

  --- Sends a file or a directory; files appear whole or not at all.
  -- @param src string local path
  -- @param dst string remote path; ending in / it is the directory to put into
  -- @param opts.mode integer permissions, default those of the source
  -- @param opts.mtime boolean keep the time, default true
  -- @param opts.atomic string "require": fail where the server cannot replace atomically
  -- @param opts.fsync boolean
  -- @param opts.verify string "size" (default) or "sha256"
  -- @param opts.progress function called with bytes done and in all
  -- @param opts.timeout number seconds
  -- @param opts.resume boolean go on with the part of an earlier try; a cancel leaves it
  -- @param opts.retry integer log in again and go on after a lost connection, so many times
  -- @param opts.parallel integer channels; default by line and size
  -- @param opts.links string trees: "keep" (default), "follow", "skip"
  -- @param opts.exclude string[] trees: globs on relative paths
  -- @param opts.newer boolean trees: leave files of equal size and time
  -- @param opts.swap boolean trees: build beside the target, then change places
  -- @param opts.keep_going boolean trees: collect errors
  -- @return table {bytes, files, seconds, sha256, atomic, attempts, resumed}; trees: dirs,
  --   unchanged, skipped, errors, failed
  -- @raise notfound; remote NoSpace PermissionDenied SftpFailure IsDirectory; net; timeout Transfer
  -- @waits
  -- @example s:put("hg.tar.gz", "/hgwork/", { verify = "sha256" })
  function Session:put(src, dst, opts)
    local _b <close>, conn = enter(self)
    local o = transfer_options(opts, PUT, "s:put")
    local t0 = time.mono()
    local st = fs.stat(src)
    dst = into(expand(conn, dst), src)
    o.tree = st.type == "dir"
    only(o, o.tree and FILE_ONLY or TREE_ONLY, "s:put", o.tree and "file" or "directory")
    local r = with_retries(self, conn, o, function(attempt)
      if o.tree then
        return put_tree(self, conn, o, src, dst, attempt > 1)
      end
      return put_file(self, conn, o, src, dst, st.size)
    end)
    r.seconds = time.mono() - t0
    return r
  end

  local function get_file(self, conn, o, src, dst, st)
    local retried = o.retry ~= nil and o.retry > 0
    local size, want = st.size or 0, o.sha256 and o.sha256:lower()
    -- First, so that what differs never gets its name here; the end of a device never comes.
    if not want and o.verify == "sha256" and st.type == "file" then
      want = remote_sha256(self, conn, src, size)
    end
    local r = assisted(conn, get_sessions(conn, o, size), function()
      return transfer(conn, "xfer", {
        ["local"] = dst, remote = src, mode = math.tointeger(o.mode), mtime = o.mtime ~= false,
        hash = o.verify == "sha256", sha256 = want,
        max = math.tointeger(o.max), progress = o.progress,
        resume = o.resume or retried, keep = o.resume,
      }, o.timeout or allowance(size))
    end)
    r.files = 1
    return r
  end

  --- Fetches a file or a directory.
  -- @param src string remote path
  -- @param dst string local path; ending in / it is the directory to put into
  -- @param opts table as put, and: sha256 (hex that the file must have), max (bytes)
  -- @return table as put
  -- @raise as put; protocol TooLarge UnsafeName ShortTransfer; io NoSpace
  -- @waits
  -- @example s:get("/hgwork/out/hg.whl", "dist/")
  function Session:get(src, dst, opts)
    local _b <close>, conn = enter(self)
    local o = transfer_options(opts, GET, "s:get")
    local t0 = time.mono()
    src = expand(conn, src)
    dst = into(dst, src)
    local st
    local r = with_retries(self, conn, o, function(attempt)
      st = st or conn.core:call("stat", src)
      o.tree = st.type == "dir"
      only(o, o.tree and FILE_ONLY or TREE_ONLY, "s:get", o.tree and "file" or "directory")
      if o.tree then
        return get_tree(conn, o, src, dst, attempt > 1)
      end
      return get_file(self, conn, o, src, dst, st)
    end)
    r.seconds = time.mono() - t0
    return r
  end

  --- Writes a text to a remote file, replacing it whole.
  -- @param dst string
  -- @param text string
  -- @param opts.mode integer default 0644
  -- @raise as put
  -- @waits
  -- @example s:write("/tmp/run.sh", script, { mode = 448 })
  function Session:write(dst, text, opts)
    local _b <close>, conn = enter(self)
    local o = options(opts, { mode = "number" }, "s:write")
    if type(text) ~= "string" then
      usage("s:write: a text is needed, not a %s", type(text))
    end
    local r = transfer(conn, "xfer", {
      put = true, data = text, remote = expand(conn, dst), mode = math.tointeger(o.mode),
    }, allowance(#text))
    return { bytes = r.bytes, atomic = r.atomic }
  end

  --- The content of a remote file.
  -- @param src string
  -- @param opts.max integer bytes, default 32 MiB; more raises protocol TooLarge
  -- @return string
  -- @raise as get
  -- @waits
  function Session:read(src, opts)
    local _b <close>, conn = enter(self)
    local o = options(opts, { max = "number" }, "s:read")
    local max = math.tointeger(o.max) or 32 * 1024 * 1024
    return transfer(conn, "xfer", { remote = expand(conn, src), max = max }, allowance(max)).data
      or ""
  end

  -- ---- single operations ----

  local function call(self, name, path, ...)
    local _b <close>, conn = enter(self)
    return conn.core:call(name, expand(conn, path), ...)
  end

  --- Type, size, mode, uid, gid, mtime, atime; follows links.
  -- @param path string
  -- @return table
  -- @raise notfound; remote
  -- @waits
  function Session:stat(path)
    return call(self, "stat", path)
  end

  --- As stat, of a link itself.
  -- @param path string
  -- @return table
  -- @waits
  function Session:lstat(path)
    return call(self, "lstat", path)
  end

  --- As stat, nil where there is nothing.
  -- @param path string
  -- @return table|nil
  -- @waits
  function Session:find(path)
    local ok, r = pcall(call, self, "stat", path)
    if ok then
      return r
    end
    if type(r) == "table" and r.kind == "notfound" then
      return nil
    end
    error(r, 0)
  end

  --- Entries of a directory with name and attributes, sorted.
  -- @param path string
  -- @return table
  -- @raise notfound; protocol UnsafeName
  -- @waits
  function Session:list(path)
    return call(self, "list", path)
  end

  --- Space on the file system that holds path, in bytes.
  -- @param path string
  -- @return table size, free, available (to users), files, files_free, block, read_only
  -- @raise remote Unsupported where the server cannot say
  -- @waits
  -- @example assert(s:statvfs("/hgwork").available > 1 << 30)
  function Session:statvfs(path)
    return call(self, "statvfs", path)
  end

  --- A plain "failure" told in words, when looking again shows why.
  local function refine(self, err, what, path, kind, code, why)
    if type(err) == "table" and err.code == "SftpFailure" then
      err.kind, err.code = kind, code
      err.message = ("sftp %s %s:%s: %s"):format(what, self.conn.target.name, path, why)
    end
    error(err, 0)
  end

  local function is_dir(self, path)
    local ok, st = pcall(self.find, self, path)
    return ok and st ~= nil and st.type == "dir", ok and st ~= nil
  end

  local function is_full(self, path)
    local ok, v = pcall(self.statvfs, self, path:match("^(.*)/[^/]+/*$") or ".")
    return ok and v.size > 0 and (v.available == 0 or v.files > 0 and v.files_free == 0)
  end

  --- Makes a directory.
  -- @param path string
  -- @param opts.parents boolean missing parents too; an existing directory is fine
  -- @param opts.mode integer
  -- @raise exists; notfound; remote
  -- @waits
  function Session:mkdir(path, opts)
    local _b <close> = enter(self)
    local o = options(opts, { parents = "boolean", mode = "number" }, "s:mkdir")
    local mode = math.tointeger(o.mode) or 511
    local ok, err = pcall(call, self, "mkdir", path, nil, mode)
    if ok then
      return
    end
    local up = path:match("^(.+)/+[^/]+/*$")
    if o.parents and err.kind == "notfound" and up then
      self:mkdir(up, { parents = true })
      return call(self, "mkdir", path, nil, mode)
    end
    if err.code == "SftpFailure" then
      local dir, there = is_dir(self, path)
      if dir and o.parents then
        return
      end
      if there then
        refine(self, err, "mkdir", path, "exists", "Exists", "it exists")
      end
      if is_full(self, path) then
        refine(self, err, "mkdir", path, "remote", "NoSpace", "no space left on the remote disk")
      end
    end
    error(err, 0)
  end

  local function remove_tree(conn, path, depth)
    if depth > DEPTH_MAX then
      raise { kind = "protocol", code = "TooLarge", path = path, phase = "sftp",
        message = ("sftp remove %s:%s: directories too deep"):format(conn.target.name, path) }
    end
    local dirs, files = {}, {}
    for _, e in ipairs(conn.core:call("list", path)) do
      local to = e.type == "dir" and dirs or files
      to[#to + 1] = path .. "/" .. e.name
    end
    async.map(files, function(file)
      conn.core:call("remove", file)
    end, { limit = AT_ONCE })
    for _, dir in ipairs(dirs) do
      remove_tree(conn, dir, depth + 1)
    end
    conn.core:call("rmdir", path)
  end

  --- Removes a file or an empty directory; links are never followed.
  -- @param path string
  -- @param opts.tree boolean a directory with all it holds
  -- @raise notfound; remote
  -- @waits
  function Session:remove(path, opts)
    local _b <close>, conn = enter(self)
    local o = options(opts, { tree = "boolean" }, "s:remove")
    path = expand(conn, path)
    if self:lstat(path).type ~= "dir" then
      return call(self, "remove", path)
    end
    if o.tree then
      return remove_tree(conn, path, 1)
    end
    local ok, err = pcall(call, self, "rmdir", path)
    if not ok then
      local listed, entries = pcall(self.list, self, path)
      if listed and #entries > 0 then
        refine(self, err, "remove", path, "remote", "SftpFailure",
          "the directory is not empty (tree=true removes what it holds)")
      end
      error(err, 0)
    end
  end

  --- Renames, over an existing file where the server can.
  -- @param from string
  -- @param to string
  -- @raise notfound; remote IsDirectory
  -- @waits
  function Session:rename(from, to)
    local _b <close>, conn = enter(self)
    local ok, err = pcall(call, self, "rename", from, expand(conn, to))
    if ok then
      return
    end
    if is_dir(self, to) then
      refine(self, err, "rename", to, "remote", "IsDirectory", "the target is a directory")
    end
    error(err, 0)
  end

  --- Sets permissions.
  -- @param path string
  -- @param mode integer
  -- @waits
  function Session:chmod(path, mode)
    return call(self, "setattr", path, nil, mode)
  end

  --- Sets owner and group, by number.
  -- @param path string
  -- @param uid integer
  -- @param gid integer
  -- @waits
  function Session:chown(path, uid, gid)
    return call(self, "setattr", path, nil, nil, uid, gid)
  end

  --- Sets the time of the last change.
  -- @param path string
  -- @param mtime integer seconds since 1970
  -- @param[opt] atime integer default mtime
  -- @waits
  function Session:utime(path, mtime, atime)
    return call(self, "setattr", path, nil, nil, nil, nil, atime or mtime, mtime)
  end

  --- Makes a symbolic link at path that names target.
  -- @param target string
  -- @param path string
  -- @raise exists
  -- @waits
  function Session:symlink(target, path)
    local ok, err = pcall(call, self, "symlink", path, target)
    if not ok then
      if pcall(self.lstat, self, path) then
        refine(self, err, "symlink", path, "exists", "Exists", "it exists")
      end
      error(err, 0)
    end
  end

  --- Another name for a file.
  -- @param from string
  -- @param to string
  -- @raise exists; remote Unsupported where the server cannot
  -- @waits
  function Session:link(from, to)
    local _b <close>, conn = enter(self)
    local ok, err = pcall(call, self, "link", from, expand(conn, to))
    if not ok then
      if pcall(self.lstat, self, to) then
        refine(self, err, "link", to, "exists", "Exists", "it exists")
      end
      error(err, 0)
    end
  end

  --- What a symbolic link names.
  -- @param path string
  -- @return string
  -- @waits
  function Session:readlink(path)
    return call(self, "readlink", path)
  end

  --- The absolute path of what exists.
  -- @param path string
  -- @return string
  -- @waits
  function Session:realpath(path)
    return call(self, "realpath", path)
  end

  -- ---- open files ----

  local File = { __name = "ssh file" }
  File.__index = File

  --- Opens a remote file; closable, closed with the scope.
  -- @param path string
  -- @param[opt] how string "r" (default), "w" (made or emptied), "a" (made, written at the end),
  --   "r+" (read and written)
  -- @param opts.mode integer permissions of a file that is made, default 0666 less the umask
  -- @return file
  -- @raise notfound; remote
  -- @waits
  -- @example local f <close> = s:open("/var/log/syslog")
  function Session:open(path, how, opts)
    local _b <close>, conn = enter(self)
    local o = options(opts, { mode = "number" }, "s:open")
    how = how or "r"
    if how ~= "r" and how ~= "w" and how ~= "a" and how ~= "r+" then
      usage('s:open: how must be "r", "w", "a" or "r+", not %q', tostring(how))
    end
    local core = conn.core:open(expand(conn, path), how, math.tointeger(o.mode))
    local f = setmetatable({ core = core, session = self, path = path, how = how, at = 0,
      ahead = "" }, File)
    async.register(f)
    if how == "a" then
      f.at = f:stat().size or 0
    end
    return f
  end

  local CANNOT = { read = { w = true, a = true }, write = { r = true }, truncate = { r = true } }

  --- One operation on the file; its session serves one task at a time.
  local function io(f, what, ...)
    if f.closed then
      usage("sftp: %s is closed", f.path)
    end
    if CANNOT[what] and CANNOT[what][f.how] then
      usage("sftp: %s was opened with %q: it cannot be used to %s", f.path, f.how, what)
    end
    local _b <close> = enter(f.session)
    return f.core:io(what, ...)
  end

  --- At least n bytes into what was read ahead, unless the file ends.
  local function fill(f, n)
    local parts, have = { f.ahead }, #f.ahead
    while have < n do
      local block = io(f, "read", f.at + have, math.min(IO_MAX, math.max(CHUNK, n - have)))
      if block == "" then
        break
      end
      parts[#parts + 1] = block
      have = have + #block
    end
    f.ahead = table.concat(parts)
  end

  local function take(f, n)
    local text = f.ahead:sub(1, n)
    f.ahead = f.ahead:sub(n + 1)
    f.at = f.at + #text
    return text
  end

  --- The next bytes, fewer only at the end.
  -- @param[opt] n integer|string bytes, or "a": all that is left (at most 1 GiB)
  -- @return string|nil nil at the end; "" at the end for "a"
  -- @waits
  function File:read(n)
    if n == "a" then
      fill(self, 1 << 30)
      return take(self, 1 << 30)
    end
    n = math.tointeger(n or CHUNK)
    if not n or n < 0 or n > 1 << 30 then
      usage("f:read: a number of bytes up to 1 GiB, or \"a\"")
    end
    fill(self, n)
    local text = take(self, n)
    if text ~= "" or n == 0 then
      return text
    end
  end

  --- Writes at the position.
  -- @param text string
  -- @return file
  -- @waits
  function File:write(text)
    if type(text) ~= "string" then
      usage("f:write: a text is needed, not a %s", type(text))
    end
    self.ahead = ""
    for from = 1, #text, IO_MAX do
      local piece = text:sub(from, from + IO_MAX - 1)
      io(self, "write", self.at, piece)
      self.at = self.at + #piece
    end
    return self
  end

  --- Moves the position.
  -- @param[opt] whence string "set", "cur" (default), "end"
  -- @param[opt] offset integer default 0
  -- @return integer the position
  -- @waits for "end"
  function File:seek(whence, offset)
    whence, offset = whence or "cur", offset or 0
    local from = whence == "set" and 0 or whence == "cur" and self.at
      or whence == "end" and (self:stat().size or 0)
    if not from or math.type(offset) ~= "integer" or from + offset < 0 then
      usage('f:seek: "set", "cur" or "end" and an offset that stays in front of nothing')
    end
    self.at, self.ahead = from + offset, ""
    return self.at
  end

  --- Cuts or extends the file.
  -- @param[opt] size integer default the position
  -- @waits
  function File:truncate(size)
    self.ahead = ""
    io(self, "truncate", size or self.at)
  end

  --- Type, size, mode, uid, gid, mtime, atime of the open file.
  -- @return table
  -- @waits
  function File:stat()
    return io(self, "stat")
  end

  --- Has the server write the file to its disk.
  -- @raise remote Unsupported
  -- @waits
  function File:sync()
    io(self, "sync")
  end

  --- Iterates over the lines from the position on, without their ends.
  -- @return function
  -- @waits
  -- @example for line in f:lines() do print(line) end
  function File:lines()
    return function()
      local from = 1
      while true do
        local nl = self.ahead:find("\n", from, true)
        if nl then
          return (take(self, nl):sub(1, -2))
        end
        from = #self.ahead + 1
        fill(self, #self.ahead + 1)
        if #self.ahead < from then
          return self.ahead ~= "" and take(self, #self.ahead) or nil
        end
      end
    end
  end

  --- Closes the file; raises what the server says of bytes written last.
  -- @waits
  function File:close()
    if self.closed then
      return
    end
    async.release(self)
    local ok, err = pcall(io, self, "close")
    self.closed = true
    self.core:drop()
    -- With the connection gone the server has closed it.
    if not ok and err.kind ~= "net" then
      error(err, 0)
    end
  end

  File.__close = function(f, err)
    if f.closed then
      return
    end
    if err ~= nil then
      f.closed = true
      async.release(f)
      f.core:drop()
      return
    end
    f:close()
  end
end
