-- Command lines of the predecessor parse to its values; what cannot work any
-- more is refused with what to use instead.
local t = require "hg.tap"
local hg = require "hg"
local options = require "hg.cli.options"
local spec = require "hg.spec"
local tasks = require "hg.cli.tasks"

local function parse(line)
  local words = hg.sh.words(line)
  local early, at = spec.parse("hgauto", options.global, words, { stop_at_word = true })
  local task, name = tasks.load_builtin(words[at])
  assert(task, words[at])
  local values = spec.parse(name, options.join(task.args or {}, options.global, options.run), words,
    { from = at + 1 })
  return values, early, name
end

-- line -> option = value
local LINES = {
  { "bootstrap-linux-dev" },
  { "bootstrap-linux-dev --distros debian12", distros = { "debian12" } },
  { "bootstrap-linux-dev --distros debian12,debian13", distros = { "debian12", "debian13" } },
  { "bootstrap-linux-dev --parallel", parallel = true },
  { "--aws-region us-east-1 bootstrap-linux-dev", early = { region = "us-east-1" } },
  { "--state-path /tmp/x terminate-ec2-instances", early = { state_path = "/tmp/x" } },
  { "terminate-ec2-instances" }, { "purge-ec2-resources" },
  { "--state-path /tmp/x --aws-region eu-west-1 purge-ec2-resources",
    early = { state_path = "/tmp/x", region = "eu-west-1" } },
  { "run-tests-linux", distro = "debian13", filesystem = "default", python_version = "system3",
    instance_type = "c5.9xlarge" },
  { "run-tests-linux --distro debian12", distro = "debian12" },
  { "run-tests-linux --filesystem btrfs", filesystem = "btrfs" },
  { "run-tests-linux --filesystem ext3", filesystem = "ext3" },
  { "run-tests-linux --filesystem ext4", filesystem = "ext4" },
  { "run-tests-linux --filesystem jfs", filesystem = "jfs" },
  { "run-tests-linux --filesystem tmpfs", filesystem = "tmpfs" },
  { "run-tests-linux --filesystem xfs", filesystem = "xfs" },
  { "run-tests-linux --filesystem default", filesystem = "default" },
  { "run-tests-linux --instance-type c5.large", instance_type = "c5.large" },
  { "run-tests-linux --python-version system3", python_version = "system3" },
  { "run-tests-linux --python-version 3.8", python_version = "3.8" },
  { "run-tests-linux test-add.t", test_flags = { "test-add.t" } },
  { "run-tests-linux test-add.t test-hg.t", test_flags = { "test-add.t", "test-hg.t" } },
  { "run-tests-linux -- --rebase test-add.t", rest = { "--rebase", "test-add.t" } },
  { "run-tests-linux --distro debian12 -- -j 36 test-add.t", distro = "debian12",
    rest = { "-j", "36", "test-add.t" } },
  { "run_tests_linux --filesystem tmpfs", filesystem = "tmpfs" },
  { "build-inno", arch = { "x64" } }, { "build-inno --arch x86", arch = { "x86" } },
  { "build-inno --arch x86 x64 --revision stable", arch = { "x86", "x64" }, revision = "stable" },
  { "build-inno --version 7.0.1 --base-image-name foo", version = "7.0.1",
    base_image_name = "foo" },
  { "build-wix --arch x64 --version 7.0", arch = { "x64" }, version = "7.0" },
  { "build-windows-wheel --python-version 3.8 3.9 --arch x86 x64",
    python_version = { "3.8", "3.9" }, arch = { "x86", "x64" } },
  { "build-windows-wheel --revision 7.0", revision = "7.0", python_version = { "3.13" } },
  { "run-tests-windows --test-flags '-j 4 test-add.t' --python-version 3.9",
    test_flags = "-j 4 test-add.t", python_version = "3.9" },
  { "run-tests-windows --test-flags='--slow'", test_flags = "--slow" },
  { "build-all-windows-packages --version 7.0 --revision stable", version = "7.0",
    revision = "stable" },
  { "try", revision = "." }, { "try -r tip", revision = "tip" },
  { "try --rev 12", revision = "12" },
  { "try --revision .^", revision = ".^" },
}

t.test("old command lines", function()
  for _, case in ipairs(LINES) do
    local ok, values, early = pcall(parse, case[1])
    if t.ok(ok, case[1]) then
      for key, want in pairs(case) do
        if key == "early" then
          for name, v in pairs(want) do
            t.is(early[name], v, ("%s: %s"):format(case[1], name))
          end
        elseif key ~= 1 then
          t.is(values[key], want, ("%s: %s"):format(case[1], key))
        end
      end
    else
      t.diag(tostring(values))
    end
  end
end)

t.test("what is gone says what to use", function()
  for _, name in ipairs { "debian9", "debian10", "ubuntu18.04", "ubuntu19.04" } do
    t.raises(function()
      hg.images.unknown(name)
    end, { kind = "usage", match = name:gsub("%p", "%%%0")
      .. ": its base image no longer exists; use debian13" }, name)
  end
end)

t.test("a base image that cannot be is refused before anything else", function()
  for name, why in pairs { debian10 = "no longer exists; use debian13",
    windows2022 = "windows2022 is no Linux", debain13 = "did you mean debian13" } do
    t.raises(function()
      hg.images.check_linux { "debian13", name }
    end, { kind = "usage", match = why }, name)
    for _, line in ipairs { "build-linux --distro", "run-tests-linux --distro",
      "bootstrap-linux-dev --distros" } do
      local task = tasks.find(line:match("^%S+"))
      local args = { distro = line:find("^build") and { name } or name, distros = { name },
        kind = {}, shards = 1, python_version = "system3" }
      t.raises(function()
        task.run({ step = function() error("it goes on") end }, args)
      end, { kind = "usage", match = why }, ("%s %s"):format(line, name))
    end
  end
end)

t.test("aliases", function()
  for alias, name in pairs { ["test-linux"] = "run-tests-linux",
    terminate = "terminate-ec2-instances",
    ["bootstrap-linux"] = "bootstrap-linux-dev" } do
    t.is(select(2, tasks.load_builtin(alias)), name, alias)
  end
end)

return t.done()
