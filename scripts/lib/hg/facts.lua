--- What the tasks know about the world: names, owners, patterns, package sets.
-- Everything that changes with a release of somebody else stands here only.

local M = {}

--- Base images by short name.
-- owner and pattern are for DescribeImages; strict is a Lua pattern that the
-- name must match too; suite is Debian's name of the release.
M.images = {
  debian13 = {
    owner = "136693071363", pattern = "debian-13-amd64-*",
    strict = "^debian%-13%-amd64%-%d+%-%d+$", ssm = "/aws/service/debian/release/13/latest/amd64",
    user = "admin", os = "linux", suite = "trixie", release = "Debian 13", python = "3.13",
  },
  debian12 = {
    owner = "136693071363", pattern = "debian-12-amd64-*",
    strict = "^debian%-12%-amd64%-%d+%-%d+$", ssm = "/aws/service/debian/release/12/latest/amd64",
    user = "admin", os = "linux", suite = "bookworm", release = "Debian 12", python = "3.11",
  },
  ["ubuntu24.04"] = {
    owner = "099720109477",
    pattern = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*",
    strict = "^ubuntu/images/hvm%-ssd%-gp3/ubuntu%-noble%-24%.04%-amd64%-server%-%d+$",
    ssm = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
    user = "ubuntu", os = "linux", release = "Ubuntu 24.04", codename = "noble", python = "3.12",
  },
}

for _, year in ipairs { "2019", "2022", "2025" } do
  M.images["windows" .. year] = {
    owner = "801119661308", pattern = ("Windows_Server-%s-English-Full-Base-*"):format(year),
    strict = ("^Windows_Server%%-%s%%-English%%-Full%%-Base%%-[%%d.]+$"):format(year),
    ssm = ("/aws/service/ami-windows-latest/Windows_Server-%s-English-Full-Base"):format(year),
    user = "Administrator", os = "windows", release = "Windows Server " .. year,
  }
end

--- The base image of Windows tasks unless told otherwise.
M.default_windows = "windows2022"

--- The base image of Linux tasks unless told otherwise.
M.default_image = "debian13"

--- Base images that no longer exist anywhere.
M.gone = { debian9 = true, debian10 = true, ["ubuntu18.04"] = true, ["ubuntu19.04"] = true }

--- Debian packages by purpose; installed without recommended ones.
M.packages = {
  build = {
    "mercurial", "gcc", "libc6-dev", "make", "gettext", "python3-dev", "python3-venv",
    "python3-pip", "python3-build", "python3-setuptools", "python3-setuptools-scm",
    "python3-wheel", "python3-packaging", "python3-docutils", "python3-roman",
  },
  deb = {
    "build-essential", "debhelper", "dh-python", "fakeroot", "pybuild-plugin-pyproject",
    "python3-all-dev",
  },
  test = {
    "bash-completion", "bc", "e2fsprogs", "btrfs-progs", "xfsprogs", "jfsutils", "less", "netbase",
    "patchutils", "python3-pygments", "rename", "rsync", "unzip", "zip",
  },
  extras = {
    "git", "subversion", "python3-subversion", "cvs", "brz", "gnupg", "sqlite3", "clang-format",
    "pyflakes3", "pylint", "python3-vcr", "python3-fuzzywuzzy", "python3-hypothesis",
  },
}

--- File systems that tests can run on.
M.filesystems = { "btrfs", "default", "ext3", "ext4", "jfs", "tmpfs", "xfs" }

--- The package that makes a file system.
M.mkfs = { btrfs = "btrfs-progs", ext3 = "e2fsprogs", ext4 = "e2fsprogs", jfs = "jfsutils",
  xfs = "xfsprogs" }

--- The volume that such a file system is made on.
M.test_volume = { device = "/dev/sdf", size_gb = 8 }

--- File names of artifacts by kind; the capture is the version.
M.artifacts = {
  wheel = "^mercurial%-([%w.+!_]+)%-cp%d+%-cp%d+%-%w*linux_[%d_]*x86_64%.whl$",
  sdist = "^mercurial%-([%w.+!_]+)%.tar%.gz$",
  deb = "^mercurial_([%w.+~]+)_%w+%.deb$",
}

--- File names of what Windows machines build: by kind, made from the build's values.
-- The capture is the version.
M.windows_artifacts = {
  wheel = "^mercurial%-([%w.+!_]+)%-cp%d+%-cp%d+%-win[%w_]*%.whl$",
  inno = "^Mercurial%-([%w.+_]+)%-x%d+%.exe$",
  wix = "^mercurial%-([%w.+_]+)%-x%d+%.msi$",
}

--- Pythons that Windows wheels are published for.
M.windows_pythons = { "3.9", "3.10", "3.11", "3.12", "3.13" }

--- Where releases for Windows are published: on the web server, and for the world.
M.release = { host = "mercurial-scm.org", directory = "/var/www/release/windows",
  address = "https://mercurial-scm.org/release/windows/" }

--- What Windows machines get from Windows Update: words separated by blanks.
M.windows_features = { sshd = "OpenSSH.Server~~~~0.0.1.0", features = "Net-Framework-Core" }

--- Tests that hang on Windows.
M.windows_hanging_tests = { "test-clonebundles-autogen.t" }

--- Answers with the caller's public address as text.
M.address_service = "https://checkip.amazonaws.com/"

return M
