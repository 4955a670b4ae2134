param(
  [string]$Id
)
$ErrorActionPreference = 'Stop'
$place = "C:\ProgramData\hgauto\system\$Id"
Unregister-ScheduledTask -TaskName "hgauto-$Id" -Confirm:$false -ErrorAction SilentlyContinue
if (Test-Path -LiteralPath "$place\pid") {
  $number = [IO.File]::ReadAllText("$place\pid")
  Invoke-Native -Path "$env:SystemRoot\System32\taskkill.exe" -Arguments @('/T', '/F', '/PID', $number) `
    -Ok 0, 128, 255 | Out-Null
}
if (Test-Path -LiteralPath $place) { Remove-Item -LiteralPath $place -Recurse -Force }
