-- Public parameters of Systems Manager: the ids of current images by name.

local errors = require "localcloud.errors"
local images = require "localcloud.ec2.images"

local M = {}
local ops = {}
M.ops = ops

local NAMES = {
  ["/aws/service/debian/release/13/latest/amd64"] = "debian-13-amd64-",
  ["/aws/service/debian/release/12/latest/amd64"] = "debian-12-amd64-",
  ["/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id"] =
    "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-",
  ["/aws/service/ami-windows-latest/Windows_Server-2019-English-Full-Base"] =
    "Windows_Server-2019-English-Full-Base-",
}

-- The parameter of that name, or nil.
local function find(c, name)
  local prefix = NAMES[name]
  local image = prefix and images.newest(prefix)
  return image and { Name = name, Type = "String", Value = image.id, Version = 1,
    DataType = "aws:ec2:image", LastModifiedDate = require("hgauto.time").parse(image.made),
    ARN = ("arn:aws:ssm:%s::parameter%s"):format(c.region, name) }
end

ops.GetParameter = {
  accept = { Name = true, WithDecryption = true },
  run = function(c, p)
    return { Parameter = find(c, p.Name) or errors.raise("ParameterNotFound",
      "Parameter %s not found.", p.Name) }
  end,
}

ops.GetParameters = {
  accept = { Names = true, WithDecryption = true },
  run = function(c, p)
    if #p.Names > 10 then
      errors.raise("ValidationException", "1 validation error detected: Value at 'names' failed to"
        .. " satisfy constraint: Member must have length less than or equal to 10")
    end
    local found, missing = {}, {}
    for _, name in ipairs(p.Names) do
      local parameter = find(c, name)
      if parameter then
        found[#found + 1] = parameter
      else
        missing[#missing + 1] = name
      end
    end
    return { Parameters = found, InvalidParameters = missing }
  end,
}

return M
