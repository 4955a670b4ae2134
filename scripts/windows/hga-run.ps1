param(
  [string]$HgaScript,
  [string]$HgaLibrary,
  [object]$HgaParams,
  [object]$HgaArgs,
  [object]$HgaEnv,
  [string]$HgaDirectory,
  [string]$HgaErrors,
  [string]$HgaScope,
  [bool]$HgaProgress,
  [bool]$HgaInput,
  [bool]$HgaFirst,
  [string]$HgaToken
)
if ($HgaFirst) {
  try { $null = & "$env:SystemRoot\System32\chcp.com" 65001 } catch { $null = $_ }
}
$hgaSaved = @{}
$hgaPlace = Get-Location
$hgaDone = $false
try {
  if ($HgaEnv) {
    foreach ($hgaName in $HgaEnv.Keys) {
      $hgaSaved[$hgaName] = [Environment]::GetEnvironmentVariable($hgaName, 'Process')
      [Environment]::SetEnvironmentVariable($hgaName, [string]$HgaEnv[$hgaName], 'Process')
    }
  }
  if ($HgaDirectory) { Set-Location -LiteralPath $HgaDirectory -ErrorAction Stop }
  if (-not $HgaProgress) { $ProgressPreference = 'SilentlyContinue' }
  $ErrorActionPreference = 'Continue'
  if ($HgaErrors -eq 'stop') { $ErrorActionPreference = 'Stop' }
  $global:LASTEXITCODE = 0
  if ($HgaLibrary) { . ([ScriptBlock]::Create($HgaLibrary)) }
  $hgaBlock = [ScriptBlock]::Create($HgaScript)
  $hgaSplat = @{}
  if ($HgaParams) { $hgaSplat = $HgaParams }
  $hgaList = @()
  if ($HgaArgs) { $hgaList = @($HgaArgs) }
  if ($HgaInput) {
    if ($HgaScope -eq 'session') { $input | . $hgaBlock @hgaSplat @hgaList }
    else { $input | & $hgaBlock @hgaSplat @hgaList }
  }
  elseif ($HgaScope -eq 'session') { . $hgaBlock @hgaSplat @hgaList }
  else { & $hgaBlock @hgaSplat @hgaList }
  $hgaDone = $true
}
finally {
  foreach ($hgaName in $hgaSaved.Keys) {
    [Environment]::SetEnvironmentVariable($hgaName, $hgaSaved[$hgaName], 'Process')
  }
  Set-Location -LiteralPath $hgaPlace.Path
}
if ($hgaDone) {
  New-Object PSObject -Property @{ HgaToken = $HgaToken; ExitCode = $global:LASTEXITCODE }
}
