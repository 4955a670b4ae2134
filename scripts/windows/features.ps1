param(
  [string]$Capabilities,
  [string]$Features
)
$ErrorActionPreference = 'Stop'
function Wait-Done {
  param(
    [string]$Name,
    [scriptblock]$Step
  )
  for ($try = 1; $try -le 3; $try++) {
    try {
      $null = & $Step
      Write-Output "$Name is there"
      return
    }
    catch {
      if ($try -eq 3) { throw "$Name cannot be installed: $_" }
      Write-Output "$Name, attempt $try of 3: $_"
      Start-Sleep -Seconds 20
    }
  }
}
foreach ($name in $Capabilities -split ' ') {
  if ($name) {
    Wait-Done -Name $name -Step { Add-WindowsCapability -Online -Name $name }
  }
}
foreach ($name in $Features -split ' ') {
  if ($name) {
    Wait-Done -Name $name -Step { Install-WindowsFeature -Name $name }
  }
}
