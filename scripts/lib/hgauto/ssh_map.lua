--- The same on many hosts: bounded, gentle with servers that refuse, patient.
-- Part of hgauto.ssh, which calls this with its module table and helpers.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local term = require "hgauto.term"
local time = require "hgauto.time"

local LIMIT = 64
local LIMIT_MIN = 8 -- refusals do not lower it further
local RAISE_AFTER = 20 -- successes that give one more connection
local ONE_CUT = 0.5 -- seconds: refusals of one moment halve once
local PAUSE_MIN, PAUSE_MAX = 0.5, 2

local MAP = {
  limit = "number", keep_going = "boolean", timeout = "number", retry = "number",
  on_result = "function", on_line = "function", print = "boolean", connect = "table",
}

return function(M, lib)
  local options, usage = lib.options, lib.usage

  --- Refused by a full server before anything of ours was said to it.
  local function too_early(e)
    return type(e) == "table" and e.before_login and e.code ~= "Refused" and e.code ~= "Resolve"
      and (e.kind == "net" or e.kind == "timeout")
  end

  --- How many connections are made at once: halved by refusals, raised by success.
  local function new_gate(most)
    local g = { limit = most, good = 0, cut = -ONE_CUT }
    function g.refused()
      local now = time.mono()
      if now - g.cut >= ONE_CUT then
        g.cut, g.good = now, 0
        g.limit = math.max(math.min(LIMIT_MIN, most), g.limit // 2)
      end
    end
    function g.succeeded()
      g.good = g.good + 1
      if g.good >= RAISE_AFTER then
        g.good = 0
        g.limit = math.min(most, g.limit + 1)
      end
    end
    return g
  end

  local function line_printer(name)
    return function(stream, line)
      local text = ("%s: %s\n"):format(name, term.filter(line))
      if stream == "out" then
        term.out(text)
      else
        term.err(text)
      end
    end
  end

  --- Who hears the lines of a host's command, nil: nobody.
  local function listener(o, name)
    if o.print then
      return line_printer(name)
    end
    return o.on_line and function(stream, line)
      o.on_line(name, stream, line)
    end
  end

  --- One attempt at one host; tells whether it got in.
  local function attempt(h, what, o)
    local inside = false
    local ok, r = pcall(async.scope, function()
      local s <close> = M.connect(h.name, h.given)
      inside = true
      if type(what) == "function" then
        return what(s, h.name)
      end
      return s:exec(what, { timeout = o.timeout, on_line = listener(o, h.label) })
    end)
    return inside, ok, r
  end

  --- The options for all hosts, with each key file read once; closing the second result forgets
  -- the keys.  A file that cannot be read, or not without a passphrase, stays what it is: the
  -- hosts' own errors tell more.
  local function shared(connect)
    local opened = setmetatable({}, { __close = function(list)
      for _, key in ipairs(list) do
        key:close()
      end
    end })
    if type(connect.keys) ~= "table" then
      return connect, opened
    end
    local keys = {}
    for i, key in ipairs(connect.keys) do
      keys[i] = key
      if type(key) == "string" and key:sub(-4) ~= ".pub" then
        local ok, handle = pcall(crypto.load_private, key)
        if ok then
          keys[i] = handle
          opened[#opened + 1] = handle
        end
      end
    end
    return lib.merged(connect, { keys = keys }), opened
  end

  local function check_host(h, i, o)
    local name = type(h) == "table" and h.host or h
    if type(name) ~= "string" then
      usage("ssh.map: host %d is no name and no table with one", i)
    end
    local given = lib.merged(o.connect or {}, type(h) == "table" and h or {})
    return { name = name, label = given.label or name, given = given, attempts = 0 }
  end

  local function check(given, hosts)
    local o = options(given, MAP, "ssh.map")
    if type(hosts) ~= "table" then
      usage("ssh.map: a list of hosts is needed, not a %s", type(hosts))
    end
    local limit = math.tointeger(o.limit or LIMIT)
    if not limit or limit < 1 or limit > 10000 then
      usage("ssh.map: option limit must be 1 to 10000")
    end
    if o.print and o.on_line then
      usage("ssh.map: print and on_line exclude each other")
    end
    return o, limit
  end

  --- Runs a command or function on several hosts at once.
  -- A connection that a busy server drops before login is tried again after a pause while fewer
  -- are made at once; nothing is repeated once a command may have been sent.
  -- @param hosts table host names or option tables with field host
  -- @param what string|string[]|function command, or fn(session, host)
  -- @param opts.limit integer connections at a time, default 64
  -- @param opts.keep_going boolean default true: errors are results
  -- @param opts.timeout number seconds of a command
  -- @param opts.retry integer further attempts to connect, default 2
  -- @param opts.on_result function called with host, result, error as each host ends
  -- @param opts.on_line function called with host, stream, line
  -- @param opts.print boolean shows the lines, each behind its host's name
  -- @param opts.connect table options for all of them
  -- @return table in the order of hosts: {host, ok, result, error, seconds, attempts}; field
  --   failed counts
  -- @raise without keep_going the first failure
  -- @waits
  -- @example ssh.map({ "a", "b" }, { "uname", "-r" }, { connect = { user = "admin" } })
  function M.map(hosts, what, opts)
    local o, most = check(opts, hosts)
    local retry = math.tointeger(o.retry or 2) or 2
    local gate = new_gate(most)
    local connect, _opened <close> = shared(o.connect or {})
    o.connect = connect
    local list, ready, head = { failed = 0 }, {}, 1
    for i, h in ipairs(hosts) do
      ready[i] = check_host(h, i, o)
      ready[i].index = i
    end
    local left, running = #ready, 0
    if left == 0 then
      return list
    end
    local inbox = async.channel(left)

    local function ended(h, ok, r)
      left = left - 1
      list.failed = list.failed + (ok and 0 or 1)
      list[h.index] = {
        host = h.name, ok = ok, result = ok and r or nil, error = not ok and r or nil,
        seconds = time.mono() - h.start, attempts = h.attempts,
      }
      if o.on_result then
        o.on_result(h.name, ok and r or nil, not ok and r or nil)
      end
    end

    local function run(h)
      h.start = h.start or time.mono()
      h.attempts = h.attempts + 1
      local inside, ok, r = attempt(h, what, o)
      if not ok and async.cancelled() then
        error(r, 0)
      end
      local again = not ok and not inside and h.attempts <= retry and too_early(r)
      if not ok and not again and o.keep_going == false then
        error(r, 0)
      end
      inbox:send { host = h, ok = ok, result = r, inside = inside, again = again }
    end

    async.scope(function(sc)
      local function pause(h)
        async.sleep(PAUSE_MIN + (PAUSE_MAX - PAUSE_MIN) * math.random())
        inbox:send { host = h, ready = true }
      end
      while left > 0 do
        while running < gate.limit and head <= #ready do
          running = running + 1
          sc:spawn(run, ready[head])
          ready[head] = false
          head = head + 1
        end
        local m = inbox:recv()
        if m.ready then
          ready[#ready + 1] = m.host
        else
          running = running - 1
          if m.inside then
            gate.succeeded()
          end
          if m.again then
            gate.refused()
            sc:spawn(pause, m.host)
          else
            ended(m.host, m.ok, m.result)
          end
        end
      end
    end)
    return list
  end
end
