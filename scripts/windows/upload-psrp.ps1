param(
  [string]$Path,
  [string]$Part,
  [long]$Size,
  [string]$Sha256,
  [bool]$First,
  [bool]$Last,
  [bool]$Overwrite
)
$ErrorActionPreference = 'Stop'
$full = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
$temp = $full + $Part
if ((Test-Path -LiteralPath $full) -and -not $Overwrite) { throw "$full exists" }
$mode = [IO.FileMode]::Append
if ($First) { $mode = [IO.FileMode]::Create }
$good = $false
try {
  $file = New-Object IO.FileStream($temp, $mode, [IO.FileAccess]::Write, [IO.FileShare]::None)
  try {
    foreach ($block in $input) {
      $bytes = [Convert]::FromBase64String($block)
      $file.Write($bytes, 0, $bytes.Length)
    }
    $file.Flush($true)
  }
  finally {
    $file.Close()
  }
  if ($Last) {
    $length = (Get-Item -LiteralPath $temp).Length
    if ($length -ne $Size) { throw "size of $temp is $length, not $Size" }
    $sum = (Get-FileHash -LiteralPath $temp -Algorithm SHA256).Hash
    if ($sum -ne $Sha256) { throw "content of $temp is not what was sent" }
    Move-Item -LiteralPath $temp -Destination $full -Force
    New-Object PSObject -Property @{ Size = $length; Sha256 = $sum.ToLowerInvariant() }
  }
  $good = $true
}
finally {
  if (-not $good) { Remove-Item -LiteralPath $temp -Force -ErrorAction SilentlyContinue }
}
