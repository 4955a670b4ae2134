--- PowerShell scripts in a pool: the runner, records of all streams, results.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local json = require "hgauto.json"
local pool = require "hgauto.winrm.pool"
local time = require "hgauto.time"
local u = require "hgauto.winrm.util"

local M = {}

local PS = {
  timeout = "number", check = "boolean", collect = "boolean", max_collect = "number",
  params = "table", args = "table", input = "table function", cwd = "string", env = "table",
  errors = "string", native = "string", scope = "string", progress = "boolean",
  on_output = "function", on_stderr = "function", on_record = "function",
  invocation_info = "boolean", library = "string",
}
local CHOICES = {
  errors = { fail = true, stop = true, report = true }, native = { fail = true, report = true },
  scope = { ["local"] = true, session = true },
}
local MAX_COLLECT = 64 * 1024 * 1024
local NATIVE = { NativeCommandError = true, NativeCommandErrorMessage = true }
local STREAMS = {
  DEBUG_RECORD = "debug", VERBOSE_RECORD = "verbose", WARNING_RECORD = "warnings",
}

--- Text of the constant script that runs all others.
function M.runner()
  return embed.read("windows/hga-run.ps1")
end

local function script_text(script)
  if type(script) == "string" then
    return script
  end
  if type(script) ~= "table" or type(script.text) ~= "string" then
    u.usage("s:ps: script must be a text or a source")
  end
  return script.text
end

local function check_params(script, params)
  if type(script) ~= "table" or not script.params then
    return
  end
  for name in pairs(params or {}) do
    if not script.params[name] then
      u.usage("s:ps: %s has no parameter %s", script.name or "the script", name)
    end
  end
end

local function options(opts)
  local o = u.options(opts, PS, "s:ps")
  for key, values in pairs(CHOICES) do
    if o[key] and not values[o[key]] then
      u.usage("s:ps: option %s cannot be %q", key, o[key])
    end
  end
  return o
end

