param(
  [string]$Password,
  [byte[]]$Pfx,
  [string]$PfxPassword,
  [string]$Token,
  [string]$AuthorizedKeys,
  [string]$HostKey,
  [long]$Expires
)
$ErrorActionPreference = 'Stop'
$place = 'C:\ProgramData\hgauto'
$null = New-Item -ItemType Directory -Force -Path $place
function Write-Ready {
  param(
    [string]$State,
    [string]$Ssh
  )
  $text = ConvertTo-Json -Compress @{ token = $Token; winrm = $State; ssh = $Ssh }
  [IO.File]::WriteAllText("$place\ready.part", $text)
  Move-Item -LiteralPath "$place\ready.part" -Destination "$place\ready.json" -Force
}
function Set-Only {
  param(
    [string]$File
  )
  $null = & icacls.exe $File /inheritance:r /grant '*S-1-5-32-544:F' '*S-1-5-18:F'
}
try {
  # Before anything else: the machine ends itself, whatever becomes of the rest.
  $at = [DateTimeOffset]::FromUnixTimeSeconds($Expires).LocalDateTime
  $soon = (Get-Date).AddMinutes(1)
  if ($at -lt $soon) { $at = $soon }
  $action = New-ScheduledTaskAction -Execute 'shutdown.exe' -Argument '/s /f /t 0'
  $trigger = New-ScheduledTaskTrigger -Once -At $at
  $null = Register-ScheduledTask -TaskName 'hgauto-end' -Action $action -Trigger $trigger `
    -User 'SYSTEM' -RunLevel Highest -Force

  $secure = ConvertTo-SecureString -String $Password -AsPlainText -Force
  Set-LocalUser -Name 'Administrator' -Password $secure -PasswordNeverExpires $true

  Set-Service -Name WinRM -StartupType Automatic
  Start-Service -Name WinRM
  $flags = [Security.Cryptography.X509Certificates.X509KeyStorageFlags]'MachineKeySet, PersistKeySet'
  $cert = New-Object Security.Cryptography.X509Certificates.X509Certificate2
  $cert.Import($Pfx, $PfxPassword, $flags)
  $store = New-Object Security.Cryptography.X509Certificates.X509Store('My', 'LocalMachine')
  $store.Open('ReadWrite')
  $store.Add($cert)
  $store.Close()
  Get-ChildItem -Path 'WSMan:\localhost\Listener' | Remove-Item -Recurse -Force
  $null = New-Item -Path 'WSMan:\localhost\Listener' -Transport HTTPS -Address '*' `
    -HostName 'hgauto' -CertificateThumbPrint $cert.Thumbprint -Force
  $settings = [ordered]@{
    'Service\AllowUnencrypted' = $false
    'Service\Auth\Basic' = $true
    'MaxTimeoutms' = 7200000
    'MaxEnvelopeSizekb' = 4096
    'Service\MaxConcurrentOperationsPerUser' = 12000
    'Shell\MaxMemoryPerShellMB' = 0
    'Plugin\Microsoft.PowerShell\Quotas\MaxMemoryPerShellMB' = 0
  }
  foreach ($name in $settings.Keys) {
    Set-Item -Path "WSMan:\localhost\$name" -Value $settings[$name] -Force
  }
  $policies = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System'
  Set-ItemProperty -Path $policies -Name LocalAccountTokenFilterPolicy -Value 1 -Type DWord

  Get-NetFirewallRule -Direction Inbound -Action Allow -Enabled True |
    Disable-NetFirewallRule
  foreach ($port in 5986, 22) {
    $null = New-NetFirewallRule -Name "hgauto-$port" -DisplayName "hgauto $port" `
      -Direction Inbound -Action Allow -Protocol TCP -LocalPort $port -Profile Any
  }
  Restart-Service -Name WinRM -Force
  Write-Ready -State 'ok' -Ssh 'pending'
}
catch {
  [IO.File]::WriteAllText("$place\arm.error", [string]$_)
  throw
}
$ssh = 'absent'
try {
  if (Get-Service -Name sshd -ErrorAction SilentlyContinue) {
    $dir = 'C:\ProgramData\ssh'
    $null = New-Item -ItemType Directory -Force -Path $dir
    [IO.File]::WriteAllText("$dir\administrators_authorized_keys", $AuthorizedKeys)
    [IO.File]::WriteAllText("$dir\ssh_host_ed25519_key", $HostKey)
    Set-Only -File "$dir\administrators_authorized_keys"
    Set-Only -File "$dir\ssh_host_ed25519_key"
    Set-Service -Name sshd -StartupType Automatic
    Restart-Service -Name sshd -Force
    $ssh = 'ok'
  }
}
catch {
  $ssh = "failed: $_"
}
Write-Ready -State 'ok' -Ssh $ssh
