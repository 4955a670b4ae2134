--- Builds everything that is published for Windows; see build_windows.lua.
local hg = require "hg"
local arg = hg.arg
local winbuild = require "hg.winbuild"

return winbuild.task {
  help = "Build all wheels and installers for Windows.",
  args = {
    arg.string { name = "python-version", multiple = true, greedy = true, metavar = "X.Y",
      default = hg.facts.windows_pythons, help = "Pythons of the wheels" },
    winbuild.version_arg(),
  },
  example = "hgauto build-all-windows-packages --version 7.0.1",
  plan = function(args)
    return winbuild.plan({ "wheel", "inno", "wix" }, args.python_version, { "x86", "x64" })
  end,
}
