param(
  [string]$Path
)
$ErrorActionPreference = 'Stop'
Test-Path -LiteralPath $Path
