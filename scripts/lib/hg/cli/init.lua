--- The command line: `hgauto [options] COMMAND [arguments]`.
--
-- One table declares every command with the argument types of tasks; parser,
-- help and suggestions come from it.
local options = require "hg.cli.options"
local spec = require "hg.spec"
local arg = spec.arg

local M = {}

local function term()
  return require "hgauto.term"
end

local function fail(e)
  require("hg").fail(e)
end

local commands = {}
local order = {}

local function command(c)
  commands[c.name] = c
  if not c.hidden then
    order[#order + 1] = c.name
  end
end

-- Where the program was started.
local started_in

-- What follows -C is looked for there: the task file, too.
local function go_to(values)
  if values.directory then
    local fs = require "hgauto.fs"
    started_in = started_in or fs.cwd()
    fs.chdir(values.directory)
  end
end

-- ---- run, list ----------------------------------------------------------------

local function task_options()
  return options.join(options.global, options.run, options.task)
end

-- The command line whose task runs: that of the resumed run.
local command_line

-- Everything after the task's name: its own options and ours together.
local function run_task(word, argv, at, early, early_given, others)
  local tasks = require "hg.cli.tasks"
  local task, name = tasks.find(word, others)
  local values, _, given = spec.parse(name, options.join(task.args or {}, task_options()), argv,
    { from = at })
  local opts, args = {}, { rest = values.rest }
  for _, a in ipairs(task_options()) do
    local key = a.name:gsub("-", "_")
    opts[key] = values[key]
    if not given[a.name] and early_given[a.name] then
      opts[key] = early[key]
    end
  end
  for _, a in ipairs(task.args or {}) do
    local key = a.name:gsub("-", "_")
    args[key] = values[key]
  end
  if opts.help then
    term().out(spec.help(name, task))
    return 0
  end
  local r = M.resuming
  if r then
    for key, value in pairs(r.values) do
      opts[key] = value
    end
  elseif opts.resume or opts.from then
    fail { kind = "usage", message = "--resume and --from stand alone: task and arguments are those"
      .. " of the run", hint = "hgauto run --resume RUN" }
  end
  M.apply_global(opts)
  if opts.plan then
    local plan = require "hg.plan"
    return plan.execute(tasks.find(word, others, plan.env()), name, args, opts)
  end
  return require("hg.run").execute(task, name, args, opts, { argv = command_line,
    cwd = started_in or require("hgauto.fs").cwd(), resume = r and r.record,
    file = task.file })
end

-- `hgauto run --resume RUN`: that run's command line again, except for what is
-- given now.
local function resume_run(values, given)
  require("hg.cli.env").open_state(values)
  local resume = require "hg.resume"
  local record = resume.record(values.resume)
  local now = { state_path = require("hg.session").state.path, resume = record.run,
    from = values.from }
  for _, a in ipairs(task_options()) do
    local key = a.name:gsub("-", "_")
    if given[a.name] and key ~= "resume" and key ~= "directory" then
      now[key] = values[key]
    end
  end
  M.resuming = { record = record, values = now }
  started_in = record.cwd
  require("hgauto.fs").chdir(record.cwd)
  return M.dispatch(record.argv)
end

command {
  name = "run", help = "run a task: a file or a built-in one",
  words = "TASK|FILE [options] [-- rest]",
  example = "hgauto run --local build-linux --source apt",
  direct = function(argv, at, early, early_given)
    local values, next_at, given = spec.parse("run", task_options(), argv,
      { from = at, stop_at_word = true })
    for _, a in ipairs(task_options()) do
      local key = a.name:gsub("-", "_")
      if given[a.name] then
        early[key], early_given[a.name] = values[key], true
      end
    end
    local word = argv[next_at]
    if values.resume and not word then
      return resume_run(early, early_given)
    end
    go_to(values)
    if values.help and not word then
      return M.print_help("run")
    end
    if not word then
      fail { kind = "usage", message = "run: missing <task>", hint = "hgauto list" }
    end
    return run_task(word, argv, next_at + 1, early, early_given)
  end,
}

command {
  name = "list", help = "list the tasks", args = {},
  run = function()
    local tasks = require "hg.cli.tasks"
    local rows, width = {}, 0
    for _, name in ipairs(tasks.builtin()) do
      local t = tasks.load_builtin(name)
      if not t.hidden then
        rows[#rows + 1] = { name, (t.help or ""):match("^[^\n]-%.%f[%s%z]") or t.help or "" }
        width = math.max(width, #name)
      end
    end
    for _, row in ipairs(rows) do
      term().out(("%s  %s\n"):format(row[1] .. (" "):rep(width - #row[1]), row[2]))
    end
  end,
}

-- ---- repl, test, version, help --------------------------------------------------

command {
  name = "repl", help = "interactive Lua with the task library", args = {
    arg.path { name = "file", positional = true, must = "file", help = "run this first" },
  }, uses_cloud = true, example = "hgauto repl --local",
  run = function(args, opts)
    return require("hg.repl").main(args, opts)
  end,
}

command {
  name = "test", help = "run Lua test files inside the host (TAP)", args = {
    arg.string { name = "file", positional = true, required = true, multiple = true,
      help = "test file" },
  }, example = "prove --exec 'hgauto test' tests/lua/*.lua",
  run = function(args)
    local host, tap = require "hgauto.host", require "hg.tap"
    local good = true
    for _, file in ipairs(args.file) do
      good = tap.run_file(host.load_file(file)) and good
    end
    return good and 0 or 1
  end,
}

local function version_text()
  local v = require("hgauto.host").version
  local rows = { "hgauto " .. v.hgauto }
  for _, name in ipairs { "lua", "libcurl", "openssl", "libssh2", "sqlite", "expat", "microhttpd",
    "readline", "models" } do
    rows[#rows + 1] = ("  %-11s %s"):format(name, v[name] or "none")
  end
  if v.readline and v.readline ~= "none" then
    rows[#rows + 1] = "Linked with GNU readline: this binary is distributed under GPL-3.0-or-later."
  else
    rows[#rows + 1] = "Distributed under GPL-2.0-or-later."
  end
  return table.concat(rows, "\n") .. "\n"
end

command {
  name = "version", help = "versions of hgauto and of what it is made of", args = {},
  run = function()
    term().out(version_text())
  end,
}

command {
  name = "help", help = "help on a command or task", args = {
    arg.string { name = "name", positional = true, help = "command or task" },
  },
  run = function(args)
    return M.print_help(args.name)
  end,
}

-- ---- gc ---------------------------------------------------------------------------

command {
  name = "gc", help = "remove what dead runs left in the cloud", args = {
    arg.string { name = "run", positional = true, help = "only this run, its kept things too" },
    arg.flag { name = "dry-run", help = "list, remove nothing" },
    arg.duration { name = "older", help = "only what is older" },
    arg.flag { name = "no-wait", help = "do not wait for what cannot be decided yet" },
    arg.flag { name = "by-tag", help = "find expired machines by tag, without the ledger" },
  }, uses_cloud = true, example = "hgauto gc --dry-run",
  run = function(args, opts)
    return require("hg.gc").main(args, opts)
  end,
}

command {
  name = "__guard", hidden = true, help = "ends what a killed run left", args = {
    arg.string { name = "run", positional = true, required = true, help = "run" },
  },
  run = function(args, opts)
    return require("hg.guard").main(args, opts)
  end,
}

command {
  name = "purge", help = "remove everything of ours from the account, images too", args = {
    arg.flag { name = "yes", help = "do not ask" },
    arg.flag { name = "by-tag", help = "find things by tag alone: the state directory was lost" },
    arg.flag { name = "all-states", help = "of every state directory (with --by-tag)" },
    arg.string { name = "sid", multiple = true, metavar = "ID",
      help = "of these state directories (with --by-tag)" },
    arg.string { name = "also-region", multiple = true, metavar = "REGION",
      help = "regions to look into besides those we know" },
    arg.integer { name = "max", min = 1, metavar = "N", help = "at most so many [default: 50]" },
  }, uses_cloud = true, example = "hgauto purge --yes",
  run = function(args, opts)
    return require("hg.purge").main(args, opts)
  end,
}

command {
  name = "iam-policy", help = "the policy that tasks need in AWS, as JSON", args = {
    arg.string { name = "task", positional = true, multiple = true,
      help = "task or file [default: all built-in tasks]" },
  }, example = "hgauto iam-policy build-linux > policy.json",
  run = function(args, opts)
    return require("hg.policy").main(args, opts)
  end,
}

-- ---- report -----------------------------------------------------------------------

command {
  name = "report", help = "what a run did: summary, or a page with its time line", args = {
    arg.string { name = "run", positional = true, required = true,
      help = "its id, a unique beginning of it, or last" },
    arg.path { name = "html", metavar = "FILE", help = "write the page there" },
    arg.flag { name = "open", help = "write the page beside the record and show it" },
  }, example = "hgauto report last --html report.html",
  run = function(args, opts)
    return require("hg.report").main(args, opts)
  end,
}

-- ---- ssh, exec ----------------------------------------------------------------------

local function remote_args(more)
  local list = {
    arg.string { name = "host", positional = true, required = true, command = true,
      help = "instance of ours (or the beginning of its id), or a host: [user@]name[:port]" },
    arg.string { name = "user", short = "l", help = "log in as [default: the image's user]" },
    arg.flag { name = "tty", short = "t", help = "give it a terminal" },
    arg.path { name = "ssh-config", metavar = "FILE", must = "file",
      help = "instead of ~/.ssh/config" },
    arg.flag { name = "accept-new", help = "keep the key of a host that is not known yet" },
  }
  for _, a in ipairs(more) do
    list[#list + 1] = a
  end
  return list
end

command {
  name = "ssh", help = "log in to a machine of ours or another host", args = remote_args {},
  uses_cloud = true, example = "hgauto ssh i-0123 uname -a",
  run = function(args, opts)
    return require("hg.cli.remote").ssh(args, opts)
  end,
}

command {
  name = "exec", help = "run a command on a machine of ours or another host",
  args = remote_args {
    arg.flag { name = "remote-exit", help = "exit with the command's code; 255: our own failure" },
  },
  uses_cloud = true, example = "hgauto exec i-0123 -- hg version -q",
  run = function(args, opts)
    return require("hg.cli.remote").exec(args, opts)
  end,
}

command {
  name = "cp", help = "copy files to or from a machine of ours or another host", args = {
    arg.string { name = "from", positional = true, required = true,
      help = "local path, or HOST:PATH; a directory goes whole" },
    arg.string { name = "to", positional = true, required = true,
      help = "the same; ending in / it is the directory to put into" },
    arg.string { name = "user", short = "l", help = "log in as [default: the image's user]" },
    arg.flag { name = "resume", help = "go on with what an earlier try has brought over" },
    arg.integer { name = "retry", help = "log in again after a lost connection, so many times" },
    arg.flag { name = "newer", help = "leave files of equal size and time (directories)" },
    arg.flag { name = "verify", help = "compare SHA-256 (one file)" },
    arg.path { name = "ssh-config", metavar = "FILE", must = "file",
      help = "instead of ~/.ssh/config" },
    arg.flag { name = "accept-new", help = "keep the key of a host that is not known yet" },
  }, uses_cloud = true, example = "hgauto cp i-0123:/hgwork/dist/ dist",
  run = function(args, opts)
    return require("hg.cli.remote").cp(args, opts)
  end,
}

-- ---- local ------------------------------------------------------------------------

-- A command with commands of its own; `module` has their table and a help line.
-- Neither a command of the group nor the first word of one, or not its second.
local function unknown_in_group(name, list, word, second)
  local suggest, hint = require "hg.suggest", "hgauto help " .. name
  local names, firsts, seconds = {}, {}, {}
  for i, c in ipairs(list) do
    local a, b = c.name:match("^(%S+) (%S+)$")
    names[i] = c.name
    firsts[#firsts + 1] = a
    seconds[#seconds + 1] = a == word and b or nil
  end
  if seconds[1] and not second then
    fail { kind = "usage", hint = hint, message = ("%s: %s what? %s"):format(name, word,
      table.concat(seconds, ", ")) }
  end
  local two = second and (seconds[1] or suggest.near(word, firsts)[1])
  local said = two and word .. " " .. second or word
  fail { kind = "usage", hint = hint, message = ('%s: unknown command "%s"%s'):format(name, said,
    suggest.text(said, names)) }
end

local function group(name, module, help, example)
  local function load()
    return require(module)
  end
  command { name = name, help = help, words = "COMMAND [options]", example = example, group = load,
    direct = function(argv, at, early, early_given)
      local values, next_at, given = spec.parse(name, options.global, argv,
        { from = at, stop_at_word = true })
      for _, a in ipairs(options.global) do
        if given[a.name] then
          local key = a.name:gsub("-", "_")
          early[key], early_given[a.name] = values[key], true
        end
      end
      local word = argv[next_at]
      if not word then
        if values.help then
          return M.print_help(name)
        end
        fail { kind = "usage", message = name .. ": missing <command>",
          hint = "hgauto help " .. name }
      end
      for _, c in ipairs(load().commands) do
        local first, second = c.name:match("^(%S+) (%S+)$")
        if c.name == word or (first == word and second == argv[next_at + 1]) then
          return M.run_command({
            name = name .. " " .. c.name, args = c.args, help = c.help, example = c.example,
            run = c.run, raw = true, uses_cloud = c.uses_cloud,
          }, argv, next_at + (second and 2 or 1), early, early_given)
        end
      end
      unknown_in_group(name, load().commands, word, argv[next_at + 1])
    end }
end

group("runs", "hg.runs", "records of runs: ls, show, log, cancel, rm", "hgauto runs ls")
group("resources", "hg.resources", "what of ours exists in the cloud: ls, show",
  "hgauto resources ls")
group("state", "hg.cli.state", "the state directory: ledger dump, check, rebuild, forget",
  "hgauto state ledger check")
group("local", "hg.cli.localcloud", "the cloud on this machine: up, down, status, ls, doctor, ...",
  "hgauto local status")

-- ---- help texts ---------------------------------------------------------------------

local function overview()
  local rows = {
    "usage: hgauto [options] COMMAND [arguments]",
    "Rents machines, builds and tests Mercurial on them, leaves nothing behind.",
    "",
  }
  for _, name in ipairs(order) do
    rows[#rows + 1] = ("  %-10s %s"):format(name, commands[name].help)
  end
  rows[#rows + 1] = ""
  rows[#rows + 1] = "A task's name is a command too: hgauto build-linux --help"
  rows[#rows + 1] = ""
  rows[#rows + 1] = spec.describe(options.global)
  return table.concat(rows, "\n") .. "\n"
end

local function group_help(c)
  local rows = { ("usage: hgauto %s COMMAND [options]"):format(c.name), c.group().help or c.help,
    "" }
  for _, sub in ipairs(c.group().commands) do
    if not sub.hidden then
      rows[#rows + 1] = ("  %-12s %s"):format(sub.name, sub.help or "")
    end
  end
  return table.concat(rows, "\n") .. "\n"
end

--- Prints the help of a command or task, or the overview.
-- @param name string|nil
-- @return integer exit code
function M.print_help(name)
  if not name then
    term().out(overview())
    return 0
  end
  local c = commands[name]
  if c and c.group then
    term().out(group_help(c))
  elseif c then
    local text = spec.help(c.name, { help = c.help .. ".", args = c.args, example = c.example })
    if c.words then
      text = text:gsub("^usage: hgauto %S+[^\n]*", "usage: hgauto " .. c.name .. " " .. c.words)
      if name == "run" then
        text = text .. spec.describe(options.join(options.run, options.task)) .. "\n"
      end
    elseif c.uses_cloud then
      text = text .. spec.describe(options.run) .. "\n"
    end
    term().out(text)
  else
    local task, shown = require("hg.cli.tasks").find(name, order)
    term().out(spec.help(shown, task))
  end
  return 0
end

-- ---- dispatch -------------------------------------------------------------------------

--- Applies options that act on the process itself.
-- @param opts table
function M.apply_global(opts)
  go_to(opts)
  if opts.color then
    term().color(opts.color)
  end
  local log = require "hgauto.log"
  log.level(opts.verbose and "debug" or "warn")
  if opts.trace and not M.trace then
    M.trace = log.file(opts.trace, { level = "trace" }) -- until the end of the process
  end
  M.verbose = opts.verbose
end

--- Parses and runs one command.
-- @param c table
-- @param argv string[]
-- @param at integer first word after the command
-- @param early table values of global options before the command
-- @param early_given table
-- @return integer|nil
function M.run_command(c, argv, at, early, early_given)
  local lists = options.join(c.args or {}, options.global, c.uses_cloud and options.run or {})
  local values, _, given = spec.parse(c.name, lists, argv, { from = at })
  for _, a in ipairs(options.global) do
    local key = a.name:gsub("-", "_")
    if not given[a.name] and early_given[a.name] then
      values[key] = early[key]
    end
  end
  if values.help then
    if commands[c.name] then
      return M.print_help(c.name)
    end
    term().out(spec.help(c.name, c))
    return 0
  end
  M.apply_global(values)
  local out = require "hg.output"
  out.quiet, out.verbose = values.quiet, values.verbose
  return c.run(values, values)
end

function M.dispatch(argv)
  command_line = argv
  local version_flag = arg.flag { name = "version", help = "show versions" }
  local early, at, early_given = spec.parse("hgauto",
    options.join(options.global, options.run, { version_flag }), argv, { stop_at_word = true })
  if early.version then
    term().out(version_text())
    return 0
  end
  go_to(early)
  local word = argv[at]
  if not word then
    if early.help then
      return M.print_help(nil)
    end
    term().err(overview())
    return 2
  end
  if early.help then
    return M.print_help(word)
  end
  local c = commands[word]
  if not c then
    return run_task(word, argv, at + 1, early, early_given, order)
  end
  if c.direct then
    return c.direct(argv, at + 1, early, early_given)
  end
  return M.run_command(c, argv, at + 1, early, early_given)
end

--- Runs a command line; errors become text and an exit code.
-- @param argv string[] words after the program's name
-- @return integer exit code
-- @waits
function M.main(argv)
  M.verbose = false
  local interrupts = require "hg.cli.interrupt"
  interrupts.install()
  local ok, result = pcall(M.dispatch, argv)
  if ok then
    return math.tointeger(result) or 0
  end
  local exit = require "hg.cli.exit"
  local code = exit.code(result)
  if code ~= 130 and code ~= 143 then
    exit.report(result, { verbose = M.verbose })
  end
  return code
end

return M
