--- Child processes: programs with argument lists, never a shell's line.
local core = require "hgauto.proc.core"
local lines = require "hgauto.lines"
local time = require "hgauto.time"

local M = {
  which = core.which,
  spawn = core.spawn,
}

local SLICE = 1024 * 1024
local MAX_OUTPUT = 1024 * 1024
local LINE_MAX = 1024 * 1024
--- Options of run that spawn does not know.
local OWN = { check = true, on_line = true, max_output = true, sink = true, readonly = true }

local write = core.methods.write

--- Writes to the standard input of a process started with stdin=true.
-- @param data string any length
-- @raise io (Closed), cancelled
-- @waits until the process has taken it
function core.methods:write(data)
  if type(data) ~= "string" or #data <= SLICE then
    return write(self, data)
  end
  for i = 1, #data, SLICE do
    write(self, data:sub(i, i + SLICE - 1))
  end
end

--- Iterates over the lines of the output, without their ends.
-- @param stream string|nil "out", "err"; default both as they come
-- @return function line, stream
-- @waits
-- @example for line, stream in p:lines() do log.info("%s: %s", stream, line) end
function core.methods:lines(stream)
  return lines.iterate(LINE_MAX, function()
    return self:read(stream)
  end)
end

--- Keeps at most `max` bytes of what it is given.
local function collector(max)
  local parts, n, cut = {}, 0, false
  return function(block)
    if n + #block > max then
      block, cut = block:sub(1, max - n), true
    end
    if block ~= "" then
      parts[#parts + 1] = block
      n = n + #block
    end
  end, function()
    return table.concat(parts), cut
  end
end

local function fail(e)
  error(require("hgauto.host").error(e), 0)
end

local function last_line(text)
  local last
  for line in text:gmatch("[^\r\n]+") do
    if line:find("%S") then
      last = line
    end
  end
  return last and #last > 200 and last:sub(1, 200) .. "..." or last
end

local function exit_error(argv, r)
  local how = r.signal and ("was ended by signal %d"):format(r.signal)
    or ("exited with code %d"):format(r.code or -1)
  local said = last_line(r.err) or last_line(r.out)
  local message = ("%s %s"):format(argv[1], how)
  if said then
    message = message .. ": " .. said
  end
  fail { kind = "io", code = "ExitCode", message = message, result = r }
end

local function check_own(opts)
  local function want(key, kinds)
    local v = opts[key]
    if v ~= nil and not kinds[math.type(v) or type(v)] then
      fail { kind = "usage", code = "OptionType",
        message = ("proc.run: option %s must not be a %s"):format(key, type(v)) }
    end
  end
  want("check", { boolean = true })
  want("on_line", { ["function"] = true })
  want("sink", { ["function"] = true })
  want("max_output", { integer = true })
  want("readonly", { boolean = true })
end

--- What is done with output: out.take(stream, block), out.finish().
local function output(opts)
  local max = opts.max_output or MAX_OUTPUT
  local take, done, cut = {}, {}, {}
  for _, name in ipairs { "out", "err" } do
    take[name], done[name] = collector(max)
    if opts.on_line then
      cut[name] = lines.splitter(LINE_MAX, function(line)
        opts.on_line(name, line)
      end)
    end
  end
  return function(block, name)
    if opts.sink then
      opts.sink(name, block)
    else
      take[name](block)
    end
    if opts.on_line then
      cut[name](block)
    end
  end, function()
    if opts.on_line then
      cut.out(nil, true)
      cut.err(nil, true)
    end
    local out, cut_out = done.out()
    local err, cut_err = done.err()
    return out, err, cut_out or cut_err
  end
end

--- Runs a program to its end and returns its output.
-- @param argv string[] program (searched in PATH) and arguments
-- @param opts.cwd string|nil working directory
-- @param opts.env table|nil variables to set; false takes one out
-- @param opts.clean_env boolean|nil nothing but opts.env
-- @param opts.stdin string|nil input, default none
-- @param opts.timeout number|nil seconds, default 3600; then TERM, 2 s later KILL
-- @param opts.check boolean|nil default true: an exit code other than 0 is raised
-- @param opts.on_line function|nil fn(stream, line) for each line, "out" or "err"; may wait
-- @param opts.sink function|nil fn(stream, block) gets the output instead of the result
-- @param opts.max_output integer|nil bytes kept of each stream, default 1 MiB
-- @param opts.inherit boolean|nil the streams are ours
-- @param opts.foreground boolean|nil stays in our process group
-- @param opts.readonly boolean|nil it changes nothing: it runs when the task is only planned, too
-- @return {ok=boolean, code=integer, signal=integer, out=string, err=string,
--   truncated=boolean, seconds=number}
-- @raise io (ExitCode; err.result is what would have been returned), notfound (Spawn), timeout
--   (Total; err.result has the output so far), cancelled, usage
-- @waits
-- @example local r = proc.run({ "hg", "root" }, { cwd = dir, check = false })
function M.run(argv, opts)
  opts = opts or {}
  local rest = {}
  check_own(opts)
  for key, v in pairs(opts) do
    if not OWN[key] then
      rest[key] = v
    end
  end
  if rest.stdin == true then
    fail { kind = "usage", code = "OptionValue", message = "proc.run: stdin must be a string" }
  end
  local start = time.mono()
  local p <close> = core.spawn(argv, rest)
  local take, finish = output(opts)
  while true do
    local block, name = p:read()
    if not block then
      break
    end
    take(block, name)
  end
  local good, r = pcall(p.wait, p)
  local result = good and r or { ok = false }
  result.out, result.err, result.truncated = finish()
  result.seconds = time.mono() - start
  if not good then
    if type(r) == "table" and r.kind == "timeout" then
      r.result = result
      r.message = ("%s: %s"):format(argv[1], r.message)
    end
    error(r, 0)
  end
  if not r.ok and opts.check ~= false then
    exit_error(argv, r)
  end
  return r
end

return M
