--- Shows what of ours exists in the account; changes nothing.
local hg = require "hg"

return hg.task {
  help = "Show what of ours exists in the cloud: age, run, end, cost.",
  args = {},
  needs = hg.policy.needs.look,
  example = "hgauto status",
  gc = false,
  run = function()
    return require("hg.resources").show()
  end,
}
