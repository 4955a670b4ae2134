--- What our PowerShell sources do on a simulated Windows.
--
-- Repositories are real ones of Mercurial below the directory that stands for C:.
-- What is built says in its first line that it is simulated.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local path_of = require("localcloud.winfiles").path
local time = require "hgauto.time"

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

local function facts(pipe)
  pipe:output { Build = "20348", Caption = "SIMULATED Windows Server", Version = "5.1.20348.1",
    Boot = time.iso(pipe.machine.boot_time, { ms = true }), Processors = 2,
    Pythons = "python313-x64 python313-x86" }
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

local function installer(form)
  return function(pipe)
    return form:format(pipe.params.Version, pipe.params.Arch)
  end
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
  rule("build-inno", build(installer "Mercurial-%s-%s.exe")),
  rule("build-wix", build(installer "mercurial-%s-%s.msi")),
  rule("dist-hash", dist_hash), rule("sha256", sha256),
  rule("remove", function(pipe)
    local at = local_path(pipe, pipe.params.Path)
    if fs.exists(at) then
      fs.remove(at, { tree = true })
    end
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
