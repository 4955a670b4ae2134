--- Makes images with everything that building and testing Mercurial needs.
local hg = require "hg"
local arg = hg.arg

local function distros()
  local names = {}
  for name, fact in pairs(hg.facts.images) do
    if fact.os == "linux" then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- The script of the user's, read once: it is part of what the image is.
local function extra_text(path)
  return path and require("hgauto.fs").read(path) or nil
end

return hg.task {
  help = "Make images with all that building and testing Mercurial needs.",
  description = "An image of the same contents is reused. The new image is there before an older "
    .. "one goes.",
  aliases = { "bootstrap-linux" },
  args = require("hg.tasks").join({
    arg.string { name = "distros", multiple = true, metavar = "A,B",
      help = "which [default: all]" },
    arg.flag { name = "parallel", default = true, help = "several at once" },
    arg.flag { name = "extras", help = "packages that make fewer tests skip, too" },
    arg.path { name = "bootstrap-extra", must = "file", metavar = "FILE",
      help = "a shell script of yours, run as root" },
    arg.flag { name = "refresh-base", help = "rebuild when the publisher has a newer base image" },
    arg.flag { name = "force", help = "rebuild in any case" },
    arg.flag { name = "keep-old", help = "keep images that the new one replaces" },
    arg.instance_type { name = "instance-type", default = "t3.large", help = "EC2 instance type" },
    arg.duration { name = "max-age", default = "2h", help = "the machine ends itself after this" },
    arg.string { name = "allow-cidr", metavar = "CIDR", multiple = true,
      help = "who may log in [default: this machine's address]" },
    arg.string { name = "subnet", metavar = "ID", help = "subnet [default: the default VPC's]" },
  }, require("hg.tasks").base_args "base-image"),
  needs = hg.policy.needs.linux,
  example = "hgauto bootstrap-linux-dev --distros debian13,debian12",

  run = function(ctx, args)
    local names = args.distros and #args.distros > 0 and args.distros or distros()
    hg.images.check_linux(names)
    local extra = extra_text(args.bootstrap_extra)
    local ec2 = require("hgauto.aws").client("ec2")
    local done = ctx:parallel(names, { limit = args.parallel and 4 or 1 }, function(name)
      local spec = hg.images.dev_spec(name, { extras = args.extras, extra = extra,
        pattern = args.base_image, owners = args.allow_owner })
      local began = require("hgauto.time").mono()
      local image, built = ctx:step("image", { resume = false }, hg.images.ensure, ec2, spec, {
        force = args.force, refresh = args.refresh_base, keep_old = args.keep_old,
        instance_type = args.instance_type, max_age = args.max_age,
        allow_cidr = args.allow_cidr, subnet = args.subnet,
      })
      local took = hg.format.duration(require("hgauto.time").mono() - began)
      hg.output.result(("%s %s %s"):format(name, image.id,
        built and ("built " .. took) or "reused"))
      return { distro = name, image = image.id, built = built }
    end)
    return { images = done }
  end,
}
