param(
  [string]$Patch
)
$ErrorActionPreference = 'Stop'
try { Invoke-Hg -Arguments @('import', '--no-commit', '-q', $Patch) }
finally { Remove-Item -LiteralPath $Patch -Force -ErrorAction SilentlyContinue }
