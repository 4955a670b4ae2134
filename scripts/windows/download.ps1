param(
  [string]$Path,
  [int]$Block
)
$ErrorActionPreference = 'Stop'
$full = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
$share = [IO.FileShare]::ReadWrite
$file = New-Object IO.FileStream($full, [IO.FileMode]::Open, [IO.FileAccess]::Read, $share)
$hash = [Security.Cryptography.SHA256]::Create()
$total = [long]0
try {
  $bytes = New-Object byte[] $Block
  while (($count = $file.Read($bytes, 0, $bytes.Length)) -gt 0) {
    $null = $hash.TransformBlock($bytes, 0, $count, $bytes, 0)
    $total += $count
    [Convert]::ToBase64String($bytes, 0, $count)
  }
  $null = $hash.TransformFinalBlock($bytes, 0, 0)
}
finally {
  $file.Close()
}
$sum = [BitConverter]::ToString($hash.Hash).Replace('-', '').ToLowerInvariant()
New-Object PSObject -Property @{ Size = $total; Sha256 = $sum }
