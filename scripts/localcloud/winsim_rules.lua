--- What our PowerShell sources do on a simulated Windows.
--
-- Repositories are real ones of Mercurial below the directory that stands for C:.
-- What is built says in its first line that it is simulated.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local embed = require "hgauto.embed"
local path_of = require("localcloud.winfiles").path
local time = require "hgauto.time"
local wintests = require "localcloud.wintests"

--- Begin of every file that a simulated machine builds.
local MARK = "HGAUTO SIMULATED ARTIFACT\n"

local HG = { HGPLAIN = "1", HGRCPATH = "", HGENCODING = "utf-8" }

local function local_path(pipe, windows)
  return path_of(pipe.root, windows)
end

local function hg(pipe, words, at)
  local repo = at or local_path(pipe, "C:/hgdev/src")
  if not fs.exists(repo .. "/.hg") then
    return nil, "abort: repository C:\\hgdev\\src not found"
  end
  local r = require("hgauto.proc").run({ "hg", "-R", repo, table.unpack(words) },
    { env = HG, check = false, timeout = 600 })
  if r.code ~= 0 then
    return nil, ("hg.exe exited with code %s: %s"):format(tostring(r.code), r.err:sub(1, 200))
  end
  return r.out
end

-- Answers with lines of output, or fails the script.
local function lines(pipe, text, why)
  if not text then
    return nil, why
  end
  for line in text:gmatch("[^\n]+") do
    pipe:output(line)
  end
  return 0
end

local function ready(pipe)
  local at = local_path(pipe, pipe.params.Path)
  if fs.exists(at) then
    pipe:output(fs.read(at))
  end
  return 0
end

