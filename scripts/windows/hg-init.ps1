param(
  [string]$Path
)
$ErrorActionPreference = 'Stop'
if (-not (Test-Path -LiteralPath "$Path\.hg")) {
  Invoke-Native -Path (Find-Hg) -Arguments @('init', $Path)
  [IO.File]::WriteAllText("$Path\.hg\hgrc", "[phases]`npublish = false`n")
}
