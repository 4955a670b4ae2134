-- Price list: on-demand prices of instance types from a static table, which
-- each product says of itself.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local json = require "hgauto.json"
local types = require "localcloud.ec2.types"

local M = {}
local ops = {}
M.ops = ops

local PRICES = require "localcloud.seed.prices"

-- Licence per vCPU and hour.
local WINDOWS_PER_VCPU = 0.046

local LOCATIONS = { ["us-east-1"] = "US East (N. Virginia)", ["us-east-2"] = "US East (Ohio)",
  ["us-west-1"] = "US West (N. California)", ["us-west-2"] = "US West (Oregon)",
  ["eu-central-1"] = "EU (Frankfurt)", ["eu-west-1"] = "EU (Ireland)" }

local function price(kind, os)
  return PRICES[kind.id] + (os == "Windows" and kind.vcpus * WINDOWS_PER_VCPU or 0)
end

local function product(kind, os, region)
  local sku = crypto.sha1(kind.id .. os .. region):sub(1, 16):upper()
  local text = ("%.10f"):format(price(kind, os))
  local attributes = { instanceType = kind.id, operatingSystem = os, regionCode = region,
    location = LOCATIONS[region], locationType = "AWS Region", tenancy = "Shared",
    preInstalledSw = "NA", capacitystatus = "Used", vcpu = tostring(kind.vcpus),
    memory = ("%g GiB"):format(kind.memory / 1024), servicecode = "AmazonEC2",
    marketoption = "OnDemand", licenseModel = "No License required",
    operation = os == "Windows" and "RunInstances:0002" or "RunInstances",
    usagetype = "BoxUsage:" .. kind.id, servicename = "hgauto local cloud, static prices" }
  local term, dimension = sku .. ".JRTCKXETXF", sku .. ".JRTCKXETXF.6YS6EN2CT7"
  return { id = sku, attributes = attributes, text = json.encode {
    product = { productFamily = "Compute Instance", sku = sku, attributes = attributes },
    serviceCode = "AmazonEC2", version = "local", publicationDate = "2025-01-01T00:00:00Z",
    terms = { OnDemand = { [term] = { sku = sku, offerTermCode = "JRTCKXETXF",
      effectiveDate = "2025-01-01T00:00:00Z", termAttributes = json.decode "{}",
      priceDimensions = { [dimension] = { unit = "Hrs", rateCode = dimension,
        beginRange = "0", endRange = "Inf", appliesTo = json.list {},
        description = ("$%s per %s %s Instance Hour"):format(text, os, kind.id),
        pricePerUnit = { USD = text } } } } } } } }
end

-- All products in a fixed order.
local function products()
  local out = {}
  for name in pairs(PRICES) do
    for region in pairs(LOCATIONS) do
      for _, os in ipairs { "Linux", "Windows" } do
        out[#out + 1] = product(types.get(name), os, region)
      end
    end
  end
  return describe.sort(out)
end

local function matches(attributes, filters)
  for _, f in ipairs(filters or {}) do
    local got = attributes[f.Field] or (f.Field == "ServiceCode" and "AmazonEC2")
      or (f.Field == "productFamily" and "Compute Instance")
    if f.Type ~= "TERM_MATCH" then
      errors.raise("InvalidParameterException", "Filter type %s is not supported", f.Type)
    elseif not got or got:lower() ~= f.Value:lower() then
      return false
    end
  end
  return true
end

ops.GetProducts = {
  accept = { ServiceCode = true, Filters = true, FormatVersion = true, MaxResults = true,
    NextToken = true },
  run = function(c, p)
    if p.ServiceCode ~= "AmazonEC2" then
      errors.raise("NotFoundException", "The service code %s was not found", p.ServiceCode)
    elseif p.MaxResults and (p.MaxResults < 1 or p.MaxResults > 100) then
      errors.raise("InvalidParameterException", "MaxResults must be from 1 to 100")
    end
    local list = {}
    for _, one in ipairs(products()) do
      list[#list + 1] = matches(one.attributes, p.Filters) and one or nil
    end
    local paging = c:paging(p)
    paging.size, paging.least = 100, 1
    local token
    list, token = describe.page(list, paging)
    local out = {}
    for i, one in ipairs(list) do
      out[i] = one.text
    end
    return { FormatVersion = "aws_v1", PriceList = out, NextToken = token }
  end,
}

return M
