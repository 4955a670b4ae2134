-- Tags: limits, TagSpecifications of creating calls, CreateTags, DeleteTags,
-- DescribeTags.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"

local M = {}

local LIMIT = 50

local function check(key, value)
  if key == "" or utf8.len(key) > 128 then
    errors.raise("InvalidParameterValue",
      "Tag key exceeds the maximum length of 128 characters or is empty: '%s'", key:sub(1, 140))
  end
  if utf8.len(value) > 256 then
    errors.raise("InvalidParameterValue",
      "Tag value exceeds the maximum length of 256 characters for the key '%s'", key)
  end
  if key:lower():sub(1, 4) == "aws:" then
    errors.raise("InvalidParameterValue",
      "Tag keys starting with 'aws:' are reserved for internal use")
  end
end

--- Checks a list of tags and makes a table of it.
-- @param list {{Key=, Value=}, …}|nil
-- @return table key -> value
function M.read(list)
  local out, n = {}, 0
  for _, tag in ipairs(list or {}) do
    local key, value = tag.Key or "", tag.Value or ""
    check(key, value)
    if out[key] then
      errors.raise("InvalidParameterValue", "Duplicate tag key '%s' specified.", key)
    end
    out[key], n = value, n + 1
  end
  if n > LIMIT then
    errors.raise("TagLimitExceeded", "The maximum number of tags for a resource is %d.", LIMIT)
  end
  return out
end

--- Reads TagSpecifications.
-- @param specs table[]|nil
-- @param allowed string[] resource types of this operation
-- @return table resource type -> tags
function M.from_specs(specs, allowed)
  local out, known = {}, {}
  for _, kind in ipairs(allowed) do
    out[kind], known[kind] = {}, true
  end
  for _, spec in ipairs(specs or {}) do
    local kind = spec.ResourceType or "null"
    if not known[kind] then
      errors.raise("InvalidParameterValue",
        "'%s' is not a valid taggable resource type for this operation.", kind)
    end
    if next(out[kind]) then
      errors.raise("InvalidParameterValue",
        "Duplicate resource type '%s' in TagSpecifications.", kind)
    end
    out[kind] = M.read(spec.Tags)
  end
  return out
end

--- The wire form, sorted by key; nil when there are none.
-- @param tags table key -> value
-- @return table[]|nil
function M.view(tags)
  local out = {}
  for key, value in pairs(tags or {}) do
    out[#out + 1] = { Key = key, Value = value }
  end
  table.sort(out, function(a, b)
    return a.Key < b.Key
  end)
  return out[1] and out or nil
end

--- A table of tags of its own for one more resource.
-- @param tags table
-- @return table
function M.copy(tags)
  local out = {}
  for k, v in pairs(tags or {}) do
    out[k] = v
  end
  return out
end

-- ---- operations on ids of any kind ----

-- Id prefix -> kind of object, resource type of DescribeTags.
local KINDS = {
  i = { "instance", "instance" }, vol = { "volume", "volume" },
  sg = { "group", "security-group" }, key = { "key", "key-pair" },
  eni = { "eni", "network-interface" }, ami = { "image", "image" },
  snap = { "snapshot", "snapshot" }, sgr = { nil, "security-group-rule" },
  eipalloc = { "address", "elastic-ip" },
}

local function find_rule(S, region, id)
  for _, group in ipairs(S:list("group", region)) do
    for _, rule in ipairs(group.rules) do
      if rule.id == id then
        return rule, group
      end
    end
  end
end

-- The object that carries the tags, and the one to store.
local function find(c, id)
  local prefix = id:match("^(%a+)%-%x+$")
  local kind = prefix and KINDS[prefix]
  if not kind then
    if prefix and describe.kinds[prefix] then
      describe.check_form(prefix, id)
      describe.not_found(prefix, { id })
    end
    errors.raise("InvalidID", "The ID '%s' is not valid", id:sub(1, 200))
  end
  describe.check_form(prefix, id)
  local obj, owner
  if prefix == "sgr" then
    obj, owner = find_rule(c.S, c.region, id)
  else
    obj = c.S:get(kind[1], c.region, id)
    owner = obj
  end
  if not obj or obj.hidden or obj.state == "deregistered" then
    describe.not_found(prefix, { id })
  end
  return obj, owner
end

local function count(tags)
  local n = 0
  for _ in pairs(tags) do
    n = n + 1
  end
  return n
end

local ops = {}
M.ops = ops

ops.CreateTags = {
  accept = { Resources = true, Tags = true },
  run = function(c, p)
    local new, targets = M.read(p.Tags), {}
    if not next(new) then
      errors.raise("MissingParameter", "The request must contain the parameter Tag")
    end
    for i, id in ipairs(p.Resources) do
      local obj, owner = find(c, id)
      local merged = M.copy(obj.tags)
      for k, v in pairs(new) do
        merged[k] = v
      end
      if count(merged) > LIMIT then
        errors.raise("TagLimitExceeded", "The maximum number of tags for a resource is %d.", LIMIT)
      end
      targets[i] = { obj, owner, merged }
    end
    c:checked()
    for _, t in ipairs(targets) do
      t[1].tags = t[3]
      c.S:put(t[2])
    end
    return {}
  end,
}

ops.DeleteTags = {
  accept = { Resources = true, Tags = true },
  run = function(c, p)
    local targets = {}
    for i, id in ipairs(p.Resources) do
      local obj, owner = find(c, id)
      targets[i] = { obj, owner }
    end
    c:checked()
    for _, t in ipairs(targets) do
      if not p.Tags then
        t[1].tags = {}
      end
      for _, tag in ipairs(p.Tags or {}) do
        local key = tag.Key or ""
        if tag.Value == nil or t[1].tags[key] == tag.Value then
          t[1].tags[key] = nil
        end
      end
      c.S:put(t[2])
    end
    return {}
  end,
}

-- One row per tag of everything in the region.
local function rows(S, region)
  local out = {}
  local function add(obj, kind, created)
    for key, value in pairs(obj.tags) do
      out[#out + 1] = { id = obj.id .. "|" .. key, created = created, resource = obj.id,
        type = kind, key = key, value = value }
    end
  end
  for _, kind in pairs(KINDS) do
    for _, obj in ipairs(kind[1] and S:list(kind[1], region) or {}) do
      if not obj.hidden and obj.state ~= "deregistered" then
        add(obj, kind[2], obj.created)
      end
    end
  end
  for _, group in ipairs(S:list("group", region)) do
    for _, rule in ipairs(group.rules) do
      add(rule, "security-group-rule", group.created)
    end
  end
  return describe.sort(out)
end

local FIELDS = { key = "key", ["resource-id"] = "resource", ["resource-type"] = "type",
  value = "value" }

ops.DescribeTags = {
  accept = { Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list = rows(c.S, c.region)
    for _, row in ipairs(list) do
      row.tags = { [row.key] = row.value }
    end
    local token
    list, token = describe.page(describe.filter(list, p.Filters, FIELDS), c:paging(p))
    c:checked()
    local out = {}
    for _, row in ipairs(list) do
      out[#out + 1] = { Key = row.key, Value = row.value, ResourceId = row.resource,
        ResourceType = row.type }
    end
    return { Tags = out, NextToken = token }
  end,
}

return M
