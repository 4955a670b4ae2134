-- Systems Manager: managed instances and commands, which run for real as root
-- inside the instance, through its agent and not over SSH.

local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local images = require "localcloud.ec2.images"
local profiles = require "localcloud.iam.profiles"
local roles = require "localcloud.iam.roles"
local state = require "localcloud.state"
local time = require "hgauto.time"

local M = {}
local ops = {}
M.ops = ops

local OUTPUT_MAX, ERROR_MAX = 24000, 8000
local DEFAULT_TIMEOUT = 3600
local SHELL = "AWS-RunShellScript"

-- ---- managed instances ----

-- Whether SSM knows an instance: its role must let the agent in.
local function is_managed(S, instance)
  if not instance or instance.hidden or instance.state == "terminated"
    or instance.state == "pending" or images.of_instance(S, instance).platform then
    return false
  end
  local role = profiles.role_of_instance(S, instance)
  return role ~= nil and roles.ssm_managed(role)
end

local function ping(instance)
  return instance.state == "running" and "Online" or "ConnectionLost"
end

local function info_view(instance)
  return { InstanceId = instance.id, PingStatus = ping(instance),
    LastPingDateTime = instance.state == "running" and time.now() or instance.launched / 1000,
    AgentVersion = "3.3.0.0", IsLatestVersion = true, PlatformType = "Linux",
    PlatformName = "Debian GNU/Linux", PlatformVersion = "", ResourceType = "EC2Instance",
    IPAddress = instance.private_ip, ComputerName = instance.private_ip
      and require("localcloud.userdata").hostname(instance.private_ip) or nil,
    AssociationStatus = "Success", IamRole = instance.profile.name }
end

local FIELDS = { InstanceIds = "id", PingStatus = ping,
  PlatformTypes = function()
    return "Linux"
  end,
  ResourceType = function()
    return "EC2Instance"
  end,
  IamRole = function(i)
    return i.profile.name
  end }

