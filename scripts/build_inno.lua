--- Builds Mercurial's Inno Setup installers; see build_windows.lua.
return require("hg.winbuild").installer_task("inno", "Inno Setup installers", "build-inno")
