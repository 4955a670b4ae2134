--- Terminates the machines of this state directory.
local hg = require "hg"
local arg = hg.arg

return hg.task {
  help = "Terminate all EC2 instances of ours that no live run uses.",
  aliases = { "terminate" },
  args = {
    arg.string { name = "run", help = "only those of this run" },
    arg.duration { name = "older-than", help = "only older ones" },
    arg.flag { name = "legacy", help = "also the predecessor's hg-* machines" },
  },
  needs = hg.policy.needs.terminate,
  example = "hgauto terminate-ec2-instances",
  gc = false,
  run = function(_, args)
    return hg.gc.terminate { run = args.run, older = args.older_than, legacy = args.legacy }
  end,
}
