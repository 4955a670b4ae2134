--- Shows what of ours exists in the account; changes nothing.
local hg = require "hg"

return hg.task {
  help = "Show what of ours exists in the cloud: age, run, end, cost.",
  args = {},
  needs = { "ec2:Describe*", "sts:GetCallerIdentity" },
  example = "hgauto status",
  gc = false,
  run = function()
    return require("hg.resources").show()
  end,
}
