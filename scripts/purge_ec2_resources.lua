--- Removes everything of this state directory from the account.
local hg = require "hg"
local arg = hg.arg

return hg.task {
  help = "Remove every EC2 resource of ours: machines, images, groups, key pairs.",
  args = {
    arg.flag { name = "keep-images", help = "leave images and their snapshots" },
    arg.flag { name = "legacy", help = "also the predecessor's hg-* resources" },
  },
  needs = hg.policy.needs.purge,
  example = "hgauto purge-ec2-resources",
  gc = false,
  run = function(_, args)
    return hg.gc.purge { keep_images = args.keep_images, legacy = args.legacy }
  end,
}
