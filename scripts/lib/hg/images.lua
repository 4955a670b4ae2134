--- Base images: found by owner and pattern, never by name alone.
local hg = require "hg"

local M = {}

--- The newest base image of that name.
-- @param ec2 table client
-- @param name string such as "debian13"
-- @param[opt] override string an AMI id or a name pattern instead of the fact's
-- @return table image {id, root_device, user, name, architecture}
-- @raise usage unknown or vanished base; task no image
-- @waits
function M.base(ec2, name, override)
  local fact = hg.facts.images[name]
  if not fact then
    local names = {}
    for n in pairs(hg.facts.images) do
      names[#names + 1] = n
    end
    if hg.facts.gone and hg.facts.gone[name] then
      hg.fail { kind = "usage",
        message = ("%s: its base image no longer exists; use debian13"):format(name) }
    end
    hg.fail { kind = "usage", message = ('unknown base image "%s"%s'):format(name,
      require("hg.suggest").text(name, names)) }
  end
  local params = { Owners = { fact.owner } }
  if override and override:match("^ami%-%x+$") then
    params.ImageIds = { override }
  else
    params.Filters = {
      { Name = "name", Values = { override or fact.pattern } },
      { Name = "state", Values = { "available" } },
      { Name = "architecture", Values = { fact.architecture or "x86_64" } },
      { Name = "image-type", Values = { "machine" } },
    }
  end
  local newest
  for _, image in ipairs(ec2:describe_images(params).Images) do
    local fits = image.OwnerId == fact.owner and image.State == "available"
      and image.Architecture == (fact.architecture or "x86_64")
      and (override or not fact.strict or (image.Name or ""):match(fact.strict))
    if fits and (not newest or (image.CreationDate or "") > (newest.CreationDate or "")) then
      newest = image
    end
  end
  if not newest then
    hg.fail {
      kind = "task", message = ("no base image for %s (owner %s, name %s)"):format(name, fact.owner,
        override or fact.pattern), hint = "another one: --base-image PATTERN or ami-…",
    }
  end
  return { id = newest.ImageId, root_device = newest.RootDeviceName, user = fact.user,
    name = newest.Name, architecture = newest.Architecture }
end

return M
