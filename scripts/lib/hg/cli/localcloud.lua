-- The commands `hgauto local ...`.

local hg = require "hg"
local arg = hg.arg

local M = { name = "local", commands = {},
  help = "An AWS-compatible API on loopback whose instances are real Linux machines." }

local function command(c)
  M.commands[#M.commands + 1] = c
end

local function out(fmt, ...)
  require("hgauto.term").out((select("#", ...) > 0 and fmt:format(...) or fmt) .. "\n")
end

local function note(text)
  require("hgauto.term").err(text .. "\n")
end

local function client()
  return require "localcloud.client"
end

-- The state directory, made and checked.
local function state_of(args)
  local path = require("hg.cli.env").state_path(args)
  return require("hgauto.state").open(path, { create = true }).path
end

local function local_dir(args)
  return client().dir(state_of(args))
end

-- ---- up, down, status ----

local UP_ARGS = {
  arg.string { name = "listen", metavar = "ADDR:PORT",
    help = "where the API listens [default: 127.0.0.1:4566 or the next free port]" },
  arg.flag { name = "foreground", help = "stay in the foreground, log to stderr" },
  arg.flag { name = "api-only", help = "instances are state machines, nothing is started" },
  arg.number { name = "hold", min = 0, max = 20, metavar = "SECONDS",
    help = "how long a Describe by id waits for a change of state [default: 2]" },
  arg.integer { name = "page-size", min = 1, max = 1000,
    help = "items per page without MaxResults" },
  arg.flag { name = "net", help = "instances reach the network (TCP, names) through this host" },
  arg.integer { name = "host-port", min = 1, max = 65535, multiple = true, metavar = "PORT",
    help = "port of this host's loopback that instances reach at 172.31.0.1 (repeatable)" },
  arg.duration { name = "idle", help = "leave after so long without use [default: 15m]" },
  arg.path { name = "local-path", metavar = "DIR",
    help = "keep images and instances there instead of in the state directory" },
  arg.string { name = "policy", metavar = "FILE|-",
    help = "what callers may do: a policy of IAM, as hgauto iam-policy prints them" },
  arg.string { name = "delays", hidden = true, help = "api-only: pending=1,stopping=1" },
}

local function delays(text)
  local t = {}
  for name, seconds in (text or ""):gmatch("([%l-]+)=([%d.]+)") do
    t[name] = tonumber(seconds)
  end
  return t
end

-- The text of --policy and what it says; nil without one.
local function policy_of(args)
  if not args.policy then
    return nil
  end
  local policy = require "localcloud.policy"
  local name = "--policy " .. args.policy
  local ok, text = pcall(require("hgauto.fs").read, args.policy == "-" and "/dev/stdin"
    or args.policy, { max = policy.max_file })
  if not ok and text.kind ~= "cancelled" then
    hg.fail { kind = "usage", message = ("%s: %s"):format(name, text.message) }
  elseif not ok then
    error(text, 0)
  end
  return text, policy.read(text, name)
end

-- Makes <state>/local a link to another directory.
local function relocate(state, target)
  local fs = require "hgauto.fs"
  local dir = client().dir(state)
  fs.mkdir(target, { parents = true, mode = 448 })
  if not fs.exists(dir) then
    fs.symlink(target, dir)
  elseif fs.realpath(dir) ~= fs.realpath(target) then
    hg.fail { kind = "usage",
      message = ("--local-path: %s already holds a local cloud"):format(dir),
      hint = "hgauto local down --wipe" }
  end
end

local function foreground(args, state, policy)
  require("localcloud").run { state = state, listen = args.listen, api_only = args.api_only,
    policy = policy,
    hold = args.hold, page_size = args.page_size, idle = args.idle, delays = delays(args.delays),
    host_ports = args.host_port, net = args.net, on_ready = function(d)
      note(("hgauto: local cloud %s%s, pid %d"):format(d.endpoint,
        d.api_only and " (api only)" or "", require("hgauto.host").pid()))
    end }
end

-- Options that a running local cloud does not have and cannot take any more.
local function too_late(args, running, policy)
  local list = {}
  for _, name in ipairs { "api_only", "net", "listen", "hold", "page_size", "idle", "host_port" } do
    local given = args[name]
    local same = running[name] == given
      or name == "listen" and given and running.endpoint == "http://" .. given
    if given and not same and not (type(given) == "table" and #given == 0) then
      list[#list + 1] = "--" .. name:gsub("_", "-")
    end
  end
  if policy and policy.hash ~= running.policy then
    list[#list + 1] = running.policy and "this --policy" or "--policy"
  end
  return list
end

command { name = "up", help = "start the local cloud", args = UP_ARGS,
  example = "hgauto local up",
  run = function(args)
    local state = state_of(args)
    if args.local_path then
      relocate(state, args.local_path)
    end
    local text, policy = policy_of(args)
    if args.foreground then
      return foreground(args, state, policy)
    end
    local running = client().status { state = state }
    local late = running and too_late(args, running, policy) or {}
    if late[1] then
      hg.fail { kind = "exists", message = ("the local cloud runs already, without %s"):format(
        table.concat(late, ", ")), hint = "hgauto local down first" }
    end
    local c = client().ensure { state = state, listen = args.listen,
      api_only = args.api_only or nil, hold = args.hold, page_size = args.page_size,
      idle = args.idle, delays = args.delays, host_port = args.host_port, net = args.net,
      policy = text }
    if running then
      note "the local cloud runs already"
    end
    out("%s", c.endpoint_url)
  end }

command { name = "down", help = "stop the local cloud and its instances", args = {
    arg.flag { name = "wipe", help = "delete its instances and records too (images stay)" } },
  run = function(args)
    local state = state_of(args)
    if client().stop { state = state } then
      note "the local cloud has stopped"
    else
      note "the local cloud was not running"
    end
    if args.wipe then
      require("localcloud.reaper").wipe(client().dir(state))
      note "its records are deleted"
    end
  end }

local function counts_text(counts)
  local parts = {}
  for _, name in ipairs { "running", "pending", "stopping", "shutting-down", "stopped",
    "terminated" } do
    if counts[name] then
      parts[#parts + 1] = ("%d %s"):format(counts[name], name)
    end
  end
  return parts[1] and table.concat(parts, ", ") or "none"
end

command { name = "status", help = "whether it runs and what runs in it", args = {},
  run = function(args)
    local s = client().status { state = state_of(args) }
    if not s then
      out "the local cloud is not running; no instance runs"
      return 0
    end
    out("endpoint   %s%s", s.endpoint, s.api_only and " (api only)" or "")
    out("pid        %d, since %s", s.pid, s.started)
    if s.policy then
      out "policy     in force: not every request is allowed"
    end
    out("instances  %s", counts_text(s.counts))
    if s.busy_with and s.counts.pending then
      out("busy with  %s", s.busy_with)
    end
    if s.live == 0 then
      out("leaves in  %s", hg.format.duration(math.max(0, s.leaves_after - s.idle_seconds)))
    end
  end }

-- ---- instances ----

command { name = "ls", help = "list the instances", args = {
    arg.flag { name = "all", help = "terminated ones too" } },
  run = function(args)
    for _, i in ipairs(client().instances { state = state_of(args) }) do
      if args.all or i.state ~= "terminated" then
        out("%s  %-13s %-15s %-10s %s", i.id, i.state, i.address or "-", i.type, i.name or "")
      end
    end
  end }

local function find_instance(state, id)
  local found
  for _, i in ipairs(client().instances { state = state }) do
    if i.id == id then
      return i
    elseif i.id:sub(1, #id) == id then
      if found then
        hg.fail { kind = "usage", message = ("%s is ambiguous: %s, %s"):format(id, found.id, i.id) }
      end
      found = i
    end
  end
  return found or hg.fail { kind = "notfound", message = "the local cloud has no instance " .. id }
end

-- A private key of the state directory that the instance accepts.
local function identity(state, instance)
  local fs, crypto = require "hgauto.fs", require "hgauto.crypto"
  local wanted = instance.public_key and instance.public_key:match("^%S+%s+(%S+)")
  local dir = state .. "/keys"
  for _, name in ipairs(wanted and fs.exists(dir) and fs.list(dir) or {}) do
    local ok, key = pcall(crypto.load_private, dir .. "/" .. name)
    if ok and key:public():match("^%S+%s+(%S+)") == wanted then
      return dir .. "/" .. name
    end
  end
end

command { name = "ssh", help = "log in with OpenSSH's ssh", args = {
    arg.string { name = "instance", positional = true, required = true, metavar = "id",
      help = "instance, or the beginning of its id" },
    arg.string { name = "user", short = "l", help = "log in as [default: the image's user]" } },
  example = "hgauto local ssh i-0123 -- uname -a",
  run = function(args)
    local fs, state = require "hgauto.fs", state_of(args)
    local i = find_instance(state, args.instance)
    if i.state ~= "running" then
      hg.fail { kind = "task", message = ("%s is %s"):format(i.id, i.state) }
    end
    local dir = fs.tmpdir("/tmp", "hgauto-ssh-")
    local _d <close> = require("hgauto.async").defer(function()
      fs.remove(dir, { tree = true })
    end)
    local port = i.ssh_port or 22
    local name = port == 22 and i.address or ("[%s]:%d"):format(i.address, port)
    fs.write(dir .. "/known_hosts", ("%s %s\n"):format(name, i.host_key or ""))
    local argv = { "ssh", "-p", tostring(port), "-o", "UserKnownHostsFile=" .. dir
      .. "/known_hosts", "-o", "StrictHostKeyChecking=yes" }
    local key = identity(state, i)
    if key then
      table.move({ "-i", key, "-o", "IdentitiesOnly=yes" }, 1, 4, #argv + 1, argv)
    end
    argv[#argv + 1] = (args.user or i.user) .. "@" .. i.address
    for _, word in ipairs(args.rest or {}) do
      argv[#argv + 1] = word
    end
    return require("hgauto.proc").run(argv, { inherit = true, foreground = true, check = false,
      timeout = 30 * 86400 }).code or 255
  end }

command { name = "exec", help = "run a command in an instance, without SSH", args = {
    arg.string { name = "instance", positional = true, required = true, metavar = "id",
      help = "instance, or the beginning of its id" },
    arg.string { name = "user", short = "l", default = "root", help = "as this user" },
    arg.duration { name = "timeout", default = "1h", help = "end it after this" } },
  example = "hgauto local exec i-0123 -- cat /etc/hostname",
  run = function(args)
    local term, state = require "hgauto.term", state_of(args)
    local i = find_instance(state, args.instance)
    if not args.rest or not args.rest[1] then
      hg.fail { kind = "usage", message = "local exec: what is to be run?",
        hint = "hgauto local exec ID -- COMMAND" }
    end
    local r = client().exec { state = state, id = i.id, argv = args.rest, user = args.user,
      timeout = args.timeout }
    term.out(term.isatty(1) and term.filter(r.out) or r.out)
    term.err(term.isatty(2) and term.filter(r.err) or r.err)
    return r.code or 128 + r.signal
  end }

command { name = "logs", help = "the console of an instance", args = {
    arg.string { name = "instance", positional = true, required = true, metavar = "id",
      help = "instance, or the beginning of its id" },
    arg.flag { name = "follow", short = "f", help = "go on as it grows" } },
  run = function(args)
    local fs, term = require "hgauto.fs", require "hgauto.term"
    local state = state_of(args)
    local i = find_instance(state, args.instance)
    local path = ("%s/instances/%s/console.log"):format(client().dir(state), i.id)
    local shown = 0
    repeat
      local text = fs.exists(path) and fs.read(path) or ""
      if #text > shown then
        term.out(term.filter(text:sub(shown + 1)))
        shown = #text
      end
      if args.follow then
        require("hgauto.async").sleep(0.5)
      end
    until not args.follow
  end }

-- ---- faults and requests ----

local function decode_rules(text, what)
  local ok, value = pcall(require("hgauto.json").decode, text)
  if not ok or type(value) ~= "table" then
    hg.fail { kind = "usage", message = what .. " is not JSON",
      hint = [[hgauto local fault add '{"match":{"action":"RunInstances"},"first":1,]]
        .. [["effect":{"throttle":true}}']] }
  end
  return value
end

local function add_faults(args, rules)
  for _, id in ipairs(client().add_faults { state = state_of(args), rules = rules }) do
    out("%s", id)
  end
end

command { name = "fault add", help = "add a rule by which requests or machines fail", args = {
    arg.string { name = "rule", positional = true, required = true, metavar = "JSON",
      help = "the rule" } },
  run = function(args)
    add_faults(args, decode_rules(args.rule, "the rule"))
  end }

command { name = "fault load", help = "add the rules of a JSON file", args = {
    arg.path { name = "file", positional = true, required = true, help = "a list of rules" } },
  run = function(args)
    add_faults(args, decode_rules(require("hgauto.fs").read(args.file, { max = 1 << 20 }),
      args.file))
  end }

command { name = "fault ls", help = "the rules, what they have seen and how often they acted",
  args = {},
  run = function(args)
    for _, r in ipairs(client().faults { state = state_of(args) }) do
      local json = require "hgauto.json"
      out("%-6s %-7s %4d of %4d  %s  %s", r.id, r.when, r.hits, r.seen, json.encode(r.effect),
        r.match and json.encode(r.match) or "everything")
    end
  end }

command { name = "fault clear", help = "remove one rule, or all", args = {
    arg.string { name = "id", positional = true, help = "its id [default: all]" } },
  run = function(args)
    local n = client().clear_faults { state = state_of(args), id = args.id }
    if args.id and n == 0 then
      hg.fail { kind = "notfound", message = "there is no fault rule " .. args.id }
    end
    note(("%d removed"):format(n))
  end }

local function request_line(text)
  local ok, r = pcall(require("hgauto.json").decode, text)
  if ok and type(r) == "table" then
    out("%s  %-8s %-30s %3d %6d ms  %s%s", r.time or "?", r.service or "?", r.action or "?",
      r.status or 0, r.ms or 0, r.code or "", r.fault and "  fault " .. r.fault or "")
  end
end

command { name = "requests", help = "what the local cloud was asked", args = {
    arg.flag { name = "follow", short = "f", help = "go on as it grows" } },
  run = function(args)
    local fs = require "hgauto.fs"
    local path = local_dir(args) .. "/requests.jsonl"
    local shown = 0
    repeat
      local text = fs.exists(path) and fs.read(path) or ""
      -- A file that became shorter is a new one.
      shown = #text < shown and 0 or shown
      for line in text:sub(shown + 1):gmatch("([^\n]*\n)") do
        request_line(line)
        shown = shown + #line
      end
      if args.follow then
        require("hgauto.async").sleep(0.5)
      end
    until not args.follow
  end }

-- ---- host ----

command { name = "doctor", help = "what this host lacks for local instances", args = {},
  run = function(args)
    local state = require("hg.cli.env").state_path(args)
    local r = require("localcloud.doctor").run { path = client().dir(state) }
    for _, line in ipairs(r.lines) do
      out("%s", line)
    end
    if r.next then
      out("next: %s", r.next)
    end
    return r.ok and 0 or 1
  end }

local SHELLS = {
  sh = function(name, value)
    return ("export %s=%s"):format(name, hg.sh.quote(value))
  end,
  fish = function(name, value)
    return ("set -gx %s %s"):format(name, hg.sh.quote(value))
  end,
}

command { name = "env", help = "environment for other AWS tools", args = {
    arg.enum { name = "shell", "sh", "fish", "json", default = "sh", help = "form" } },
  example = 'eval "$(hgauto local env)"',
  run = function(args)
    local c = client().ensure { state = state_of(args) }
    local vars = { { "AWS_ENDPOINT_URL", c.endpoint_url }, { "AWS_ACCESS_KEY_ID", c.access_key_id },
      { "AWS_SECRET_ACCESS_KEY", c.secret_access_key }, { "AWS_REGION", c.region },
      { "AWS_DEFAULT_REGION", c.region }, { "AWS_EC2_METADATA_DISABLED", "true" } }
    note("boto3 before 1.28 and awscli before 2.13 need --endpoint-url " .. c.endpoint_url)
    if args.shell == "json" then
      local t = {}
      for _, v in ipairs(vars) do
        t[v[1]] = v[2]
      end
      out("%s", require("hgauto.json").encode(t, { indent = 2 }))
      return 0
    end
    for _, v in ipairs(vars) do
      out("%s", SHELLS[args.shell](v[1], v[2]))
    end
  end }

command { name = "reap", help = "clean up after a daemon that died", args = {},
  run = function(args)
    local state = state_of(args)
    if client().status { state = state } then
      out "the local cloud runs; there is nothing to reap"
      return 0
    end
    local r = require("localcloud").reap { state = state }
    out("%d instances were recorded as alive, %d directories removed", r.instances, r.dirs)
  end }

-- ---- images ----

command { name = "image build", help = "build a base image: debian13 or debian12", args = {
    arg.enum { name = "image", positional = true, required = true, "debian13", "debian12",
      help = "which" } },
  run = function(args)
    local r = require("localcloud.images").ensure(args.image, { path = local_dir(args),
      progress = note })
    out("%s  %s  %s", r.layer, r.release, hg.format.bytes(r.size))
  end }

command { name = "image ls", help = "base images that are built", args = {},
  run = function(args)
    for _, i in ipairs(require("localcloud.images").list(local_dir(args))) do
      out("%s  %s  %s", i.layer or i.name, i.release or "?", i.size and hg.format.bytes(i.size)
        or "?")
    end
  end }

return M