--- The one command of the pipeline: the runner with its named arguments.
local function command(self, script, o, token)
  local args = {}
  local function arg(name, value)
    if value ~= nil then
      args[#args + 1] = { name = name, value = value }
    end
  end
  arg("HgaScript", script_text(script))
  arg("HgaLibrary", o.library)
  arg("HgaParams", o.params)
  arg("HgaArgs", o.args)
  arg("HgaEnv", o.env)
  arg("HgaDirectory", o.cwd)
  arg("HgaErrors", o.errors or "fail")
  arg("HgaScope", o.scope or "local")
  arg("HgaProgress", o.progress or false)
  arg("HgaInput", o.input ~= nil)
  arg("HgaFirst", not self.used)
  arg("HgaToken", token)
  return { cmd = M.runner(), is_script = true, args = args }
end

local function information(rec)
  local data = rec.MessageData
  return {
    message = type(data) == "table" and (data.Message or tostring(data)) or tostring(data),
    source = rec.Source, time = rec.TimeGenerated, tags = rec.Tags,
  }
end

local function informational(rec)
  local mt = type(rec) == "table" and getmetatable(rec) or {}
  return {
    message = mt.str or (type(rec) == "table" and rec.InformationalRecord_Message) or tostring(rec),
  }
end

--- Takes the messages of a pipeline into a result.
local Run = {}
Run.__index = Run

function Run:output(m)
  local o, r = self.o, self.result
  local v = core.decode(m.xml)
  if type(v) == "table" and rawget(v, "HgaToken") == self.token then
    self.closing = true
    r.exit_code = math.tointeger(v.ExitCode) or 0
    return
  end
  if o.on_output then
    o.on_output(v)
  end
  if o.collect ~= false then
    self.size = self.size + #m.xml
    if self.size > (o.max_collect or MAX_COLLECT) then
      u.raise {
        kind = "remote", code = "OutputTooLarge",
        message = "winrm: too much output; use on_output and collect=false",
      }
    end
    r.output[#r.output + 1] = v
  end
end

function Run:record(stream, rec)
  if self.o.on_record then
    self.o.on_record(stream, rec)
  end
  if stream ~= "progress" then
    local list = self.result[stream]
    list[#list + 1] = rec
  end
end

function Run:failure(m)
  local rec = pool.error_record(core.decode(m.xml))
  if not NATIVE[rec.id] then
    self.errors = true
    return self:record("errors", rec)
  end
  local line = rec.text or rec.message
  self.result.stderr[#self.result.stderr + 1] = line
  if self.o.on_stderr then
    self.o.on_stderr(line)
  end
end

function Run:host_call(m)
  local v = core.decode(m.xml)
  local mi = type(v.mi) == "table" and v.mi.value or v.mi
  if mi == 6 and type(v.mp) == "table" then -- SetShouldExit
    self.exit = true
    self.result.exit_code = math.tointeger(v.mp[1]) or 0
  end
end

function Run:take(m)
  if m.type == "PIPELINE_OUTPUT" then
    self:output(m)
  elseif m.type == "ERROR_RECORD" then
    self:failure(m)
  elseif STREAMS[m.type] then
    self:record(STREAMS[m.type], informational(core.decode(m.xml)))
  elseif m.type == "INFORMATION_RECORD" then
    self:record("information", information(core.decode(m.xml)))
  elseif m.type == "PROGRESS_RECORD" then
    local v = core.decode(m.xml)
    if v.Activity ~= "Preparing modules for first use." then
      self:record("progress", {
        activity = v.Activity, status = v.StatusDescription, operation = v.CurrentOperation,
        percent = v.PercentComplete, seconds = v.SecondsRemaining, type = tostring(v.Type),
      })
    end
  elseif m.type == "PIPELINE_HOST_CALL" then
    self:host_call(m)
  end
end

local function send_input(p, input)
  local list, i = input, 0
  local next_value = type(list) == "function" and list or function()
    i = i + 1
    return list[i]
  end
  local batch, size = {}, 0
  while true do
    local v = next_value()
    if v == nil then
      break
    end
    local xml = core.encode(v)
    batch[#batch + 1] = { type = "PIPELINE_INPUT", xml = xml }
    size = size + #xml
    if size > 256 * 1024 then
      p:send(batch, true)
      batch, size = {}, 0
    end
  end
  batch[#batch + 1] = { type = "END_OF_PIPELINE_INPUT", xml = "" }
  p:send(batch)
end

local function judge(self, run, p)
  local o, r = run.o, run.result
  r.state = p.state
  if p.reason then
    p.reason.terminating = true
    r.errors[#r.errors + 1] = p.reason
  end
  if p.state == "Completed" and not run.closing and not run.exit then
    u.raise {
      kind = "protocol", code = "Malformed", result = r,
      message = "winrm: script ended without its closing record",
    }
  end
  local native = (o.native or "fail") == "fail" and (r.exit_code or 0) ~= 0
  local errors = (o.errors or "fail") ~= "report" and run.errors
  r.ok = p.state == "Completed" and not errors and not native
  r.simulated = self.simulated or false
  if r.ok or o.check == false then
    return
  end
  local what = { kind = "remote", result = r, operation = "winrm.ps", host = self.session.label }
  local first = p.reason or r.errors[1]
  if p.state ~= "Completed" or errors then
    what.code = "ScriptFailed"
    what.message = ("winrm ps on %s: %s%s"):format(self.session.label,
      first and first.message or "state " .. p.state,
      first and first.line and (" (line %d)"):format(first.line) or "")
  else
    what.code = "ExitCode"
    what.message = ("winrm ps on %s: a program exited with code %d"):format(self.session.label,
      r.exit_code)
  end
  u.raise(what)
end

--- Runs a script in a pool.
function M.run(self, script, opts)
  local o = options(opts)
  check_params(script, o.params)
  local r = {
    ok = false, output = {}, errors = {}, warnings = {}, verbose = {}, debug = {},
    information = {}, stderr = {},
  }
  local run = setmetatable({ o = o, result = r, token = crypto.token(), size = 0 }, Run)
  local started = time.mono()
  local p
  u.guarded(self.session, "winrm.ps", o.timeout, r, function()
    local _d <close> = async.defer(function()
      if p then
        p:finish()
      end
    end, 10)
    p = self:invoke {
      statements = { { command(self, script, o, run.token) } }, no_input = o.input == nil,
      streams = o.invocation_info and 15 or 1,
    }
    self.used = true
    if o.input then
      send_input(p, o.input)
    end
    while not p.state do
      for _, m in ipairs(p:receive()) do
        run:take(m)
      end
    end
  end)
  r.duration = time.mono() - started
  judge(self, run, p)
  return r
end

--- As run, but the single value of its output.
function M.value(self, script, opts)
  local r = M.run(self, script, opts)
  if #r.output ~= 1 then
    u.raise {
      kind = "remote", code = "NotOneValue", result = r,
      message = ("winrm: the script gave %d values, not one"):format(#r.output),
    }
  end
  return r.output[1]
end

local JSON_RUNNER = [[
param([string]$HgaInner, [object]$HgaInnerParams)
$block = [ScriptBlock]::Create($HgaInner)
$splat = @{}
if ($HgaInnerParams) { $splat = $HgaInnerParams }
& $block @splat | ConvertTo-Json -Compress -Depth 6
]]

--- As run, but the script's output passed through JSON: nested data survives.
function M.json(self, script, opts)
  local o = {}
  for key, v in pairs(opts or {}) do
    o[key] = v
  end
  local params = { HgaInner = script_text(script), HgaInnerParams = o.params }
  o.params = params
  local r = M.run(self, JSON_RUNNER, o)
  local parts = {}
  for i, v in ipairs(r.output) do
    parts[i] = tostring(v)
  end
  return json.decode(table.concat(parts, "\n"))
end

return M
