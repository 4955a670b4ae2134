param(
  [string]$Id,
  [string]$Python,
  [string]$Arch,
  [string]$OutDir,
  [string]$Epoch
)
$ErrorActionPreference = 'Stop'
Enter-Job -Id $Id
New-Place -Path $OutDir
Set-Location -LiteralPath 'C:\hgdev\src'
$env:SOURCE_DATE_EPOCH = $Epoch
$env:MERCURIAL_SETUP_FORCE_TRANSLATIONS = '1'
Invoke-Native -Path (Find-Python -Version $Python -Arch $Arch) -Arguments @('-m', 'pip', 'wheel',
  '--no-deps', '--no-cache-dir', '--wheel-dir', $OutDir, '.')