-- Both forms of filters in the form of describe.filter.
local function filters_of(p)
  local out = {}
  for _, f in ipairs(p.Filters or {}) do
    out[#out + 1] = { Name = f.Key, Values = f.Values }
  end
  for _, f in ipairs(p.InstanceInformationFilterList or {}) do
    out[#out + 1] = { Name = f.key, Values = f.valueSet }
  end
  for _, f in ipairs(out) do
    if not FIELDS[f.Name] and not f.Name:match("^tag:") then
      errors.raise("InvalidFilterKey", "The filter key %s is not valid", f.Name)
    end
  end
  return out
end

ops.DescribeInstanceInformation = {
  accept = { Filters = true, InstanceInformationFilterList = true, MaxResults = true,
    NextToken = true },
  run = function(c, p)
    local list = {}
    for _, instance in ipairs(c.S:list("instance", c.region)) do
      list[#list + 1] = is_managed(c.S, instance) and instance or nil
    end
    list = describe.sort(describe.filter(list, filters_of(p), FIELDS))
    local paging = c:paging(p)
    paging.size = math.min(paging.size, 50)
    local token
    list, token = describe.page(list, paging)
    local out = {}
    for i, instance in ipairs(list) do
      out[i] = info_view(instance)
    end
    return { InstanceInformationList = out, NextToken = token }
  end,
}

-- ---- views of commands ----

local DETAILS = { Pending = "Pending", InProgress = "InProgress", Success = "Success",
  Failed = "Failed", TimedOut = "ExecutionTimedOut", Cancelled = "Terminated",
  Delayed = "Delayed", Undeliverable = "Undeliverable" }

local ENDED = { Success = true, Failed = true, TimedOut = true, Cancelled = true }

-- Status of the whole from those of the parts.
local function overall(command)
  local worst = "Success"
  for _, inv in ipairs(command.invocations) do
    if not ENDED[inv.status] then
      return inv.status == "Pending" and "Pending" or "InProgress"
    elseif inv.status ~= "Success" then
      worst = inv.status
    end
  end
  return worst
end

local function counts(command)
  local ended, bad = 0, 0
  for _, inv in ipairs(command.invocations) do
    ended = ended + (ENDED[inv.status] and 1 or 0)
    bad = bad + (ENDED[inv.status] and inv.status ~= "Success" and 1 or 0)
  end
  return ended, bad
end

local function command_view(command)
  local ids, status = {}, overall(command)
  for i, inv in ipairs(command.invocations) do
    ids[i] = inv.instance
  end
  local completed, bad = counts(command)
  return { CommandId = command.id, DocumentName = command.document, DocumentVersion = "$DEFAULT",
    Comment = command.comment or "", Parameters = command.parameters, InstanceIds = ids,
    Targets = command.targets or {}, RequestedDateTime = command.created / 1000,
    ExpiresAfter = command.created / 1000 + command.delivery + command.timeout,
    Status = status, StatusDetails = DETAILS[status], TargetCount = #ids,
    CompletedCount = completed, ErrorCount = bad, DeliveryTimedOutCount = 0,
    MaxConcurrency = "50", MaxErrors = "0", OutputS3BucketName = "", OutputS3KeyPrefix = "",
    ServiceRole = "", TimeoutSeconds = command.delivery }
end

local function iso(at)
  return at and time.iso(at, { ms = true }) or ""
end

local function invocation_view(command, inv)
  return { CommandId = command.id, InstanceId = inv.instance, Comment = command.comment or "",
    DocumentName = command.document, DocumentVersion = "$DEFAULT",
    PluginName = "aws:runShellScript",
    ResponseCode = inv.code or -1, Status = inv.status, StatusDetails = inv.details
      or DETAILS[inv.status], StandardOutputContent = inv.out or "",
    StandardOutputUrl = "", StandardErrorContent = inv.err or "", StandardErrorUrl = "",
    ExecutionStartDateTime = iso(inv.started), ExecutionEndDateTime = iso(inv.ended),
    ExecutionElapsedTime = inv.ended and inv.started
      and ("PT%.3fS"):format(inv.ended - inv.started) or "" }
end

-- ---- running ----

-- The script of a command: its lines in a file, so that neither the length of a
-- command line nor a list of processes shows them.
local function run_inside(c, command, inv, box)
  local script = table.concat(command.parameters.commands, "\n") .. "\n"
  local cwd = (command.parameters.workingDirectory or {})[1]
  local dir = "/var/lib/amazon/ssm/" .. command.id
  return box:exec { user = "root", timeout = command.timeout, stdin = script,
    cwd = cwd and cwd ~= "" and cwd or "/", max_output = 1 << 20,
    argv = { "/bin/sh", "-c", ("umask 077; mkdir -p %s && cat >%s/_script.sh && exec sh"
      .. " %s/_script.sh </dev/null"):format(dir, dir, dir) },
    env = { AWS_SSM_REGION_NAME = c.region, AWS_SSM_INSTANCE_ID = inv.instance } }
end

local function cut(text, max)
  if #text <= max then
    return text
  end
  local tail = "\n--output truncated--"
  return text:sub(1, max - #tail) .. tail
end

-- Changes an invocation unless it has ended already, and stores it.
local function settle(c, command, inv, fields)
  if ENDED[inv.status] then
    return
  end
  for k, v in pairs(fields) do
    inv[k] = v
  end
  c.S:put(command)
  c.S:commit()
end

-- A command that ended by itself, with what SSM makes of its exit code.
local function outcome(r)
  local code = r.code or 128 + (tonumber(r.signal) or 9)
  return { status = code == 0 and "Success" or "Failed", code = code, ended = time.now(),
    out = cut(r.out, OUTPUT_MAX), err = cut(r.err, ERROR_MAX) }
end

local function failure(e)
  if e.kind == "timeout" then
    return { status = "TimedOut", code = 137, ended = time.now(), out = "", err = "" }
  end
  return { status = "Failed", code = 1, ended = time.now(), out = "",
    err = cut(tostring(e), ERROR_MAX) }
end

local function deliver(c, command, inv)
  local m = c.d.machines
  local box = m:box_of(inv.instance)
  local fault = c.d.faults:guest({ action = "command", instance = inv.instance }, "ssm")
  if fault == "delayed" then
    settle(c, command, inv, { status = "Delayed" })
    return
  elseif fault == "timedout" then
    settle(c, command, inv, { status = "TimedOut", details = "DeliveryTimedOut", code = -1 })
    return
  elseif not box then
    settle(c, command, inv, { status = "Failed", code = 1, details = "Undeliverable",
      ended = time.now(), out = "", err = m.api_only
        and "hgauto local cloud: nothing runs in instances of --api-only"
        or "the instance does not run" })
    return
  end
  settle(c, command, inv, { status = "InProgress", started = time.now() })
  local ok, r = pcall(run_inside, c, command, inv, box)
  if not ok and r.kind == "cancelled" then
    settle(c, command, inv, { status = "Cancelled", code = -1, ended = time.now(), out = "",
      err = "" })
    error(r, 0)
  end
  if ok and fault == "cut" then
    r.out = r.out:sub(1, #r.out // 2)
  end
  settle(c, command, inv, ok and outcome(r) or failure(r))
end

local function start(c, command)
  local tasks = c.d.commands
  for _, inv in ipairs(command.invocations) do
    local key = command.id .. inv.instance
    tasks[key] = c.d.machines.spawn(function()
      local _done <close> = async.defer(function()
        tasks[key] = nil
      end)
      deliver(c, command, inv)
    end)
  end
end

-- ---- SendCommand ----

local function targets_of(c, p)
  local ids = {}
  for _, id in ipairs(p.InstanceIds or {}) do
    ids[#ids + 1] = id
  end
  for _, t in ipairs(p.Targets or {}) do
    local key = t.Key == "InstanceIds" and "InstanceIds" or t.Key:match("^tag:.+$")
    if not key then
      errors.raise("InvalidTarget", "The target %s is not valid", t.Key)
    end
    for _, instance in ipairs(describe.sort(describe.filter(c.S:list("instance", c.region),
      { { Name = key, Values = t.Values } }, FIELDS))) do
      ids[#ids + 1] = is_managed(c.S, instance) and instance.id or nil
    end
  end
  for _, id in ipairs(p.InstanceIds or {}) do
    local instance = c.S:get("instance", c.region, id)
    if not is_managed(c.S, instance) or instance.state ~= "running" then
      errors.raise("InvalidInstanceId", "Instances not in a valid state for account")
    end
  end
  if not ids[1] and not (p.Targets and p.Targets[1]) then
    errors.raise("InvalidInstanceId", "No instances in tag")
  end
  return ids
end

local function seconds(text, name)
  local n = math.tointeger(tonumber(text))
  if not n or n < 1 or n > 172800 then
    errors.raise("InvalidParameters", "%s must be a number of seconds from 1 to 172800", name)
  end
  return n
end

local PARAMETERS = { commands = true, workingDirectory = true, executionTimeout = true }

local function check_command(p)
  if p.DocumentName ~= SHELL and p.DocumentName ~= "arn:aws:ssm:::document/" .. SHELL then
    errors.raise("InvalidDocument", "The document %s does not exist in your account.",
      p.DocumentName)
  elseif p.Comment and utf8.len(p.Comment) > 100 then
    errors.raise("ValidationException", "1 validation error detected: Value at 'comment' failed"
      .. " to satisfy constraint: Member must have length less than or equal to 100")
  end
  local parameters = p.Parameters or {}
  for name in pairs(parameters) do
    if not PARAMETERS[name] then
      errors.raise("InvalidParameters", "%s is not a parameter of the document %s", name, SHELL)
    end
  end
  if not parameters.commands or not parameters.commands[1] then
    errors.raise("InvalidParameters", "The document needs the parameter commands")
  end
  local timeout = (parameters.executionTimeout or {})[1]
  return timeout and seconds(timeout, "executionTimeout") or DEFAULT_TIMEOUT
end

ops.SendCommand = {
  accept = { InstanceIds = true, Targets = true, DocumentName = true, DocumentVersion = true,
    TimeoutSeconds = true, Comment = true, Parameters = true, MaxConcurrency = true,
    MaxErrors = true },
  secret = { Parameters = true },
  run = function(c, p)
    local timeout = check_command(p)
    local command = { kind = "command", region = c.region, id = crypto.uuid(),
      created = state.now_ms(), document = SHELL, comment = p.Comment, parameters = p.Parameters,
      targets = p.Targets, timeout = timeout, delivery = p.TimeoutSeconds or 3600,
      invocations = {} }
    for i, id in ipairs(targets_of(c, p)) do
      command.invocations[i] = { instance = id, status = "Pending" }
    end
    c.S:put(command)
    c:after_commit(function()
      start(c, command)
    end)
    return { Command = command_view(command) }
  end,
}

-- ---- asking, cancelling ----

local function check_id(id)
  if not id:match("^%x+%-%x+%-%x+%-%x+%-%x+$") or #id ~= 36 then
    errors.raise("InvalidCommandId", "The command id %s is not valid", id:sub(1, 60))
  end
end

local function need(c, id)
  check_id(id)
  return c.S:get("command", c.region, id) or errors.raise("InvalidCommandId",
    "The command %s does not exist", id)
end

ops.GetCommandInvocation = {
  accept = { CommandId = true, InstanceId = true, PluginName = true },
  run = function(c, p)
    check_id(p.CommandId)
    local command = c.S:get("command", c.region, p.CommandId)
    for _, inv in ipairs(command and command.invocations or {}) do
      -- Before it is delivered there is no invocation.
      if inv.instance == p.InstanceId and inv.status ~= "Pending" then
        return invocation_view(command, inv)
      end
    end
    errors.raise("InvocationDoesNotExist", "The command %s has no invocation on %s",
      p.CommandId, p.InstanceId)
  end,
}

local LIST_FIELDS = { Status = overall, DocumentName = "document" }

local function wanted(c, p)
  local list, filters = c.S:list("command", c.region), {}
  if p.CommandId then
    list = { need(c, p.CommandId) }
  end
  for _, f in ipairs(p.Filters or {}) do
    if not LIST_FIELDS[f.key] then
      errors.raise("InvalidFilterKey", "The filter key %s is not valid", f.key)
    end
    filters[#filters + 1] = { Name = f.key, Values = { f.value } }
  end
  list = describe.filter(list, filters, LIST_FIELDS)
  if not p.InstanceId then
    return describe.sort(list)
  end
  local out = {}
  for _, command in ipairs(list) do
    for _, inv in ipairs(command.invocations) do
      out[#out + 1] = inv.instance == p.InstanceId and command or nil
    end
  end
  return describe.sort(out)
end

local function page(c, p)
  local paging = c:paging(p)
  paging.size, paging.least = math.min(paging.size, 50), 1
  return describe.page(wanted(c, p), paging)
end

ops.ListCommands = {
  accept = { CommandId = true, InstanceId = true, MaxResults = true, NextToken = true,
    Filters = true },
  run = function(c, p)
    local list, token = page(c, p)
    local out = {}
    for i, command in ipairs(list) do
      out[i] = command_view(command)
    end
    return { Commands = out, NextToken = token }
  end,
}

ops.ListCommandInvocations = {
  accept = { CommandId = true, InstanceId = true, MaxResults = true, NextToken = true,
    Filters = true, Details = true },
  run = function(c, p)
    local list, token = page(c, p)
    local out = {}
    for _, command in ipairs(list) do
      for _, inv in ipairs(command.invocations) do
        if not p.InstanceId or inv.instance == p.InstanceId then
          local v = invocation_view(command, inv)
          out[#out + 1] = { CommandId = v.CommandId, InstanceId = v.InstanceId, Comment = v.Comment,
            DocumentName = v.DocumentName, DocumentVersion = v.DocumentVersion,
            RequestedDateTime = command.created / 1000, Status = v.Status,
            StatusDetails = v.StatusDetails, CommandPlugins = p.Details and { {
              Name = v.PluginName, Status = v.Status, StatusDetails = v.StatusDetails,
              ResponseCode = v.ResponseCode, Output = v.StandardOutputContent,
              ResponseStartDateTime = inv.started, ResponseFinishDateTime = inv.ended } } or {} }
        end
      end
    end
    return { CommandInvocations = out, NextToken = token }
  end,
}

ops.CancelCommand = {
  accept = { CommandId = true, InstanceIds = true },
  run = function(c, p)
    local command, only = need(c, p.CommandId), {}
    for _, id in ipairs(p.InstanceIds or {}) do
      only[id] = true
    end
    c:after_commit(function()
      for _, inv in ipairs(command.invocations) do
        local task = c.d.commands[command.id .. inv.instance]
        if task and (not p.InstanceIds or only[inv.instance]) then
          task:cancel("the command is cancelled")
        end
      end
    end)
    return {}
  end,
}

--- After a daemon's death: its commands have ended with it.
-- @param S State
function M.bury(S)
  for _, command in ipairs(S:list("command")) do
    for _, inv in ipairs(command.invocations) do
      if not ENDED[inv.status] then
        inv.status, inv.code, inv.details = "Failed", -1, "Undeliverable"
        S:put(command)
      end
    end
  end
  S:commit()
end

return M
