param(
  [string]$Id
)
$ErrorActionPreference = 'Stop'
$mark = "C:\ProgramData\hgauto\run\$Id"
if (Test-Path -LiteralPath $mark) {
  $number = [IO.File]::ReadAllText($mark)
  Invoke-Native -Path "$env:SystemRoot\System32\taskkill.exe" -Arguments @('/T', '/F', '/PID', $number) `
    -Ok 0, 128
  Remove-Item -LiteralPath $mark -Force
}
