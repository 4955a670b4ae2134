--- Runs Mercurial's test suite on temporary Windows machines.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"
local winbuild = require "hg.winbuild"

return hg.task {
  help = "Run Mercurial's test suite on temporary Windows machines.",
  description = "Words after -- and test flags go to run-tests.py. Results land below"
    .. " --results-path.",
  aliases = { "test-windows" },
  args = tasks.join({
    arg.string { name = "test-flags", metavar = "WORDS",
      help = "tests and flags for run-tests.py, split as a shell does" },
    arg.string { name = "python-version", default = "3.13", metavar = "X.Y",
      help = "Python of the image" },
    arg.enum { name = "arch", "x86", "x64", default = "x64", help = "CPU architecture" },
    arg.flag { name = "known-bad", default = true,
      help = "leave out tests that are known to hang on Windows" },
  }, tasks.test_args(), winbuild.machine_args(), tasks.source_args()),
  needs = winbuild.needs,
  example = "hgauto run-tests-windows --python-version 3.12 --shards 4 -- --slow",
  run = function(ctx, args)
    args.test_flags = args.test_flags and hg.sh.words(args.test_flags) or {}
    return require("hg.testrun").run(ctx, args, require "hg.wintestrun")
  end,
}
