param(
  [string]$Id,
  [string]$Kind,
  [string]$Arch,
  [string]$Version,
  [string]$OutDir
)
$ErrorActionPreference = 'Stop'
Enter-Job -Id $Id
New-Place -Path $OutDir
$target = @{ x86 = 'i686-pc-windows-msvc'; x64 = 'x86_64-pc-windows-msvc' }[$Arch]
$files = @{ inno = 'dist\*.exe'; wix = 'dist\*.msi' }[$Kind]
Set-Location -LiteralPath 'C:\hgdev\src'
Invoke-Native -Path (Find-NewestPython) -Arguments @('contrib\packaging\packaging.py', $Kind,
  '--pyoxidizer-target', $target, '--version', $Version)
Move-Item -Path $files -Destination $OutDir
