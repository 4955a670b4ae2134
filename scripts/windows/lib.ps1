function Invoke-Native {
  param(
    [string]$Path,
    [string[]]$Arguments,
    [int[]]$Ok = @(0)
  )
  foreach ($word in $Arguments) {
    if ($word.Contains('"')) { throw "an argument of $Path contains a quotation mark" }
  }
  $ErrorActionPreference = 'Continue'
  & $Path @Arguments
  $code = $global:LASTEXITCODE
  $global:HgaCode = $code
  $global:LASTEXITCODE = 0
  if ($Ok -notcontains $code) { throw "$Path exited with code $code" }
}
function Find-Hg {
  foreach ($path in 'C:\Program Files\Mercurial\hg.exe', 'C:\hgdev\venv-bootstrap\Scripts\hg.exe') {
    if (Test-Path -LiteralPath $path) { return $path }
  }
  throw 'this machine has no Mercurial (no hg.exe); prepare an image with bootstrap-windows-dev'
}
function Invoke-Hg {
  param(
    [string[]]$Arguments,
    [int[]]$Ok = @(0)
  )
  $env:HGPLAIN = '1'
  $env:HGRCPATH = ''
  Invoke-Native -Path (Find-Hg) -Arguments (@('-R', 'C:\hgdev\src') + $Arguments) -Ok $Ok
}
function Enter-Job {
  param(
    [string]$Id
  )
  $place = 'C:\ProgramData\hgauto\run'
  $null = New-Item -ItemType Directory -Force -Path $place
  [IO.File]::WriteAllText("$place\$Id", [string]$PID)
}
function New-Place {
  param(
    [string]$Path
  )
  if (Test-Path -LiteralPath $Path) { Remove-Item -LiteralPath $Path -Recurse -Force }
  $null = New-Item -ItemType Directory -Force -Path $Path
}
function Find-Python {
  param(
    [string]$Version,
    [string]$Arch
  )
  $path = 'C:\hgdev\python' + $Version.Replace('.', '') + '-' + $Arch + '\python.exe'
  if (Test-Path -LiteralPath $path) { return $path }
  throw "this machine has no Python $Version for $Arch ($path)"
}
function Find-NewestPython {
  $best = Get-ChildItem -Path 'C:\hgdev' -Filter 'python*-x64' |
    Sort-Object -Property { [int]($_.Name -replace '\D+(\d+)-x64', '$1') } | Select-Object -Last 1
  if (-not $best) { throw 'this machine has no Python for x64 below C:\hgdev' }
  Join-Path -Path $best.FullName -ChildPath 'python.exe'
}
