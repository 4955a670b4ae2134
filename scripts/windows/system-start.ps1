param(
  [string]$Id,
  [string]$Script,
  [string]$Library,
  [string]$Wrapper,
  [object]$Values
)
$ErrorActionPreference = 'Stop'
$place = "C:\ProgramData\hgauto\system\$Id"
$null = New-Item -ItemType Directory -Force -Path $place
# The parameters may hold secrets: nobody else reads them, not even for a moment.
Invoke-Native -Path "$env:SystemRoot\System32\icacls.exe" -Arguments @($place, '/inheritance:r',
  '/grant', '*S-1-5-32-544:(OI)(CI)F', '*S-1-5-18:(OI)(CI)F') | Out-Null
[IO.File]::WriteAllText("$place\run.ps1", $Wrapper)
[IO.File]::WriteAllText("$place\script.ps1", $Script)
[IO.File]::WriteAllText("$place\lib.ps1", $Library)
if (-not $Values) { $Values = @{} }
Export-Clixml -InputObject $Values -LiteralPath "$place\values.xml" -Depth 4
$shell = "$env:SystemRoot\System32\WindowsPowerShell\v1.0\powershell.exe"
$words = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File $place\run.ps1"
$action = New-ScheduledTaskAction -Execute $shell -Argument $words
$null = Register-ScheduledTask -TaskName "hgauto-$Id" -Action $action -User 'SYSTEM' `
  -RunLevel Highest -Force
Start-ScheduledTask -TaskName "hgauto-$Id"
