--- Commands that reach one host: `hgauto ssh ID`, `hgauto exec ID CMD`, `hgauto cp ID:A B`.
--
-- As with ssh a command begins with the first word after the host that is no option (or after
-- `--`); all that follows is its own.
-- An ID of ours is trusted by the key that was given to the machine (kept in
-- the state directory); any other name is a host of ~/.ssh/config.
local async = require "hgauto.async"
local hg = require "hg"
local session = require "hg.session"

local M = {}

-- Reads a line from the terminal without showing it; it never is an argument.
local HIDDEN = [[
exec 3<>/dev/tty || exit 1
trap 'stty echo <&3; echo >&3' EXIT
trap 'exit 1' INT TERM
printf '%s ' "$1" >&3
stty -echo <&3
IFS= read -r line <&3 || exit 1
printf '%s\n' "$line"
]]
local SHOWN = HIDDEN:gsub("stty %-echo <&3\n", ""):gsub("stty echo <&3; ", "")

local function ask(text, echo)
  local filter = require("hgauto.term").filter
  local r = require("hgauto.proc").run({ "sh", "-c", echo and SHOWN or HIDDEN, "sh", filter(text) },
    { foreground = true, check = false })
  if not r.ok then
    return nil
  end
  return require("hgauto.crypto").secret((r.out:gsub("\n$", "")))
end

local function ask_passphrase(path, attempt)
  return ask((attempt > 1 and "Wrong. " or "") .. "Passphrase of " .. path .. ":")
end

local function ask_prompts(q)
  local out = {}
  for i, prompt in ipairs(q.prompts) do
    local lead = i == 1 and q.instruction and q.instruction ~= "" and q.instruction .. "\n" or ""
    out[i] = ask(lead .. prompt.text, prompt.echo)
    if not out[i] then
      return nil
    end
  end
  return out
end

