-- Instance types: names that may be asked for and what they are said to be.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"

local M = {}
local ops = {}
M.ops = ops

local types, order = {}, {}
for i, row in ipairs(require "localcloud.seed.types") do
  types[row[1]] = { id = row[1], created = i, vcpus = row[2], memory = row[3], storage = row[4],
    tags = {} }
  order[i] = types[row[1]]
end

--- What is known of a type, or nil.
function M.get(name)
  return types[name]
end

--- Names of all types, in the order of the catalogue.
-- @return string[]
function M.names()
  local out = {}
  for i, t in ipairs(order) do
    out[i] = t.id
  end
  return out
end

local function nitro(t)
  return t.id:match("^t2%.") == nil
end

local FIELDS = { ["instance-type"] = "id", ["vcpu-info.default-vcpus"] = "vcpus",
  ["memory-info.size-in-mib"] = "memory",
  ["instance-storage-supported"] = function(t)
    return t.storage ~= nil
  end,
  ["processor-info.supported-architecture"] = function()
    return "x86_64"
  end,
  ["current-generation"] = function(t)
    return nitro(t)
  end,
  hypervisor = function(t)
    return nitro(t) and "nitro" or "xen"
  end,
  ["bare-metal"] = function()
    return false
  end }

local function view(t)
  local fast = nitro(t)
  return { InstanceType = t.id, CurrentGeneration = fast, FreeTierEligible = false,
    SupportedUsageClasses = { "on-demand", "spot" }, SupportedRootDeviceTypes = { "ebs" },
    SupportedVirtualizationTypes = { "hvm" }, BareMetal = false,
    Hypervisor = fast and "nitro" or "xen",
    ProcessorInfo = { SupportedArchitectures = { "x86_64" } },
    VCpuInfo = { DefaultVCpus = t.vcpus },
    MemoryInfo = { SizeInMiB = t.memory },
    InstanceStorageSupported = t.storage ~= nil,
    InstanceStorageInfo = t.storage and { TotalSizeInGB = t.storage, NvmeSupport = "required",
      Disks = { { SizeInGB = t.storage, Count = 1, Type = "ssd" } } } or nil,
    EbsInfo = { EbsOptimizedSupport = fast and "default" or "unsupported",
      EncryptionSupport = "supported", NvmeSupport = fast and "required" or "unsupported" },
    NetworkInfo = { Ipv6Supported = true, EnaSupport = fast and "required" or "unsupported",
      MaximumNetworkInterfaces = 2 },
    BurstablePerformanceSupported = t.id:sub(1, 1) == "t", HibernationSupported = false,
    DedicatedHostsSupported = false, AutoRecoverySupported = true,
    SupportedBootModes = { "legacy-bios", "uefi" } }
end

ops.DescribeInstanceTypes = {
  accept = { InstanceTypes = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list = order
    if p.InstanceTypes and p.InstanceTypes[1] then
      local bad
      list, bad = {}, {}
      for _, name in ipairs(p.InstanceTypes) do
        list[#list + 1] = types[name]
        bad[#bad + 1] = not types[name] and name or nil
      end
      if bad[1] then
        errors.raise("InvalidInstanceType", "The following supplied instance types do not exist:"
          .. " [%s]", table.concat(bad, ", "))
      end
    end
    local paging = c:paging(p, "InstanceTypes")
    paging.size = math.min(paging.size, 100)
    local token
    list, token = describe.page(describe.filter(list, p.Filters, FIELDS), paging)
    c:checked()
    local out = {}
    for i, t in ipairs(list) do
      out[i] = view(t)
    end
    return { InstanceTypes = out, NextToken = token }
  end,
}

return M
