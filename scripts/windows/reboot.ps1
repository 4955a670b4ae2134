param(
  [int]$Delay
)
$ErrorActionPreference = 'Stop'
# 1115 and 1190: a shutdown is under way already.
Invoke-Native -Path "$env:SystemRoot\System32\shutdown.exe" `
  -Arguments @('/r', '/t', [string]$Delay, '/d', 'p:4:1') -Ok 0, 1115, 1190
