--- Builds Mercurial's wheels for Windows; see build_windows.lua.
local hg = require "hg"
local arg = hg.arg
local winbuild = require "hg.winbuild"

return winbuild.task {
  help = "Build Mercurial's wheels on a Windows machine.",
  args = {
    arg.string { name = "python-version", multiple = true, greedy = true, default = { "3.13" },
      metavar = "X.Y", help = "Python of the wheels" },
    winbuild.arch_arg({ "x64" }, true),
  },
  example = "hgauto build-windows-wheel --python-version 3.12 3.13 --arch x64",
  plan = function(args)
    return winbuild.plan({ "wheel" }, args.python_version, args.arch)
  end,
}
