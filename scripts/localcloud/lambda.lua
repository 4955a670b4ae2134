-- Lambda: the one function that tasks call, the try server's receiver.  It
-- checks what it gets as the real one would and tells it; nothing is pushed.

local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local json = require "hgauto.json"

local M = {}
local ops = {}
M.ops = ops

local MAX_PAYLOAD = 6291456
local NAME = "ci-try-server-upload"

local FIELDS = { "bundle", "node", "branch", "user", "message" }

-- What is wrong with a request to the try server, or nil.
local function fault_of(event)
  for _, name in ipairs(FIELDS) do
    if type(event[name]) ~= "string" then
      return "KeyError", ("'%s'"):format(name)
    end
  end
  local ok, bundle = pcall(crypto.unbase64, event.bundle)
  if not ok or not bundle then
    return "Error", "bundle is not base64"
  elseif bundle:sub(1, 4) ~= "HG20" and bundle:sub(1, 4) ~= "HG10" then
    return "Error", "bundle is not a Mercurial bundle"
  elseif not event.node:match("^%x+$") or #event.node ~= 40 then
    return "Error", "node is not 40 hex digits"
  elseif event.branch == "" or event.user == "" then
    return "Error", "branch and user must not be empty"
  end
end

local function try_upload(text)
  local ok, event = pcall(json.decode, text)
  if not ok or type(event) ~= "table" then
    errors.raise("InvalidRequestContentException", "Could not parse request body into json")
  end
  local kind, why = fault_of(event)
  if kind then
    return json.encode { errorMessage = why, errorType = kind }, "Unhandled"
  end
  local bundle = crypto.unbase64(event.bundle)
  return json.encode(json.list {
    ("received a bundle of %d bytes"):format(#bundle), "node " .. event.node,
    "branch " .. event.branch, "user " .. event.user,
    "local cloud: nothing was pushed anywhere" })
end

local function function_name(text)
  return text:match("^arn:aws:lambda:[%w-]+:%d+:function:([^:]+)") or text:match("^[^:]+$")
    or text:match("^%d+:function:([^:]+)") or text
end

ops.Invoke = {
  accept = { FunctionName = true, InvocationType = true, LogType = true, Payload = true,
    ClientContext = true, Qualifier = true },
  secret = { Payload = true },
  run = function(c, p)
    local name, kind = function_name(p.FunctionName), p.InvocationType or "RequestResponse"
    if name ~= NAME then
      error(errors.new("ResourceNotFoundException", ("Function not found: arn:aws:lambda:%s:%s:"
        .. "function:%s"):format(c.region, c.account, name), 404), 0)
    elseif #(p.Payload or "") > MAX_PAYLOAD then
      error(errors.new("RequestTooLargeException", ("Request must be smaller than %d bytes for the"
        .. " InvokeFunction operation"):format(MAX_PAYLOAD), 413), 0)
    elseif kind == "DryRun" then
      return { StatusCode = 204 }
    elseif kind == "Event" then
      errors.raise("UnsupportedOperation",
        "hgauto local cloud: lambda:Invoke parameter InvocationType=Event is not emulated")
    end
    local body, failed = try_upload(p.Payload or "{}")
    return { StatusCode = 200, Payload = body, FunctionError = failed,
      ExecutedVersion = "$LATEST" }
  end,
}

return M
