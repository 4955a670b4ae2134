--- Commands of a session: request, streams, end; processes that run on.
-- Part of hgauto.ssh, which calls this with its session class and helpers.
local async = require "hgauto.async"
local core = require "hgauto.ssh.core"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local host = require "hgauto.host"
local lines = require "hgauto.lines"
local log = require "hgauto.log"
local time = require "hgauto.time"

-- Used for each command.
local quote, knows_status = core.quote, core.knows_status
local max, mono = math.max, time.mono

local LINE_MAX = 64 * 1024
local CHUNK = 256 * 1024
local LADDER_SEC = 10
local GRACE_SEC = 5

return function(Session, lib)
  local enter, options, raise, usage = lib.enter, lib.options, lib.raise, lib.usage

  local Process = { __name = "ssh process" }
  Process.__index = Process

  -- ---- request ----

  --- What goes before the command's own words: whose it is, and its environment.
  local function prefix_of(o, conn_env, id)
    local line = "exec "
    if o.sudo then
      line = line .. "sudo -n "
        .. (type(o.sudo) == "string" and quote { "-u", o.sudo } .. " " or "")
    end
    line = line .. "/usr/bin/env _HGAUTO_EXEC=" .. id .. " "
    local env = conn_env and o.env and lib.merged(conn_env, o.env) or conn_env or o.env
    if not env then
      return line
    end
    local names = {}
    for name in pairs(env) do
      if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
        usage("ssh exec: %s is no name of a variable", tostring(name))
      end
      names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
      names[i] = name .. "=" .. tostring(env[name])
    end
    return #names > 0 and line .. quote(names) .. " " or line
  end

  --- A library that reads a missing status as 0 sees only codes that differ.
  local SWAP = "; r=$?; case $r in 0) exit 254;; 254) exit 0;; esac; exit $r"

  --- The words of a list; numbers become text.  A copy: the binding sees no metamethods.
  local function words_of(list)
    local words = {}
    for i = 1, #list do
      local word = list[i]
      if type(word) ~= "string" and type(word) ~= "number" then
        usage("ssh exec: argument %d is a %s", i, type(word))
      end
      words[i] = tostring(word)
    end
    if #words == 0 then
      usage("ssh exec: the argument list is empty")
    end
    return words
  end

  local function compose(cmd, o, id, conn_env)
    if o.raw then
      if type(cmd) ~= "string" or o.env or o.cwd or o.sudo then
        usage("ssh exec: raw takes a string and no env, cwd or sudo")
      end
      return cmd
    end
    if type(cmd) == "table" then
      cmd = words_of(cmd)
    elseif type(cmd) ~= "string" then
      usage("ssh exec: a command line or an argument list is needed")
    end
    if o.merge then
      cmd = (type(cmd) == "table" and quote(cmd) or "(" .. cmd .. "\n)") .. " 2>&1"
    end
    if not knows_status then
      cmd = (type(cmd) == "table" and quote(cmd) or "(" .. cmd .. "\n)") .. SWAP
    end
    local line = prefix_of(o, conn_env, id)
      .. quote(type(cmd) == "table" and cmd or { "/bin/sh", "-c", cmd })
    if o.cwd then
      local dir = o.cwd:sub(1, 1) == "-" and "./" .. o.cwd or o.cwd
      line = "cd " .. quote { dir } .. " && " .. line
    end
    return line
  end

  -- ---- end of what they started ----

  --- Ends the processes of a command: how many are left, how many there were.
  local function kill_marked(p, on, sudo, deadline, urgent)
    local line = ("exec %s/bin/sh -s %s %d"):format(sudo and "sudo -n " or "", p.id,
      p.grace or GRACE_SEC)
    local text = lib.output_of(on:exec(line, {
      input = embed.read("linux/kill.sh"), max_output = 4096, urgent = urgent,
    }), deadline - mono())
    log.debug("ssh kill %s%s: %s", p.id, sudo and " (sudo)" or "", text)
    return tonumber(text:match("left=(%d+)")), tonumber(text:match("waited=(%d+)"))
  end

  local function end_processes(p, on, deadline, urgent)
    local user_sudo = p.options.sudo ~= nil and p.options.sudo ~= false
    local left, waited = kill_marked(p, on, user_sudo, deadline, urgent)
    -- Processes of another user (a sudo inside) need sudo, too.
    if not user_sudo and (left ~= 0 or waited == 0) and deadline - mono() > 1 then
      local ok, again = pcall(kill_marked, p, on, true, deadline)
      if ok and again then
        left = again
      end
    end
    return left or "unknown"
  end

  --- A new connection for the ladders of one that cannot serve them; they share it.
  local Rescue = {
    __close = function(r)
      r.users = r.users - 1
      if r.users == 0 then
        r.conn.rescue = nil
        if r.core then
          lib.close_core(r)
        end
      end
    end,
  }

  local function join_rescue(conn)
    local r = conn.rescue
    if r then
      r.users = r.users + 1
      return r
    end
    r = setmetatable({ conn = conn, users = 1, ready = async.event() }, Rescue)
    conn.rescue = r
    return r, true
  end

  --- What the ladder of a process may take.
  local function ladder_seconds(p)
    return LADDER_SEC + max(0, (p.grace or 0) - GRACE_SEC)
  end

  local function run_ladder(p)
    local conn, o = p.conn, p.options
    local deadline = mono() + ladder_seconds(p) - 0.5
    p.core:signal("TERM")
    if o.raw or o.kill == "channel" then
      return nil
    end
    if conn.core:info().open and pcall(async.timeout, 1.5, conn.core.ping, conn.core) then
      -- All channels may be those of commands that are to be ended.
      local ok, left = pcall(end_processes, p, conn.core, deadline, true)
      if ok then
        return left
      end
      if type(left) ~= "table" or left.code ~= "ChannelRefused" and left.kind ~= "net" then
        error(left, 0)
      end
    end
    local r <close>, first = join_rescue(conn)
    if first then
      local ok, c, hops = pcall(lib.dial, conn.target, 5)
      if ok then
        r.core, r.hops = c, hops
      else
        r.failed = c
      end
      r.ready:set()
    end
    r.ready:wait()
    if r.failed then
      error(r.failed, 0)
    end
    return end_processes(p, r.core, deadline)
  end

  --- Ends what a command has started; how many processes are left.
  local function ladder(p)
    if p.options.kill == "none" or p.conn.closed then
      return nil
    end
    local ok, left = pcall(async.shield, ladder_seconds(p), run_ladder, p)
    if not ok then
      log.debug("ssh %s: kill: %s", p.conn.target.name, tostring(left))
      left = "unknown"
    end
    if left and left ~= 0 then
      log.warn("ssh %s: processes of the command may still run there (left: %s)",
        p.conn.target.name, tostring(left))
      return left
    end
  end

  -- ---- streams ----

  local files_meta = {
    __close = function(files)
      for _, f in pairs(files) do
        f:close()
      end
    end,
  }

  --- The files of stdin and sinks, opened before anything is started.
  local function open_files(o)
    local files = setmetatable({}, files_meta)
    local function open(key, path, mode)
      local f, why = io.open(path, mode)
      if not f then
        files_meta.__close(files)
        raise { kind = "io", message = ("ssh exec: cannot %s %s"):format(
          mode == "rb" and "read" or "write", tostring(why)) }
      end
      files[key] = f
    end
    if type(o.stdin) == "table" then
      open("stdin", o.stdin.file, "rb")
    end
    for stream, sink in pairs(o.sink or {}) do
      if type(sink) == "string" then
        open(stream, sink, "wb")
      end
    end
    return files
  end

  --- Who gets everything of a stream: list of function(block, last).
  local function consumers(p, stream)
    local o, list = p.options, {}
    if o.on_line then
      list[1] = lines.splitter(LINE_MAX, function(line)
        o.on_line(stream, line)
      end)
    end
    local sink = o.sink and o.sink[stream]
    if type(sink) == "function" then
      list[#list + 1] = function(block)
        if block then
          sink(block)
        end
      end
    elseif sink then
      local f = p.files[stream]
      list[#list + 1] = function(block)
        if block and not f:write(block) then
          raise { kind = "io", message = "ssh exec: cannot write " .. sink }
        end
      end
    end
    return list
  end

  --- Function that gives the next piece of stdin, nil at the end.
  local function source(p)
    local stdin = p.options.stdin
    if type(stdin) == "function" then
      return stdin
    end
    if type(stdin) == "table" then
      local f = p.files.stdin
      return function()
        return f:read(CHUNK)
      end
    end
  end

  local EXEC = {
    cwd = "string", env = "table", stdin = "string function table boolean", sudo = "boolean string",
    timeout = "number", idle_timeout = "number", check = "boolean", on_line = "function",
    sink = "table", max_output = "number", merge = "boolean", wait = "string", raw = "boolean",
    kill = "string", pty = "boolean table",
  }
  local PTY = { term = "string", cols = "number", rows = "number" }
  local SINK = { out = "string function", err = "string function" }
  local STDIN = { file = "string" }
  local CHOICES = {
    wait = { eof = true, exit = true },
    kill = { tree = true, channel = true, none = true },
  }

  local function check_choice(o, key, what)
    if o[key] and not CHOICES[key][o[key]] then
      usage("%s: option %s cannot be %q", what, key, o[key])
    end
  end

  local function exec_options(given, what)
    local o = options(given, EXEC, what)
    check_choice(o, "wait", what)
    check_choice(o, "kill", what)
    if o.sink then
      options(o.sink, SINK, what .. ": sink")
    end
    if type(o.stdin) == "table" and not options(o.stdin, STDIN, what .. ": stdin").file then
      usage("%s: stdin: option file is missing", what)
    end
    if o.pty then
      local p = options(type(o.pty) == "table" and o.pty or nil, PTY, what .. ": pty")
      o.term = p.term or host.getenv("TERM") or "xterm"
      o.cols, o.rows = math.tointeger(p.cols) or 80, math.tointeger(p.rows) or 24
    end
    return o
  end

  --- What the client's half gets of the options: only what is set.
  local function core_options(o, spawned)
    local stdin = o.stdin
    local c = {}
    if type(stdin) == "string" then
      c.input = stdin
    -- A terminal that was told of the end of its input takes no size any more.
    elseif stdin or stdin == nil and spawned and o.term then
      c.in_open = true
    end
    if spawned or o.on_line then
      c.queue_out, c.queue_err = true, true
    elseif o.sink then
      c.queue_out, c.queue_err = o.sink.out ~= nil, o.sink.err ~= nil
    end
    if o.term then
      c.term, c.cols, c.rows = o.term, o.cols, o.rows
    end
    if o.shell then
      c.shell = true
    end
    if o.max_output then
      c.max_output = math.tointeger(o.max_output)
    end
    if o.wait == "exit" then
      c.wait_exit = true
    end
    return c
  end

  --- The process: Process for one that goes on, else what exec guards.
  local function start(conn, cmd, o, class)
    -- What the environment of a command's processes is found by: unlike any other session's.
    conn.mark = conn.mark or crypto.hex(crypto.random(8))
    conn.marked = (conn.marked or 0) + 1
    local id = ("%s%08x"):format(conn.mark, conn.marked)
    local c = conn.core:exec(compose(cmd, o, id, conn.target.env),
      core_options(o, class == Process))
    return setmetatable({ core = c, conn = conn, options = o, id = id, done = false }, class)
  end

  --- What is there of the result, and what went wrong but the command itself.
  local function result(p)
    local out, err, truncated, code, signal, seconds, problem = p.core:result()
    if code and not knows_status and not p.options.raw then
      code = code == 254 and 0 or code == 0 and 254 or code
    end
    return {
      ok = code == 0 and not signal and not problem, code = code, signal = signal,
      out = out, err = err, truncated = truncated, seconds = seconds,
    }, problem
  end

  local function last_line(text)
    local last
    for line in text:sub(-2000):gmatch("[^\r\n]+") do
      if line:find("%S") then
        last = line
      end
    end
    return last and ": " .. last:sub(1, 200) or ""
  end

  --- Raises an error of the command's, with what there is of its result.
  local function fail(p, err, r)
    err.phase, err.result = "exec", r
    raise(lib.of_target(err, p.conn.target))
  end

  --- The result of an ended command, or its error.
  local function judge(p)
    local r, err = result(p)
    if err then
      fail(p, err, r)
    end
    local name = p.conn.target.name
    if r.code == 0 and p.options.raw and not knows_status then
      fail(p, { kind = "remote", code = "NoExitStatus",
        message = ("ssh %s: ended without exit status"):format(name) }, r)
    end
    if p.direct then
      r.ok = true
    end
    if p.options.check == false or r.ok then
      return r
    end
    if r.signal then
      fail(p, { kind = "remote", code = "Signal",
        message = ("ssh %s: command killed by signal %s"):format(name, r.signal) }, r)
    end
    fail(p, { kind = "remote", code = "ExitCode",
      message = ("ssh %s: command exited with code %d%s"):format(name, r.code or -1,
        last_line(r.err ~= "" and r.err or r.out)) }, r)
  end

  --- Waits as the client's half does, for a process that no call of a session's guards.
  local function await(p, sec, space)
    local ok, ended = pcall(p.core.wait, p.core, sec, 0, space)
    if not ok then
      error(lib.of_target(ended, p.conn.target), 0)
    end
    return ended
  end

  local function feed(p, feeder)
    while feeder.next do
      if not feeder.text then
        feeder.text, feeder.at = feeder.next(), 1
        if not feeder.text then
          p.core:eof()
          feeder.next = nil
          return
        end
      end
      feeder.at = feeder.at + p.core:write(feeder.text, feeder.at)
      if feeder.at <= #feeder.text then
        return
      end
      feeder.text = nil
    end
  end

  local function drain(p, takers)
    for stream, list in pairs(takers) do
      local block = p.core:take(stream)
      while block do
        for _, take in ipairs(list) do
          take(block)
        end
        block = p.core:take(stream)
      end
    end
  end

  --- It runs, or ran when the connection was lost.
  local function unfinished(p)
    local started, ended, problem = p.core:info()
    return not ended or started and problem and problem.kind == "net"
  end

  local function run(p)
    local o = p.options
    local takers = (o.on_line or o.sink) and
      { [0] = consumers(p, "out"), consumers(p, "err") }
    local input = source(p)
    local feeder = input and { next = input }
    local deadline = mono() + (o.timeout or 14400)
    local ended, clean
    repeat
      if feeder then
        feed(p, feeder)
      end
      ended, clean = p.core:wait(max(0.001, deadline - mono()), o.idle_timeout or 0,
        feeder and feeder.next ~= nil)
      if takers then
        drain(p, takers)
      end
    until ended
    for _, list in pairs(takers or {}) do
      for _, take in ipairs(list) do
        take(nil, true)
      end
    end
    p.done = clean or not unfinished(p)
  end

  --- Ends a command whose run did not come to its end.
  local Guarded = {
    __close = function(p, err)
      if not p.done and unfinished(p) then
        local left = ladder(p)
        if left and type(err) == "table" then
          err.remote_left = left
        end
      end
      if type(err) == "table" and not err.result then
        err.result = result(p)
      end
      p.core:close()
    end,
  }

  --- Runs a command on the machine and returns its output.
  -- A list is quoted word by word; a string goes to /bin/sh.
  -- @param cmd string|string[]
  -- @param opts.cwd string
  -- @param opts.env table
  -- @param opts.stdin string|function|table text, a function that gives pieces, {file=path}
  -- @param opts.sudo boolean|string as root or as this user
  -- @param opts.timeout number seconds, default 4 h
  -- @param opts.idle_timeout number seconds without output
  -- @param opts.check boolean raise for an exit code other than 0 or a signal, default true
  -- @param opts.on_line function called with stream ("out", "err") and line
  -- @param opts.sink table out, err: file or function that gets everything
  -- @param opts.max_output integer bytes kept of each stream (the last ones), default 1 MiB
  -- @param opts.merge boolean stderr into stdout
  -- @param opts.wait string "eof" (default) or "exit": do not wait for background children
  -- @param opts.raw boolean send the string as it is
  -- @param opts.pty boolean|table with a terminal: term, cols, rows; streams are one then
  -- @param opts.kill string "tree" (default), "channel", "none": at cancel or timeout
  -- @return table {ok, code, signal, out, err, truncated, seconds}
  -- @raise remote ExitCode Signal NoExitStatus; net ConnectionLost; timeout Command Idle; cancelled
  -- @waits
  -- @see RFC 4254 section 6.5
  -- @example local r = s:exec({ "hg", "version", "-q" }, { cwd = "/hgdev/src" })
  function Session:exec(cmd, opts)
    local _b <close>, conn = enter(self)
    local o = exec_options(opts, "s:exec")
    if o.stdin == true then
      usage("s:exec: stdin=true is for s:spawn")
    end
    local files <close> = (o.sink or type(o.stdin) == "table") and open_files(o) or nil
    local p <close> = start(conn, cmd, o, Guarded)
    p.files = files
    run(p)
    return judge(p)
  end

  --- Starts a command; the process is ended with the scope.
  -- @param cmd string|string[]
  -- @param opts table as exec; stdin=true keeps it open for p:write
  -- @return process closable
  -- @raise usage, net
  -- @example local p = s:spawn({ "cat" }, { stdin = true })
  function Session:spawn(cmd, opts)
    local conn = self:_conn()
    local o = exec_options(opts, "s:spawn")
    if o.on_line or o.sink or type(o.stdin) == "function" or type(o.stdin) == "table" then
      usage("s:spawn: on_line, sink and a stdin function or file are for s:exec")
    end
    local p = start(conn, cmd, o, Process)
    async.register(p)
    return p
  end

  --- Starts the login shell of the user, with a terminal unless told otherwise.
  -- @param opts.pty boolean|table term, cols, rows
  -- @return process closable
  -- @raise net
  -- @example s:shell { pty = { term = "xterm", cols = 80, rows = 24 } }
  function Session:shell(opts)
    local conn = self:_conn()
    local o = options(opts, { pty = "boolean table" }, "s:shell")
    o = exec_options({ pty = o.pty ~= false and (o.pty or true) or nil, raw = true, stdin = true,
      kill = "channel", check = false }, "s:shell")
    o.shell = true
    local p = start(conn, "", o, Process)
    async.register(p)
    return p
  end

  --- A connection that the server makes for us, as a process without status.
  -- @param name string host as the server sees it, or the path of a unix socket
  -- @param[opt] port integer
  -- @return process read, write, lines, close_stdin, wait, close
  -- @raise remote ChannelRefused, net Unreachable (both from read and wait)
  -- @example local c = s:channel("localhost", 8000)
  function Session:channel(name, port)
    local conn = self:_conn()
    local c = conn.core:exec("", {
      to_host = name, to_port = port or 0, in_open = true, queue_out = true, max_output = 0,
    })
    local p = setmetatable({ core = c, conn = conn, direct = true,
      options = { kill = "none", check = false, raw = true } }, Process)
    async.register(p)
    return p
  end

  -- ---- processes ----

  --- The next piece of a stream, at most n bytes of it.
  local function next_piece(p, stream, n)
    local rest = p.rest and p.rest[stream]
    local block, from = rest and rest.block or p.core:take(stream), rest and rest.from or 1
    if not block or not n and from == 1 then
      return block
    end
    local upto = n and from + n - 1 or #block
    p.rest = p.rest or {}
    p.rest[stream] = upto < #block and { block = block, from = upto + 1 } or nil
    return block:sub(from, upto)
  end

  --- The next piece of output.
  -- @param[opt] n integer at most so many bytes
  -- @return string|nil "out" or "err"; nil at the end
  -- @return string
  -- @waits
  function Process:read(n)
    if n ~= nil and (math.type(n) ~= "integer" or n < 1) then
      usage("p:read: a number of bytes")
    end
    while true do
      for stream = 0, 1 do
        local block = next_piece(self, stream, n)
        if block then
          return stream == 0 and "out" or "err", block
        end
      end
      if self.ended then
        return nil
      end
      self.ended = await(self, 0, false)
    end
  end

  --- Iterates over the lines of both streams: line, stream.
  -- @return function
  -- @waits
  function Process:lines()
    return lines.iterate(LINE_MAX, function()
      local name, block = self:read()
      return block, name
    end)
  end

  --- Writes to the standard input of a process started with stdin=true.
  -- @param text string
  -- @waits until all of it is taken
  function Process:write(text)
    local at = 1
    while at <= #text do
      at = at + self.core:write(text, at)
      if at <= #text then
        await(self, 0, true)
      end
    end
  end

  --- No more input.
  function Process:close_stdin()
    self.core:eof()
  end

  --- Sends a signal by name; servers may ignore it.
  -- @param name string "TERM"
  function Process:signal(name)
    self.core:signal(name)
  end

  --- Tells the size of the terminal of a process started with pty.
  -- @param cols integer
  -- @param rows integer
  function Process:resize(cols, rows)
    self.core:resize(cols, rows)
  end

  --- Joins it with our own standard streams until it ends: what `ssh` does.
  -- @param raw boolean the terminal is its; ~. at the beginning of a line leaves
  -- @param input boolean it gets our standard input
  -- @param filter boolean its output is made harmless for a terminal
  -- @return boolean the user left with ~.
  -- @raise io
  -- @waits
  function Process:console(raw, input, filter)
    return self.core:console(raw, input, filter)
  end

  --- Waits for the end; output that nobody read is dropped.
  -- @param[opt] sec number
  -- @return table as exec
  -- @raise as exec; timeout Command
  -- @waits
  function Process:wait(sec)
    local deadline = sec and mono() + sec
    while not self.ended do
      self.ended = await(self, deadline and max(0.001, deadline - mono()) or 0, false)
      drain(self, { [0] = {}, {} })
    end
    return judge(self)
  end

  --- Whether it still runs.
  -- @return string "running" or "ended"
  function Process:status()
    local _, ended = self.core:info()
    return ended and "ended" or "running"
  end

  --- Ends it and everything it has started.
  -- @param[opt] grace integer seconds from TERM to KILL, default 5
  -- @return integer|string|nil processes left
  -- @waits at most 5 s longer than that
  function Process:kill(grace)
    grace = math.tointeger(grace or GRACE_SEC)
    if not grace or grace < 0 or grace > 3600 then
      usage("p:kill: grace must be whole seconds, 0 to 3600")
    end
    self.grace = grace
    if unfinished(self) then
      return ladder(self)
    end
  end

  --- Ends the process and gives the handle back.
  function Process:close()
    if self.closed then
      return
    end
    self.closed = true
    async.release(self)
    if unfinished(self) then
      ladder(self)
    end
    self.core:close()
  end

  Process.__close = Process.close
end
