--- Makes an image of Windows with everything that building and testing Mercurial needs.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"
local time = require "hgauto.time"
local winbuild = require "hg.winbuild"
local winimage = require "hg.winimage"

return hg.task {
  help = "Make a Windows image with all that building and testing Mercurial needs.",
  description = "What is installed stands in the revision, in contrib. An image of the same"
    .. " contents is reused; an older one goes after the new one is there.",
  aliases = { "bootstrap-windows" },
  args = tasks.join({
    arg.flag { name = "seed", default = true,
      help = "put the public changesets into the image's repository" },
    arg.flag { name = "refresh-base", help = "rebuild when the publisher has a newer base image" },
    arg.flag { name = "force", help = "rebuild in any case" },
    arg.flag { name = "keep-old", help = "keep images that the new one replaces" },
  }, winbuild.machine_args { max_age = "6h", image = false }, tasks.source_args()),
  needs = winbuild.needs,
  example = "hgauto bootstrap-windows-dev --os 2022 --revision 7.0.1",

  run = function(ctx, args)
    local source = ctx:step("source", hg.mercurial.resolve, {
      source = args.source, revision = args.revision, hg = args.hg,
      version_hint = args.version_hint,
    })
    local ec2, began = require("hgauto.aws").client "ec2", time.mono()
    local spec = winimage.spec(args.os, source, { pattern = args.base_image_name,
      owners = args.allow_owner, seed = args.seed })
    local image, built = ctx:step("image", { resume = false }, hg.images.ensure, ec2, spec, {
      force = args.force, refresh = args.refresh_base, keep_old = args.keep_old,
      instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
      subnet = args.subnet,
    })
    hg.output.result(("windows%s %s %s"):format(args.os, image.id,
      built and ("built " .. hg.format.duration(time.mono() - began)) or "reused"))
    return { image = image.id, built = built }
  end,
}
