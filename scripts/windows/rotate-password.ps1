param(
  [string]$Password
)
$ErrorActionPreference = 'Stop'
$secure = ConvertTo-SecureString -String $Password -AsPlainText -Force
Set-LocalUser -Name 'Administrator' -Password $secure
