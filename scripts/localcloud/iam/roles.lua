-- IAM roles and their policies.

local common = require "localcloud.iam.common"
local errors = require "localcloud.errors"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

local managed = {}
for _, name in ipairs(require "localcloud.seed.policies") do
  managed["arn:aws:iam::aws:policy/" .. name] = name:match("[^/]+$")
end

local function need(c, name)
  return common.need(c.S, "role", name, "The role with name")
end

--- Roles that let an instance be managed by SSM.
-- @param role table
-- @return boolean
function M.ssm_managed(role)
  return role.attached["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"] ~= nil
    or role.attached["arn:aws:iam::aws:policy/service-role/AmazonEC2RoleforSSM"] ~= nil
end

--- The wire form of a role.
-- @param full boolean with tags and last use, as GetRole shows it
function M.view(role, full)
  return { Path = role.path, RoleName = role.name, RoleId = role.id, Arn = role.arn,
    CreateDate = role.created / 1000, AssumeRolePolicyDocument = common.encoded(role.trust),
    Description = role.description, MaxSessionDuration = role.max_session,
    Tags = full and tags.view(role.tags) or nil, RoleLastUsed = full and {} or nil }
end

-- ---- roles ----

ops.CreateRole = {
  accept = { RoleName = true, AssumeRolePolicyDocument = true, Path = true, Description = true,
    MaxSessionDuration = true, Tags = true },
  run = function(c, p)
    common.check_name("roleName", p.RoleName)
    local path = common.path(p.Path)
    common.check_policy(p.AssumeRolePolicyDocument, true)
    local seconds = p.MaxSessionDuration or 3600
    if seconds < 3600 or seconds > 43200 then
      errors.raise("ValidationError", "MaxSessionDuration must be between 3600 and 43200")
    end
    common.unused(c.S, "role", p.RoleName, "Role")
    local role = { kind = "role", region = "global", id = common.new_id("AROA"),
      name = p.RoleName, path = path, created = state.now_ms(),
      arn = common.arn(c.account, "role", path, p.RoleName), trust = p.AssumeRolePolicyDocument,
      description = p.Description, max_session = seconds, tags = {}, attached = {},
      inline = {} }
    common.add_tags(role, p.Tags)
    return { Role = M.view(c.S:put(role), true) }
  end,
}

ops.GetRole = {
  accept = { RoleName = true },
  run = function(c, p)
    return { Role = M.view(need(c, p.RoleName), true) }
  end,
}

ops.DeleteRole = {
  accept = { RoleName = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    if next(role.attached) then
      errors.raise("DeleteConflict", "Cannot delete entity, must detach all policies first.")
    elseif next(role.inline) then
      errors.raise("DeleteConflict", "Cannot delete entity, must delete policies first.")
    end
    for _, profile in ipairs(c.S:list("profile", "global")) do
      if profile.role == role.id then
        errors.raise("DeleteConflict", "Cannot delete entity, must remove roles from instance"
          .. " profile first.")
      end
    end
    c.S:drop(role)
    return {}
  end,
}

ops.ListRoles = {
  accept = { PathPrefix = true, Marker = true, MaxItems = true },
  run = function(c, p)
    local list, more, marker = common.page(c, p,
      common.below(c.S:list("role", "global"), p.PathPrefix))
    local out = {}
    for i, role in ipairs(list) do
      out[i] = M.view(role)
    end
    return { Roles = out, IsTruncated = more, Marker = marker }
  end,
}

ops.UpdateAssumeRolePolicy = {
  accept = { RoleName = true, PolicyDocument = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    common.check_policy(p.PolicyDocument, true)
    role.trust = p.PolicyDocument
    c.S:put(role)
    return {}
  end,
}

-- ---- tags ----

ops.TagRole = {
  accept = { RoleName = true, Tags = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    -- Marked first: a refusal half way is rolled back.
    common.add_tags(c.S:put(role), p.Tags)
    return {}
  end,
}

ops.UntagRole = {
  accept = { RoleName = true, TagKeys = true },
  run = function(c, p)
    local role = c.S:put(need(c, p.RoleName))
    for _, key in ipairs(p.TagKeys) do
      role.tags[key] = nil
    end
    return {}
  end,
}

ops.ListRoleTags = {
  accept = { RoleName = true, Marker = true, MaxItems = true },
  run = function(c, p)
    local list = {}
    for key, value in pairs(need(c, p.RoleName).tags) do
      list[#list + 1] = { name = key, value = value }
    end
    local page, more, marker = common.page(c, p, list)
    local out = {}
    for i, tag in ipairs(page) do
      out[i] = { Key = tag.name, Value = tag.value }
    end
    return { Tags = out, IsTruncated = more, Marker = marker }
  end,
}

-- ---- managed policies ----

local function need_policy(arn)
  return managed[arn] or errors.raise("NoSuchEntity",
    "Policy %s does not exist or is not attachable.", arn)
end

ops.AttachRolePolicy = {
  accept = { RoleName = true, PolicyArn = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    role.attached[p.PolicyArn] = need_policy(p.PolicyArn)
    c.S:put(role)
    return {}
  end,
}

ops.DetachRolePolicy = {
  accept = { RoleName = true, PolicyArn = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    if not role.attached[p.PolicyArn] then
      errors.raise("NoSuchEntity", "Policy %s was not found.", p.PolicyArn)
    end
    role.attached[p.PolicyArn] = nil
    c.S:put(role)
    return {}
  end,
}

ops.ListAttachedRolePolicies = {
  accept = { RoleName = true, PathPrefix = true, Marker = true, MaxItems = true },
  run = function(c, p)
    local list = {}
    for arn, name in pairs(need(c, p.RoleName).attached) do
      list[#list + 1] = { name = name, arn = arn, path = arn:match("policy(/.*/)")
        or "/" }
    end
    local page, more, marker = common.page(c, p, common.below(list, p.PathPrefix))
    local out = {}
    for i, policy in ipairs(page) do
      out[i] = { PolicyName = policy.name, PolicyArn = policy.arn }
    end
    return { AttachedPolicies = out, IsTruncated = more, Marker = marker }
  end,
}

-- ---- inline policies ----

local function need_inline(role, name)
  return role.inline[name] or errors.raise("NoSuchEntity",
    "The role policy with name %s cannot be found.", name)
end

ops.PutRolePolicy = {
  accept = { RoleName = true, PolicyName = true, PolicyDocument = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    common.check_name("policyName", p.PolicyName, 128)
    common.check_policy(p.PolicyDocument, false)
    role.inline[p.PolicyName] = p.PolicyDocument
    c.S:put(role)
    return {}
  end,
}

ops.GetRolePolicy = {
  accept = { RoleName = true, PolicyName = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    return { RoleName = role.name, PolicyName = p.PolicyName,
      PolicyDocument = common.encoded(need_inline(role, p.PolicyName)) }
  end,
}

ops.DeleteRolePolicy = {
  accept = { RoleName = true, PolicyName = true },
  run = function(c, p)
    local role = need(c, p.RoleName)
    need_inline(role, p.PolicyName)
    role.inline[p.PolicyName] = nil
    c.S:put(role)
    return {}
  end,
}

ops.ListRolePolicies = {
  accept = { RoleName = true, Marker = true, MaxItems = true },
  run = function(c, p)
    local list = {}
    for name in pairs(need(c, p.RoleName).inline) do
      list[#list + 1] = { name = name }
    end
    local page, more, marker = common.page(c, p, list)
    local out = {}
    for i, policy in ipairs(page) do
      out[i] = policy.name
    end
    return { PolicyNames = out, IsTruncated = more, Marker = marker }
  end,
}

return M
