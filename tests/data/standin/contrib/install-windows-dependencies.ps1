# The stand-in of what prepares Windows machines: it names Pythons and clones.
$ErrorActionPreference = "Stop"
$prefix = "c:\hgdev"

function Install-Python3($dest) {
    Write-Output "installing into $dest"
}

function Clone-Mercurial-Repo($repo, $dest) {
    Write-Output "cloning $repo to $dest"
}

Install-Python3 "${prefix}\python312-x86"
Install-Python3 "${prefix}\python312-x64"
Install-Python3 "${prefix}\python313-x86"
Install-Python3 "${prefix}\python313-x64"

Clone-Mercurial-Repo "http://127.0.0.1:9/nowhere" "${prefix}\src"
