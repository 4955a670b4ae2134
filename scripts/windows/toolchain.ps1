param(
  [string]$Root,
  [string]$Pythons
)
$ErrorActionPreference = 'Stop'
foreach ($name in $Pythons -split ' ') {
  if ($name -and -not (Test-Path -LiteralPath "$Root\$name\python.exe")) {
    Write-Output "$Root\$name\python.exe"
  }
}
$hg = 'C:\Program Files\Mercurial\hg.exe', "$Root\venv-bootstrap\Scripts\hg.exe"
if (-not ($hg | Where-Object -FilterScript { Test-Path -LiteralPath $_ })) { Write-Output 'hg.exe' }
foreach ($path in "$Root\MinGW\msys\1.0\bin\sh.exe", "$Root\rustup", "$Root\cargo",
  'C:\Program Files (x86)\Inno Setup 5\ISCC.exe') {
  if (-not (Test-Path -LiteralPath $path)) { Write-Output $path }
}
foreach ($program in 'pyoxidizer.exe', 'msgfmt.exe') {
  if (-not (Get-Command -Name $program -CommandType Application -ErrorAction SilentlyContinue)) {
    Write-Output "$program on PATH"
  }
}
