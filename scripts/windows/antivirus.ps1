param(
  [bool]$On
)
$ErrorActionPreference = 'Stop'
if (Get-Command -Name Set-MpPreference -ErrorAction SilentlyContinue) {
  Set-MpPreference -DisableRealtimeMonitoring (-not $On)
}
