param(
  [string]$OutDir
)
$ErrorActionPreference = 'Stop'
foreach ($file in Get-ChildItem -LiteralPath $OutDir -File) {
  $sum = (Get-FileHash -LiteralPath $file.FullName -Algorithm SHA256).Hash.ToLowerInvariant()
  New-Object PSObject -Property @{ Name = $file.Name; Size = $file.Length; Sha256 = $sum }
}
