param(
  [string]$Path
)
$ErrorActionPreference = 'Stop'
Invoke-Native -Path (Find-Hg) -Arguments @('-R', $Path, '--config', 'extensions.purge=', 'purge',
  '--all')
