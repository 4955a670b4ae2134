param(
)
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$temp = $null
$good = $false
try {
  $full = [IO.Path]::GetFullPath($env:HGA_PATH)
  if ((Test-Path -LiteralPath $full) -and $env:HGA_OVERWRITE -ne '1') { throw "$full exists" }
  $temp = $full + $env:HGA_PART
  $source = [Console]::OpenStandardInput()
  $mode = [IO.FileMode]::Create
  $file = New-Object IO.FileStream($temp, $mode, [IO.FileAccess]::Write, [IO.FileShare]::None)
  $hash = [Security.Cryptography.SHA256]::Create()
  $total = [long]0
  try {
    $bytes = New-Object byte[] 131072
    while (($count = $source.Read($bytes, 0, $bytes.Length)) -gt 0) {
      $null = $hash.TransformBlock($bytes, 0, $count, $bytes, 0)
      $file.Write($bytes, 0, $count)
      $total += $count
    }
    $null = $hash.TransformFinalBlock($bytes, 0, 0)
    $file.Flush($true)
  }
  finally {
    $file.Close()
  }
  if ($total -ne [long]$env:HGA_SIZE) { throw "size of $temp is $total, not $env:HGA_SIZE" }
  $sum = [BitConverter]::ToString($hash.Hash).Replace('-', '').ToLowerInvariant()
  if ($sum -ne $env:HGA_SHA256) { throw "content of $temp is not what was sent" }
  Move-Item -LiteralPath $temp -Destination $full -Force
  [Console]::Out.WriteLine("$total $sum")
  $good = $true
}
catch {
  [Console]::Error.WriteLine($_.Exception.Message)
}
finally {
  if (-not $good -and $temp) {
    Remove-Item -LiteralPath $temp -Force -ErrorAction SilentlyContinue
  }
}
if (-not $good) { exit 1 }
