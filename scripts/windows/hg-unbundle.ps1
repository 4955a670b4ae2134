param(
  [string]$Node,
  [string]$Bundle
)
$ErrorActionPreference = 'Stop'
if ($Bundle) {
  try { Invoke-Hg -Arguments @('unbundle', '-q', $Bundle) }
  finally { Remove-Item -LiteralPath $Bundle -Force -ErrorAction SilentlyContinue }
}
Invoke-Hg -Arguments @('update', '-q', '-C', $Node)
Invoke-Hg -Arguments @('--config', 'extensions.purge=', 'purge', '--all')
Invoke-Hg -Arguments @('id', '--debug', '-i')
