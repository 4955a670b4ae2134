param(
)
$ErrorActionPreference = 'Stop'
$place = $PSScriptRoot
[IO.File]::WriteAllText("$place\pid", [string]$PID)
$exit = 1
$why = ''
try {
  $values = Import-Clixml -LiteralPath "$place\values.xml"
  Remove-Item -LiteralPath "$place\values.xml" -Force
  . "$place\lib.ps1"
  & "$place\script.ps1" @values 2>&1 |
    Out-File -LiteralPath "$place\out.txt" -Encoding UTF8 -Width 400
  $exit = 0
}
catch {
  $why = [string]$_
}
$text = ConvertTo-Json -Compress @{ exit = $exit; why = $why }
[IO.File]::WriteAllText("$place\exit.part", $text)
Move-Item -LiteralPath "$place\exit.part" -Destination "$place\exit.json" -Force