local function instance_of(ec2, id)
  local found = {}
  local params = #id == 19 and { InstanceIds = { id } } or {
    Filters = { { Name = "instance-state-name", Values = { "pending", "running", "stopped" } } },
  }
  for _, r in ipairs(ec2:describe_instances(params).Reservations) do
    for _, i in ipairs(r.Instances) do
      if i.InstanceId:sub(1, #id) == id then
        found[#found + 1] = i
      end
    end
  end
  if #found ~= 1 then
    hg.fail { kind = found[2] and "usage" or "notfound",
      message = found[2] and ("%s: %d instances begin so"):format(id, #found)
        or ("%s: no such instance"):format(id) }
  end
  if found[1].State.Name ~= "running" or not found[1].PublicIpAddress then
    hg.fail { kind = "task", message = ("%s is %s"):format(found[1].InstanceId,
      found[1].State.Name) }
  end
  return found[1]
end

-- The login that the image's kind has; ours are made from these.
local function user_of(ec2, instance)
  local image = ec2:describe_images({ ImageIds = { instance.ImageId } }).Images[1] or {}
  for _, tag in ipairs(image.Tags or {}) do
    if tag.Key == "hgauto:user" then
      return tag.Value
    end
  end
  for _, fact in pairs(hg.facts.images) do
    if fact.owner == image.OwnerId then
      return fact.user
    end
  end
  return hg.facts.images[hg.facts.default_image].user
end

local function machine(id, args, opts)
  local env = require "hg.cli.env"
  env.use_cloud(opts)
  local ssh = require "hgauto.ssh"
  local ec2 = require("hgauto.aws").client("ec2")
  local i = instance_of(ec2, id)
  if i.Platform == "windows" then
    return require("hg.cli.winremote").open(i, args.user)
  end
  local port = 22
  for _, tag in ipairs(i.Tags or {}) do
    if tag.Key == "hgauto:ssh-port" then
      port = math.tointeger(tag.Value) or 22
    end
  end
  return ssh.connect(i.PublicIpAddress, {
    user = args.user or user_of(ec2, i), port = port, label = i.InstanceId, agent = false,
    keys = { (session.state:vault():key("automation")) }, host_key_alias = i.InstanceId,
    known_hosts = { session.state.path .. "/known_hosts" },
  })
end

local function plain_host(word, args, opts)
  local ssh = require "hgauto.ssh"
  ssh.use_state(require("hg.cli.env").state_path(opts))
  local user, name = word:match("^([^@]+)@(.+)$")
  name = name or word
  local host, port = name:match("^%[(.+)%]:(%d+)$")
  if not host then
    host, port = name:match("^([^:]+):(%d+)$")
  end
  host = host or name:match("^%[(.+)%]$")
  local tty = require("hgauto.term").isatty(0)
  return ssh.connect(host or name, {
    config = args.ssh_config or true, user = args.user or user,
    port = port and math.tointeger(tonumber(port)), accept_new = args.accept_new or nil,
    passphrase = tty and ask_passphrase or nil, prompt = tty and ask_prompts or nil,
  })
end

local function connect(args, opts)
  if args.host:find("^i%-%x+$") then
    return machine(args.host, args, opts)
  end
  return plain_host(args.host, args, opts)
end

-- What is started ends with fn, which has opts.timeout seconds if that is given.
local function limited(opts, fn)
  if opts.timeout then
    return async.timeout(opts.timeout, async.scope, fn)
  end
  return async.scope(fn)
end

-- Our own failures must not look like the command's.
local function or_255(...)
  local ok, r = pcall(limited, ...)
  if not ok and type(r) == "table" and r.kind ~= "cancelled" and r.kind ~= "usage" then
    r.exit = 255
  end
  if not ok then
    error(r, 0)
  end
  return r
end

-- The command's status; true where more was told of its end than a status can.
local function end_of(p)
  local r = p:wait()
  if r.signal then
    require("hg.output").note(("%s: command killed by signal %s"):format(p.conn.target.name,
      r.signal))
    return 255, true
  end
  return r.code or 255
end

local function attached(s, args, words, command)
  if s.windows then
    return s:attached(words, command)
  end
  local term = require "hgauto.term"
  local tty = args.tty or not command and term.isatty(0)
  -- Ended before the session is: over it what was started there is killed.
  local p <close> = command
    and s:spawn(words, { stdin = true, pty = tty or nil, check = false })
    or s:shell { pty = tty }
  -- Nothing is read from a terminal that the command has not got.
  local input = tty or not term.isatty(0)
  local left = p:console(tty and term.isatty(0) or false, input, not tty and term.isatty(1))
  if left then
    return 255
  end
  return end_of(p)
end

--- A login shell of a session on this terminal, until it ends.
-- @param s table session of hgauto.ssh
-- @return integer its status, 255 when the connection was left
-- @waits
function M.interactive(s)
  return (attached(s, { tty = true }, nil, false))
end

--- `hgauto ssh HOST [CMD...]`: a shell, or a command as ssh runs it.
-- @param args table host, user, tty, rest
-- @param opts table global options
-- @return integer the remote status, 255 for a failure of ours
-- @waits
function M.ssh(args, opts)
  return or_255(opts, function()
    local s <close> = connect(args, opts)
    local words = args.rest and #args.rest > 0 and table.concat(args.rest, " ") or nil
    return (attached(s, args, words, words ~= nil))
  end)
end

--- `hgauto exec HOST CMD...`: one command, its words as they are.
-- @param args table host, user, tty, remote_exit, sudo, rest
-- @param opts table global options
-- @return integer 0 or 1; with remote_exit as M.ssh
-- @waits
function M.exec(args, opts)
  local words = args.rest or {}
  if #words == 0 then
    hg.fail { kind = "usage", message = "exec: missing <command>", hint = "hgauto exec ID CMD" }
  end
  local function go()
    local s <close> = connect(args, opts)
    local code, told = attached(s, args, words, true)
    if code ~= 0 and not told and not args.remote_exit then
      require("hg.output").note(("%s: exited with code %d"):format(args.host, code))
    end
    return code
  end
  if args.remote_exit then
    return or_255(opts, go)
  end
  return limited(opts, go) == 0 and 0 or 1
end

-- HOST:PATH in parts; nil for a local path (anything with a slash in front of the colon).
local function remote_path(word)
  for _, form in ipairs { "%[[^%]]+%]:%d+", "%[[^%]]+%]", "[^/:%[]+" } do
    local host, path = word:match("^([^/:@]+@" .. form .. "):(.*)$")
    if not host then
      host, path = word:match("^(" .. form .. "):(.*)$")
    end
    if host then
      return host, path ~= "" and path or "."
    end
  end
end

-- As with cp a target of dots is the directory to put into, not another name for the source.
local function target(path)
  return path:find("^%.%.?$") and path .. "/" or path:find("/%.%.?$") and path .. "/" or path
end

--- `hgauto cp [HOST:]FROM [HOST:]TO`: a file or a whole directory, one way.
-- @param args table from, to, user, resume, retry, newer, verify
-- @param opts table global options
-- @return integer
-- @waits
function M.cp(args, opts)
  local from_host, from = remote_path(args.from)
  local to_host, to = remote_path(args.to)
  if (from_host == nil) == (to_host == nil) then
    hg.fail { kind = "usage", message = "cp: one of the two must be HOST:PATH",
      hint = "hgauto cp i-0123:/hgwork/dist/ dist" }
  end
  args.host = from_host or to_host
  to = target(to_host and to or args.to)
  return limited(opts, function()
    local s <close> = connect(args, opts)
    local o = {
      resume = args.resume or nil, retry = args.retry, newer = args.newer or nil,
      verify = args.verify and "sha256" or nil,
    }
    local r = to_host and s:put(args.from, to, o) or s:get(from, to, o)
    local left = #(r.skipped or {})
    require("hg.output").note(("%d file%s, %d bytes in %.1f s%s"):format(r.files,
      r.files == 1 and "" or "s", r.bytes, r.seconds,
      left > 0 and (", %d skipped (links, devices)"):format(left) or ""))
    return 0
  end)
end

return M
