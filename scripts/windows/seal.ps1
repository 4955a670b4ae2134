param(
)
$ErrorActionPreference = 'Stop'
# First what can fail: the agent shall run user data again on every launch.
$old = 'C:\ProgramData\Amazon\EC2-Windows\Launch'
$new = 'C:\Program Files\Amazon\EC2Launch\EC2Launch.exe'
if (Test-Path -LiteralPath $new) {
  Invoke-Native -Path $new -Arguments @('reset', '--clean')
}
elseif (Test-Path -LiteralPath "$old\Scripts\InitializeInstance.ps1") {
  $file = "$old\Config\LaunchConfig.json"
  $config = [IO.File]::ReadAllText($file) | ConvertFrom-Json
  $config.handleUserData = $true
  $config.adminPasswordType = 'Random'
  [IO.File]::WriteAllText($file, (ConvertTo-Json -InputObject $config))
  & "$old\Scripts\InitializeInstance.ps1" -Schedule
}
else {
  throw 'this machine has no launch agent of EC2: an image of it would not run user data'
}
Unregister-ScheduledTask -TaskName 'hgauto-end' -Confirm:$false -ErrorAction SilentlyContinue
# What is of this machine alone; nothing of it may be in the image.
foreach ($path in 'C:\ProgramData\ssh\administrators_authorized_keys',
  'C:\ProgramData\ssh\ssh_host_*', 'C:\ProgramData\hgauto\*.json', 'C:\ProgramData\hgauto\*.error',
  'C:\ProgramData\hgauto\run', 'C:\hgwork', 'C:\hgdev\bootstrap',
  "$env:APPDATA\Microsoft\Windows\PowerShell\PSReadLine\*",
  'C:\Users\Administrator\AppData\Roaming\Microsoft\Windows\PowerShell\PSReadLine\*',
  'C:\ProgramData\Amazon\EC2Launch\log\*', "$old\Log\*") {
  Remove-Item -Path $path -Recurse -Force -ErrorAction SilentlyContinue
}
# From here on nobody can log in any more.
Get-ChildItem -Path 'WSMan:\localhost\Listener' | Remove-Item -Recurse -Force
Get-ChildItem -Path 'Cert:\LocalMachine\My' |
  Where-Object -FilterScript { $_.Subject -eq 'CN=hgauto' } | Remove-Item -DeleteKey -Force
Invoke-Native -Path "$env:SystemRoot\System32\shutdown.exe" -Arguments @('/s', '/f', '/t', '5')
Start-Process -FilePath "$env:SystemRoot\System32\cmd.exe" -WindowStyle Hidden `
  -ArgumentList '/c', 'ping -n 3 127.0.0.1 >nul & rmdir /s /q C:\ProgramData\hgauto'
