--- Builds Mercurial's wheels and installers on a temporary Windows machine.
local hg = require "hg"
local arg = hg.arg
local winbuild = require "hg.winbuild"

local KINDS = { "wheel", "inno", "wix" }

return winbuild.task {
  help = "Build Mercurial's wheels and installers on a Windows machine.",
  args = {
    arg.enum { name = "kind", "wheel", "inno", "wix", "all", positional = true, multiple = true,
      default = { "all" }, help = "what to build" },
    arg.string { name = "python", multiple = true, default = { "3.13" }, metavar = "X.Y",
      help = "Python of the wheels" },
    winbuild.arch_arg { "x64" }, winbuild.version_arg(),
  },
  example = "hgauto build-windows wheel --arch x86 --arch x64",
  plan = function(args)
    local wanted, kinds = {}, {}
    for _, word in ipairs(args.kind) do
      wanted[word] = true
    end
    for _, kind in ipairs(KINDS) do
      if wanted[kind] or wanted.all then
        kinds[#kinds + 1] = kind
      end
    end
    return winbuild.plan(kinds, args.python, args.arch)
  end,
}
