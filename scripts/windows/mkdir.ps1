param(
  [string]$Path
)
$ErrorActionPreference = 'Stop'
$null = New-Item -ItemType Directory -Force -Path $Path
