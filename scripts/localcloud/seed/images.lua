-- Public images of the local cloud.  base names the root file system that
-- stands behind the image; release is what the image's name promises, so that
-- a stand-in can be told from the real thing.

local DEBIAN, CANONICAL, WINDOWS = "136693071363", "099720109477", "801119661308"
local UBUNTU = "ubuntu/images/hvm-ssd/ubuntu-"

return {
  { name = "debian-13-amd64-20250814-2204", owner = DEBIAN, alias = "amazon",
    release = "debian13", base = "debian13", user = "admin", root = "/dev/xvda",
    description = "Debian 13", made = "2025-08-14T22:04:00Z" },
  { name = "debian-12-amd64-20250316-2053", owner = DEBIAN, alias = "amazon",
    release = "debian12", base = "debian12", user = "admin", root = "/dev/xvda",
    description = "Debian 12", made = "2025-03-16T20:53:00Z" },
  { name = UBUNTU .. "jammy-22.04-amd64-server-20250305", owner = CANONICAL, alias = "amazon",
    release = "ubuntu22.04", base = "debian12", user = "ubuntu", root = "/dev/sda1",
    description = "Ubuntu 22.04 LTS", made = "2025-03-05T09:00:00Z" },
  { name = "debian-stretch-hvm-x86_64-gp2-2019-09-08-17994", owner = "379101102735",
    release = "debian9", base = "debian12", user = "admin", root = "xvda",
    description = "Debian 9", made = "2019-09-08T17:00:00Z" },
  { name = "debian-10-amd64-20190909-10", owner = DEBIAN,
    release = "debian10", base = "debian12", user = "admin", root = "xvda",
    description = "Debian 10", made = "2019-09-09T10:00:00Z" },
  { name = UBUNTU .. "bionic-18.04-amd64-server-20190918", owner = CANONICAL, alias = "amazon",
    release = "ubuntu18.04", base = "debian12", user = "ubuntu", root = "/dev/sda1",
    description = "Ubuntu 18.04 LTS", made = "2019-09-18T09:00:00Z" },
  { name = UBUNTU .. "disco-19.04-amd64-server-20190918", owner = CANONICAL, alias = "amazon",
    release = "ubuntu19.04", base = "debian12", user = "ubuntu", root = "/dev/sda1",
    description = "Ubuntu 19.04", made = "2019-09-18T10:00:00Z" },
  { name = "Windows_Server-2019-English-Full-Base-2025.03.12", owner = WINDOWS, alias = "amazon",
    release = "windows2019", user = "Administrator", root = "/dev/sda1", platform = "windows",
    description = "Microsoft Windows Server 2019 with Desktop Experience", size = 30,
    made = "2025-03-12T08:00:00Z" },
  { name = "Windows_Server-2022-English-Full-Base-2025.03.12", owner = WINDOWS, alias = "amazon",
    release = "windows2022", user = "Administrator", root = "/dev/sda1", platform = "windows",
    description = "Microsoft Windows Server 2022 Full Locale English", size = 30,
    made = "2025-03-12T08:10:00Z" },
}
