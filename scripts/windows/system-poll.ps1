param(
  [string]$Id,
  [long]$Offset
)
$ErrorActionPreference = 'Stop'
$place = "C:\ProgramData\hgauto\system\$Id"
# The end is looked for first: what was written before it is then read below.
$end = ''
if (Test-Path -LiteralPath "$place\exit.json") { $end = [IO.File]::ReadAllText("$place\exit.json") }
$text = ''
$next = $Offset
if (Test-Path -LiteralPath "$place\out.txt") {
  $share = [IO.FileShare]::ReadWrite
  $file = New-Object IO.FileStream("$place\out.txt", [IO.FileMode]::Open, [IO.FileAccess]::Read,
    $share)
  try {
    $null = $file.Seek($Offset, [IO.SeekOrigin]::Begin)
    $bytes = New-Object byte[] 65536
    $count = $file.Read($bytes, 0, $bytes.Length)
    $next = $Offset + $count
    $text = [Convert]::ToBase64String($bytes, 0, $count)
  }
  finally {
    $file.Close()
  }
}
New-Object PSObject -Property @{ Text = $text; Next = $next; End = $end }
