param(
  [string]$Path
)
$ErrorActionPreference = 'Stop'
if (Test-Path -LiteralPath $Path) { [IO.File]::ReadAllText($Path) }
