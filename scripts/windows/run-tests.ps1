param(
  [string]$Id,
  [string]$Python,
  [string]$Arch,
  [string]$Wheel,
  [string]$Out,
  [string[]]$Flags
)
$ErrorActionPreference = 'Stop'
Enter-Job -Id $Id
$null = New-Item -ItemType Directory -Force -Path $Out
$sh = 'C:\hgdev\MinGW\msys\1.0\bin\sh.exe'
if (-not (Test-Path -LiteralPath $sh)) { throw "this machine has no MSYS ($sh)" }
# Constant text in a file: 5.1 garbles quotation marks in the arguments of programs.
$lines = 'cd "$1" || exit 254', 'shift', 'exec "$@"', ''
[IO.File]::WriteAllText("$Out\run-tests.sh", [string]::Join("`n", $lines))
$env:HGTESTS_ALLOW_NETIO = '0'
$env:PIP_NO_INDEX = '1'
$env:PIP_DISABLE_PIP_VERSION_CHECK = '1'
$words = @('--login', "$Out\run-tests.sh", 'C:\hgdev\src\tests',
  (Find-Python -Version $Python -Arch $Arch), 'run-tests.py', '--hg-wheel', $Wheel, '--json',
  '--xunit', "$Out\xunit.xml", '--outputdir', $Out) + @($Flags | Where-Object -FilterScript { $_ })
Invoke-Native -Path $sh -Arguments $words -Ok (0..255)
New-Object PSObject -Property @{ Code = $global:HgaCode }
