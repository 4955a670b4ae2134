-- IAM instance profiles: what puts a role into an instance.

local common = require "localcloud.iam.common"
local errors = require "localcloud.errors"
local roles = require "localcloud.iam.roles"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

local function need(c, name)
  return common.need(c.S, "profile", name, "Instance Profile")
end

local function role_of(S, profile)
  return profile.role and S:get("role", "global", profile.role)
end

local function view(c, profile, full)
  local role = role_of(c.S, profile)
  return { Path = profile.path, InstanceProfileName = profile.name,
    InstanceProfileId = profile.id, Arn = profile.arn, CreateDate = profile.created / 1000,
    Roles = { role and roles.view(role) or nil },
    Tags = full and tags.view(profile.tags) or nil }
end

--- The profile that a launch names.
-- @param S State
-- @param spec {Name=, Arn=}|nil
-- @return table|nil {id, arn, name}
-- @raise InvalidParameterValue
function M.of_launch(S, spec)
  if not spec then
    return nil
  elseif spec.Name and spec.Arn then
    errors.raise("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not"
      .. " be used in combination with 'iamInstanceProfile.arn'")
  end
  for _, profile in ipairs(S:list("profile", "global")) do
    if profile.name == spec.Name or profile.arn == spec.Arn then
      return { id = profile.id, arn = profile.arn, name = profile.name }
    end
  end
  local what = spec.Name and "name" or "arn"
  errors.raise("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.%s is"
    .. " invalid. Invalid IAM Instance Profile %s", spec.Name or spec.Arn or "", what,
    what == "name" and "name" or "ARN")
end

--- The role that an instance has now, or nil.
-- @param S State
-- @param instance table
-- @return table|nil
function M.role_of_instance(S, instance)
  local profile = instance.profile and S:get("profile", "global", instance.profile.id)
  return profile and role_of(S, profile)
end

ops.CreateInstanceProfile = {
  accept = { InstanceProfileName = true, Path = true, Tags = true },
  run = function(c, p)
    common.check_name("instanceProfileName", p.InstanceProfileName, 128)
    local path = common.path(p.Path)
    common.unused(c.S, "profile", p.InstanceProfileName, "Instance Profile")
    local profile = { kind = "profile", region = "global", id = common.new_id("AIPA"),
      name = p.InstanceProfileName, path = path, created = state.now_ms(), tags = {},
      arn = common.arn(c.account, "instance-profile", path, p.InstanceProfileName) }
    common.add_tags(profile, p.Tags)
    return { InstanceProfile = view(c, c.S:put(profile), true) }
  end,
}

ops.GetInstanceProfile = {
  accept = { InstanceProfileName = true },
  run = function(c, p)
    return { InstanceProfile = view(c, need(c, p.InstanceProfileName), true) }
  end,
}

ops.DeleteInstanceProfile = {
  accept = { InstanceProfileName = true },
  run = function(c, p)
    local profile = need(c, p.InstanceProfileName)
    if role_of(c.S, profile) then
      errors.raise("DeleteConflict", "Cannot delete entity, must remove roles from instance"
        .. " profile first.")
    end
    c.S:drop(profile)
    return {}
  end,
}

local function listed(c, p, list)
  local page, more, marker = common.page(c, p, list)
  local out = {}
  for i, profile in ipairs(page) do
    out[i] = view(c, profile)
  end
  return { InstanceProfiles = out, IsTruncated = more, Marker = marker }
end

ops.ListInstanceProfiles = {
  accept = { PathPrefix = true, Marker = true, MaxItems = true },
  run = function(c, p)
    return listed(c, p, common.below(c.S:list("profile", "global"), p.PathPrefix))
  end,
}

ops.ListInstanceProfilesForRole = {
  accept = { RoleName = true, Marker = true, MaxItems = true },
  run = function(c, p)
    local role = common.need(c.S, "role", p.RoleName, "The role with name")
    local list = {}
    for _, profile in ipairs(c.S:list("profile", "global")) do
      list[#list + 1] = profile.role == role.id and profile or nil
    end
    return listed(c, p, list)
  end,
}

ops.TagInstanceProfile = {
  accept = { InstanceProfileName = true, Tags = true },
  run = function(c, p)
    common.add_tags(c.S:put(need(c, p.InstanceProfileName)), p.Tags)
    return {}
  end,
}

ops.AddRoleToInstanceProfile = {
  accept = { InstanceProfileName = true, RoleName = true },
  run = function(c, p)
    local profile = need(c, p.InstanceProfileName)
    local role = common.need(c.S, "role", p.RoleName, "The role with name")
    if role_of(c.S, profile) then
      errors.raise("LimitExceeded",
        "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
    end
    profile.role = role.id
    c.S:put(profile)
    return {}
  end,
}

ops.RemoveRoleFromInstanceProfile = {
  accept = { InstanceProfileName = true, RoleName = true },
  run = function(c, p)
    local profile = need(c, p.InstanceProfileName)
    local role = common.need(c.S, "role", p.RoleName, "The role with name")
    if profile.role ~= role.id then
      errors.raise("NoSuchEntity", "The role with name %s is not in the instance profile %s.",
        role.name, profile.name)
    end
    profile.role = nil
    c.S:put(profile)
    return {}
  end,
}

return M
