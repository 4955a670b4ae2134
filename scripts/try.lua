--- Sends draft changesets to Mercurial's continuous integration.
local hg = require "hg"
local arg = hg.arg

return hg.task {
  help = "Send draft changesets to Mercurial's continuous integration.",
  args = {
    arg.revision { name = "revision", short = "r", aliases = { "rev" }, default = ".",
      help = "revision to test" },
    arg.string { name = "source", metavar = "DIR", env = "HGAUTO_SOURCE", help = "checkout" },
    arg.string { name = "hg", metavar = "PATH", env = "HGAUTO_HG", default = "hg",
      help = "local Mercurial" },
  },
  needs = hg.policy.needs.try,
  example = "hgauto try -r .",
  run = function(ctx, args)
    return require("hg.tryserver").run(ctx, args)
  end,
}
