param(
  [string]$Id,
  [string]$Script
)
$ErrorActionPreference = 'Stop'
Enter-Job -Id $Id
Set-Location -LiteralPath (Split-Path -Path $Script -Parent)
Invoke-Native -Path "$env:SystemRoot\System32\WindowsPowerShell\v1.0\powershell.exe" `
  -Arguments @('-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-File', $Script)