-- What the simulated installation of tools leaves; a bare machine counts as one
-- with two Pythons, for tasks that are told to use it.
local function pythons(pipe)
  local names, dir = {}, local_path(pipe, "C:/hgdev/x"):match("^(.*)/")
  for _, name in ipairs(fs.exists(dir) and fs.list(dir) or {}) do
    names[#names + 1] = name:match "^python%d+%-x%d+$"
  end
  table.sort(names)
  return #names > 0 and names or { "python313-x64", "python313-x86" }
end

local function facts(pipe)
  pipe:output { Build = "20348", Caption = "SIMULATED Windows Server", Version = "5.1.20348.1",
    Boot = time.iso(pipe.machine.boot_time, { ms = true }), Processors = 2,
    Pythons = table.concat(pythons(pipe), " ") }
  return 0
end

-- ---- what bootstrap-windows-dev runs ----

local TOOLS = "C:/hgdev/simulated-tools"

-- Only the whole of our own sources is known, as everywhere here.
local function is_source(text, name)
  return text == embed.read("windows/" .. name .. ".ps1")
end

local function system_place(pipe)
  return local_path(pipe, "C:/ProgramData/hgauto/system/" .. pipe.params.Id)
end

local function system_start(pipe)
  local p, text = pipe.params, nil
  if is_source(p.Script, "features") then
    text = "(simulated) " .. p.Values.Features .. " is there\n"
  elseif not is_source(p.Script, "seal") then
    return nil, "not simulated: work as SYSTEM of an unknown source"
  end
  if text then
    local place = system_place(pipe)
    fs.mkdir(place, { parents = true })
    fs.write(place .. "/out.txt", "\239\187\191" .. text)
    fs.write(place .. "/exit.json", json.encode { exit = 0, why = "" })
    return 0
  end
  pipe.machine.later(function()
    async.sleep(0.3)
    pipe.machine:unarm()
    pipe.machine:finish "off"
  end)
  return 0
end

local function system_poll(pipe)
  local place, at = system_place(pipe), pipe.params.Offset
  local function read(name)
    return fs.exists(place .. name) and fs.read(place .. name) or ""
  end
  local text = read("/out.txt"):sub(at + 1)
  pipe:output { Text = crypto.base64(text), Next = at + #text, End = read "/exit.json" }
  return 0
end

local function system_end(pipe)
  if fs.exists(system_place(pipe)) then
    fs.remove(system_place(pipe), { tree = true })
  end
  return 0
end

-- Runs nothing of the script: it leaves directories of the names in it.
local function bootstrap_run(pipe)
  local script = local_path(pipe, pipe.params.Script)
  local settings = local_path(pipe, pipe.params.Script:gsub("[^\\]*$", "vs2022-settings.json"))
  if not fs.exists(script) or not fs.exists(settings) then
    return nil, "vs2022-settings.json is not beside the script"
  end
  local text = fs.read(script)
  if ("\n" .. text):find "\n%s*Clone%-Mercurial%-Repo%f[^%w-]" then
    return nil, "the script would clone a repository from the net"
  end
  pipe:output("(simulated) installing what " .. pipe.params.Script .. " names")
  if text:find("simulate-slow", 1, true) then
    async.sleep(600)
  end
  for name in text:gmatch "python3%d+%-x%d+" do
    fs.mkdir(local_path(pipe, "C:/hgdev/" .. name), { parents = true })
  end
  if not text:find("simulate-incomplete", 1, true) then
    fs.write(local_path(pipe, TOOLS), "HGAUTO SIMULATED ARTIFACT\n")
  end
  return 0
end

local function toolchain(pipe)
  for name in pipe.params.Pythons:gmatch "%S+" do
    if not fs.exists(local_path(pipe, "C:/hgdev/" .. name)) then
      pipe:output("C:\\hgdev\\" .. name .. "\\python.exe")
    end
  end
  if not fs.exists(local_path(pipe, TOOLS)) then
    pipe:output "hg.exe"
    pipe:output "pyoxidizer.exe on PATH"
  end
  return 0
end

local function init(pipe)
  local at = local_path(pipe, pipe.params.Path)
  if not fs.exists(at .. "/.hg") then
    fs.mkdir(at, { parents = true })
    require("hgauto.proc").run({ "hg", "init", at }, { env = HG })
    fs.write(at .. "/.hg/hgrc", "[phases]\npublish = false\n")
  end
  return 0
end

local function unbundle(pipe)
  local bundle = pipe.params.Bundle or ""
  if bundle ~= "" then
    local file = local_path(pipe, bundle)
    local ok, why = hg(pipe, { "unbundle", "-q", file })
    fs.remove(file)
    if not ok then
      return nil, why
    end
  end
  local ok, why = hg(pipe, { "update", "-q", "-C", pipe.params.Node })
  if not ok then
    return nil, why
  end
  ok, why = hg(pipe, { "--config", "extensions.purge=", "purge", "--all" })
  if not ok then
    return nil, why
  end
  return lines(pipe, hg(pipe, { "id", "--debug", "-i" }))
end

-- The version that the stand-in of a build gives its file: the newest tag.
local function version_of(pipe)
  local text = hg(pipe, { "log", "-r", ".", "-T", "{latesttag}" }) or ""
  return text:match("^%d[%w.]*$") or "0"
end

local function build(name_of)
  return function(pipe)
    local p = pipe.params
    local dir = local_path(pipe, p.OutDir)
    fs.remove(dir, { tree = true })
    fs.mkdir(dir, { parents = true })
    local run = local_path(pipe, "C:/ProgramData/hgauto/run/" .. p.Id)
    fs.mkdir(run:match("^(.*)/"), { parents = true })
    fs.write(run, "4711")
    pipe:output("(simulated) building " .. name_of(pipe))
    if fs.exists(local_path(pipe, "C:/hgdev/src") .. "/simulate-slow") then
      async.sleep(600)
    end
    fs.write(dir .. "/" .. name_of(pipe), MARK .. json.encode { python = p.Python, arch = p.Arch })
    return 0
  end
end

local function wheel_name(pipe)
  local tag = "cp" .. pipe.params.Python:gsub("%.", "")
  return ("mercurial-%s-%s-%s-%s.whl"):format(version_of(pipe), tag, tag,
    pipe.params.Arch == "x86" and "win32" or "win_amd64")
end

local INSTALLERS = { inno = "Mercurial-%s-%s.exe", wix = "mercurial-%s-%s.msi" }

local function installer_name(pipe)
  return INSTALLERS[pipe.params.Kind]:format(pipe.params.Version, pipe.params.Arch)
end

local function dist_hash(pipe)
  local dir = local_path(pipe, pipe.params.OutDir)
  for _, name in ipairs(fs.list(dir)) do
    pipe:output { Name = name, Size = fs.stat(dir .. "/" .. name).size,
      Sha256 = fs.sha256(dir .. "/" .. name) }
  end
  return 0
end

local function sha256(pipe)
  local at = local_path(pipe, pipe.params.Path)
  if not fs.exists(at) then
    return nil, ("Cannot find path '%s' because it does not exist."):format(pipe.params.Path)
  end
  pipe:output(fs.sha256(at))
  return 0
end

local function rule(source, run)
  return { name = source, match = { source = source }, run = run }
end

return {
  rule("ready", ready), rule("facts", facts), rule("hg-init", init),
  rule("antivirus", function()
    return 0
  end),
  rule("system-start", system_start), rule("system-poll", system_poll),
  rule("system-end", system_end), rule("bootstrap-run", bootstrap_run),
  rule("toolchain", toolchain), rule("run-tests", wintests.run),
  rule("hg-nodes", function(pipe)
    return lines(pipe, hg(pipe, { "log", "-r", pipe.params.Revset, "-T", "{node}\n" }))
  end),
  rule("hg-unbundle", unbundle),
  rule("hg-import", function(pipe)
    return lines(pipe, hg(pipe, { "import", "--no-commit", "-q",
      local_path(pipe, pipe.params.Patch) }))
  end),
  rule("hg-purge", function(pipe)
    return lines(pipe, hg(pipe, { "--config", "extensions.purge=", "purge", "--all" },
      local_path(pipe, pipe.params.Path)))
  end),
  rule("build-wheel", build(wheel_name)),
  rule("build-installer", build(installer_name)),
  rule("dist-hash", dist_hash), rule("sha256", sha256),
  rule("exists", function(pipe)
    pipe:output(fs.exists(local_path(pipe, pipe.params.Path)))
    return 0
  end),
  rule("mkdir", function(pipe)
    fs.mkdir(local_path(pipe, pipe.params.Path), { parents = true })
    return 0
  end),
  rule("kill-tree", function(pipe)
    local at = local_path(pipe, "C:/ProgramData/hgauto/run/" .. pipe.params.Id)
    if fs.exists(at) then
      fs.remove(at)
    end
    return 0
  end),
  rule("rotate-password", function(pipe)
    pipe.machine:set_password(pipe.params.Password)
    return 0
  end),
  rule("reboot", function(pipe)
    pipe.machine.later(function()
      async.sleep(math.min(pipe.params.Delay, 1))
      pipe.machine:finish("reboot")
    end)
    return 0
  end),
}
