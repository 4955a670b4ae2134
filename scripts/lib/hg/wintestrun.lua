--- What running the test suite on Windows differs in; the flow is hg.testrun's.
local crypto = require "hgauto.crypto"
local hg = require "hg"
local winbuild = require "hg.winbuild"

local kit = {}

local OUT = "\\tests"

function kit.prepare(_, args, run)
  if not args.python_version:match "^3%.%d+$" then
    hg.fail { kind = "usage", message = ('--python-version: "%s" is not supported; use 3.Y')
      :format(args.python_version) }
  end
  for _, word in ipairs(run.flags) do
    if word:find '"' then
      hg.fail { kind = "usage", message = ("%s: a flag with a quotation mark cannot be given to a"
        .. " program on Windows"):format(word) }
    end
  end
  run.distro, run.arch, run.python, run.known_bad = "windows" .. args.os, args.arch,
    args.python_version, args.known_bad
end

function kit.open(ctx, args, run, label)
  return winbuild.machine(ctx, args, run.source, label)
end

function kit.setup(ctx, _, run, m)
  ctx:step("prepare", hg.windows.prepare, m)
  ctx:step("antivirus", hg.windows.antivirus, m, false)
  ctx:step("sync", hg.mercurial.sync, m, run.source)
  m:mkdir(kit.out(m))
  if run.known_bad then
    m:write(m.work .. "\\known-bad", table.concat(hg.facts.windows_hanging_tests, "\n") .. "\n")
  end
end

function kit.build(ctx, run, m)
  return ctx:step("wheel", hg.windows.build, m, { kind = "wheel", python = run.python,
    arch = run.arch, epoch = run.source.date:match "^%d+" }).path
end

function kit.wheel_path(m, name)
  return ("%s\\wheel\\%s"):format(m.work, name)
end

function kit.out(m)
  return m.work .. OUT
end

function kit.has_runner(m)
  return m:exists(m.src .. "\\tests\\run-tests.py")
end

function kit.suite(m, run, wheel, words)
  local flags = { table.unpack(words) }
  if run.known_bad then
    table.move({ "--blacklist", m.work .. "\\known-bad" }, 1, 2, #flags + 1, flags)
  end
  local id = crypto.token():sub(1, 16)
  local r = m:ps("run-tests", { id = id, quiet = false, timeout = 86400, params = { Id = id,
    Python = run.python, Arch = run.arch, Wheel = wheel, Out = kit.out(m), Flags = flags } })
  local last, lines = table.remove(r.output), {}
  if type(last) ~= "table" or not last.Code then
    hg.fail { kind = "remote", message = "run-tests.py ended without an exit status" }
  end
  for i, v in ipairs(r.output) do
    lines[i] = tostring(v)
  end
  return { code = math.tointeger(last.Code), out = table.concat(lines, "\n"),
    err = table.concat(r.stderr, "\n") }
end

return kit
