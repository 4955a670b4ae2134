--- Builds Mercurial's MSI installers; see build_windows.lua.
return require("hg.winbuild").installer_task("wix", "MSI installers", "build-wix")
