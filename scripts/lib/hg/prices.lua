--- On-demand prices, USD per hour in us-west-2: a snapshot of 2026-11, for
--- telling what runs cost.  What is not listed has no price.

local M = {}

M.dated = "2026-11"

local LINUX = {
  ["t3.micro"] = 0.0104, ["t3.small"] = 0.0208, ["t3.medium"] = 0.0416, ["t3.large"] = 0.0832,
  ["t3.xlarge"] = 0.1664, ["t3.2xlarge"] = 0.3328,
  ["m6i.large"] = 0.096, ["m6i.xlarge"] = 0.192, ["m6i.2xlarge"] = 0.384,
  ["c5.large"] = 0.085, ["c5.xlarge"] = 0.17, ["c5.2xlarge"] = 0.34, ["c5.4xlarge"] = 0.68,
  ["c5.9xlarge"] = 1.53, ["c6i.large"] = 0.085, ["c6i.xlarge"] = 0.17, ["c6i.2xlarge"] = 0.34,
  ["c6i.4xlarge"] = 0.68,
}

-- With the licence of the operating system.
local WINDOWS = { ["t3.medium"] = 0.06, ["t3.large"] = 0.1108, ["m6i.large"] = 0.188,
  ["m6i.xlarge"] = 0.376 }

--- Price of an instance type.
-- @param kind string "t3.large"
-- @param[opt] os string "linux" or "windows"
-- @param[opt] given table prices of the user's, "TYPE/OS/REGION" -> USD/h
-- @param[opt] region string
-- @return number|nil USD per hour
function M.hourly(kind, os, given, region)
  os = os or "linux"
  local own = given and (given[("%s/%s/%s"):format(kind, os, region or "us-west-2")]
    or given[("%s/%s"):format(kind, os)])
  return own or (os == "windows" and WINDOWS or LINUX)[kind]
end

--- Money as text: "USD 0.071".
-- @param usd number
-- @return string
function M.text(usd)
  return ("USD %.3f"):format(usd)
end

return M
