param(
  [string]$Root
)
$ErrorActionPreference = 'Stop'
$system = Get-CimInstance -ClassName Win32_OperatingSystem
$pythons = @(Get-ChildItem -Path "$Root\python*-x*\python.exe" -ErrorAction SilentlyContinue |
    ForEach-Object -Process { $_.Directory.Name })
New-Object PSObject -Property @{
  Build = $system.BuildNumber
  Caption = $system.Caption
  Version = [string]$PSVersionTable.PSVersion
  Boot = $system.LastBootUpTime.ToUniversalTime().ToString('o')
  Processors = [int]$env:NUMBER_OF_PROCESSORS
  Pythons = [string]::Join(' ', $pythons)
}
