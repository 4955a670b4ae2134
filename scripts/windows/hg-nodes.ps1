param(
  [string]$Revset
)
$ErrorActionPreference = 'Stop'
Invoke-Hg -Arguments @('log', '-r', $Revset, '-T', '{node}\n')
