--- What creating calls need for the ledger: op id, token, tags, place.
--
-- The intent itself is written by core when the request is complete and
-- nothing is sent (reliability section 2.4); which operations create what is
-- in bindings/creates.def.
local core = require "hgauto.aws.core"
local crypto = require "hgauto.crypto"
local host = require "hgauto.host"
local json = require "hgauto.json"
local log = require "hgauto.log"
local time = require "hgauto.time"

local M = {}

local MAX_AGE = 4 * 3600
local creates
local active
local warned = {}

local function usage(fmt, ...)
  error(host.error { kind = "usage", message = fmt:format(...) }, 0)
end

local function sid_of(led, opts)
  if opts and opts.sid then
    return opts.sid
  end
  local sid = led.sid
  if type(sid) == "function" then
    sid = led:sid()
  end
  return sid
end

--- Starts or (led nil) ends the recording of creating calls.
-- @param led userdata|nil
-- @param run string
-- @param place_fn function
-- @param[opt] opts table sid, before_ephemeral=function() called before each such creation
function M.set(led, run, place_fn, opts)
  if not led then
    active = nil
    return
  end
  if type(run) ~= "string" or type(place_fn) ~= "function" then
    usage("aws.ledger: expected ledger, run id and a function")
  end
  active = { led = led, run = run, place_fn = place_fn, sid = sid_of(led, opts),
    before_ephemeral = opts and opts.before_ephemeral }
end

-- ---- operations that are not followed ---------------------------------------

local VERBS = { "Create", "Run", "Import", "Allocate", "Register", "Copy", "Request" }
-- Sub-state of other things, or nothing that stays.
local HARMLESS = { CreateTags = true, CreateRoute = true, CreateGrant = true }

local function warn_once(service, op)
  local name = service .. " " .. op.name
  if HARMLESS[op.name] or warned[name] then
    return
  end
  for _, verb in ipairs(VERBS) do
    if op.name:sub(1, #verb) == verb then
      warned[name] = true
      log.warn("%s is not tracked; gc will not remove it", name)
      if active.led.event then
        active.led:event(nil, name .. " is not tracked")
      end
      return
    end
  end
end

-- ---- tags ----------------------------------------------------------------------

local function check_tags(tags)
  for _, tag in ipairs(tags or {}) do
    if type(tag) == "table" and tostring(tag.Key):sub(1, 7) == "hgauto:" then
      usage("tags that begin with hgauto: are set by hgauto itself (%s)", tostring(tag.Key))
    end
  end
end

local function our_tags(g)
  local tags = {
    { Key = "hgauto:v", Value = "1" },
    { Key = "hgauto:run", Value = g.run },
    { Key = "hgauto:op", Value = g.op },
    { Key = "hgauto:class", Value = g.cls },
  }
  if active.sid then
    tags[#tags + 1] = { Key = "hgauto:state", Value = active.sid }
  end
  if g.expires then
    tags[#tags + 1] = { Key = "hgauto:expires", Value = core.iso(g.expires) }
  end
  return tags
end

local function with_tags(theirs, ours)
  check_tags(theirs)
  local out = json.list {}
  for _, tag in ipairs(theirs or {}) do
    out[#out + 1] = tag
  end
  return table.move(ours, 1, #ours, #out + 1, out)
end

-- TagSpecifications: one entry per resource type, the caller's merged.
local function with_specs(theirs, types, ours)
  local out, seen = json.list {}, {}
  for _, spec in ipairs(theirs or {}) do
    local new = { ResourceType = spec.ResourceType, Tags = spec.Tags }
    check_tags(spec.Tags)
    if types:find(spec.ResourceType or "?", 1, true) then
      new.Tags = with_tags(spec.Tags, ours)
    end
    seen[spec.ResourceType or "?"] = true
    out[#out + 1] = new
  end
  for kind in types:gmatch("%S+") do
    if not seen[kind] then
      out[#out + 1] = { ResourceType = kind, Tags = with_tags(nil, ours) }
    end
  end
  return out
end

local function name_tag(row, params)
  for _, spec in ipairs(params[row.tags] or {}) do
    for _, tag in ipairs(row.tags == "TagSpecifications" and spec.Tags or { spec }) do
      if tag.Key == "Name" then
        return tag.Value
      end
    end
  end
  return nil
end

-- ---- the gate --------------------------------------------------------------------

local function copy(params)
  local out = {}
  for k, v in pairs(params or {}) do
    out[k] = v
  end
  return out
end

local function fill(row, op, params, g)
  local ours = our_tags(g)
  if row.token then
    params[row.token] = params[row.token] or g.op
    g.token = params[row.token]
  end
  if row.tags == "TagSpecifications" then
    if op.can_tag then
      params.TagSpecifications = with_specs(params.TagSpecifications, row.types, ours)
    end
  elseif row.tags then
    params[row.tags] = with_tags(params[row.tags], ours)
  end
  if row.path then
    params[row.path] = params[row.path] or "/hgauto/"
  end
  if row.kind == "command" then
    params.Comment = params.Comment or "hgauto:" .. g.op
  end
end

--- Parameters and gate of a call; the parameters as they are when it creates nothing.
-- @param aws table the module
-- @param p table private part of the client
-- @param op table the operation
-- @param params table|nil
-- @param opts table|nil call options
-- @return table|nil params
-- @return table|nil gate for core
-- @waits the first time in a place
function M.prepare(aws, p, op, params, opts)
  if not active or (params and params.DryRun) then
    return params, nil
  end
  creates = creates or core.creates()
  local row = creates[p.service .. ":" .. op.name]
  if not row then
    warn_once(p.service, op)
    return params, nil
  end
  opts = opts or {}
  local g = { ledger = active.led, run = active.run, kind = row.kind }
  g.op = opts.op or crypto.token()
  g.cls = opts.keep and "durable" or row.cls
  if g.cls == "ephemeral" then
    g.expires = opts.expires or math.floor(time.now()) + MAX_AGE
    if active.before_ephemeral then
      active.before_ephemeral()
    end
  end
  if opts.detail then
    g.detail = json.encode(opts.detail)
  end
  params = copy(params)
  g.name = row.name and params[row.name] or row.tags and name_tag(row, params) or nil
  g.place = active.place_fn(function()
    return aws.sibling(p, "sts"):get_caller_identity {}
  end)
  fill(row, op, params, g)
  return params, g
end

return M
