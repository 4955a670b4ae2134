param(
  [string]$Path
)
$ErrorActionPreference = 'Stop'
if (Test-Path -LiteralPath $Path) { Remove-Item -LiteralPath $Path -Recurse -Force }
