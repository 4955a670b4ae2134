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
}

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
}

--- File names of artifacts by kind; the capture is the version.
M.artifacts = {
  wheel = "^mercurial%-([%w.+!_]+)%-cp%d+%-cp%d+%-linux_x86_64%.whl$",
  sdist = "^mercurial%-([%w.+!_]+)%.tar%.gz$",
}

--- Answers with the caller's public address as text.
M.address_service = "https://checkip.amazonaws.com/"

return M
