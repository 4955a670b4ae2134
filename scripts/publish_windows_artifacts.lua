--- Publishes what was built for Windows: wheels to a package index, installers
--- to the web server, latest.dat last.
local crypto = require "hgauto.crypto"
local hg = require "hg"
local arg = hg.arg
local pypi = require "hg.pypi"
local release = require "hg.release"

local PROJECT = "mercurial"

local function token_of(args)
  local text = require("hgauto.host").getenv "HGAUTO_PYPI_TOKEN"
  local token = args.pypi_token or (text and text ~= "" and crypto.secret(text))
  if not token then
    hg.fail { kind = "usage", message = "the package index needs a token",
      hint = "--pypi-token env:NAME or file:PATH, or HGAUTO_PYPI_TOKEN; or --no-pypi" }
  end
  return token
end

-- Wheels that the index has not got.
local function missing_wheels(o, wheels)
  local known, list = pypi.known(o.index, PROJECT), {}
  for _, f in ipairs(wheels) do
    if not pypi.has(known, f) then
      list[#list + 1] = f
    end
  end
  return list
end

local function of_kind(files, wheels)
  local list = {}
  for _, f in ipairs(files) do
    if (f.kind == "wheel") == wheels then
      list[#list + 1] = f
    end
  end
  return list
end

local function show(ctx, what, all, rest)
  local absent = {}
  for _, f in ipairs(rest) do
    absent[f.name] = true
  end
  for _, f in ipairs(all) do
    ctx:log("%s  %s  %s", f.sha256, f.name, absent[f.name] and "to " .. what or "already there")
  end
end

-- The host that an address without TLS leads to, unless it is this machine.
local function in_the_clear(url)
  local place = url:match "^[hH][tT][tT][pP]://([^/?#]*)"
  local host = place and place:gsub("^.*@", ""):gsub(":%d*$", "")
  if host and host ~= "localhost" and host ~= "[::1]"
    and not host:find "^127%.%d+%.%d+%.%d+$" then
    return host
  end
end

local function index_of(args)
  if not args.pypi then
    return nil
  end
  for _, name in ipairs { "pypi_url", "pypi_index" } do
    if not args[name] then
      hg.fail { kind = "usage", message = ("--%s is needed, or --no-pypi"):format(
        name:gsub("_", "-")) }
    end
  end
  local host = in_the_clear(args.pypi_url)
  if host then
    hg.fail { kind = "usage", message = "--pypi-url: the token would be sent in the clear to "
      .. host, hint = "an address with https://" }
  end
  return { url = args.pypi_url, index = args.pypi_index, project = PROJECT,
    token = token_of(args) }
end

-- What the servers hold is looked up in each run, a resumed one, too.
local NOW = { resume = false }

return hg.task {
  help = "Publish wheels and installers that were built for Windows.",
  description = "Nothing is sent before all files are checked. Files of simulated machines are"
    .. " refused. A repeat goes on where it stopped.",
  aliases = { "publish" },
  args = {
    arg.string { name = "version", positional = true, required = true, metavar = "VERSION",
      help = "the release" },
    arg.path { name = "dist-path", default = "dist", metavar = "DIR",
      help = "where artifacts are" },
    arg.flag { name = "pypi", default = true, help = "upload the wheels" },
    arg.string { name = "pypi-url", metavar = "URL", env = "HGAUTO_PYPI_URL",
      help = "where the package index takes uploads" },
    arg.string { name = "pypi-index", metavar = "URL", env = "HGAUTO_PYPI_INDEX",
      help = "its simple API" },
    arg.secret { name = "pypi-token", metavar = "SOURCE",
      help = "its token: env:NAME or file:PATH [default: HGAUTO_PYPI_TOKEN]" },
    arg.flag { name = "mercurial-scm-org", default = true,
      help = "upload the installers and latest.dat" },
    arg.string { name = "host", default = hg.facts.release.host, metavar = "HOST[:PORT]",
      help = "the web server" },
    arg.string { name = "directory-there", default = hg.facts.release.directory, metavar = "DIR",
      help = "where it has the files" },
    arg.string { name = "ssh-username", metavar = "USER", help = "your name there" },
    arg.flag { name = "allow-missing", help = "publish what is there of the release" },
  },
  needs = {},
  example = "hgauto publish-windows-artifacts 7.0.1 --no-pypi --ssh-username me",

  run = function(ctx, args)
    local files = ctx:step("check", NOW, release.plan, args.dist_path, args.version,
      args.allow_missing)
    local wheels, installers = of_kind(files, true), of_kind(files, false)
    local index = index_of(args)
    local s <close> = args.mercurial_scm_org
      and ctx:step("connect", NOW, release.connect, args.host, args.ssh_username) or nil
    local new_wheels = index and ctx:step("index", NOW, missing_wheels, index, wheels) or {}
    local new_files = s and ctx:step("server", NOW, release.absent, s, args.directory_there,
      installers) or {}
    if index then
      show(ctx, "upload", wheels, new_wheels)
    end
    if s then
      show(ctx, "publish", installers, new_files)
    end
    if ctx.plan then
      hg.plan.note(">", ("%d wheels to the index, %d files and latest.dat to the server"):format(
        #new_wheels, #new_files))
      return nil
    end
    if not ctx:confirm(("publish Mercurial %s?"):format(args.version)) then
      hg.fail { kind = "task", message = "nothing was published" }
    end
    for _, f in ipairs(new_wheels) do
      ctx:step("upload " .. f.name, pypi.upload, index, f)
    end
    for _, f in ipairs(new_files) do
      ctx:step("publish " .. f.name, release.send, s, args.directory_there, f)
      hg.output.result(("%s  %s  %s"):format(f.sha256, f.name, release.address(f.name)))
    end
    if s then
      local text = release.latest(args.version, installers)
      local old = ctx:step("latest.dat", release.send_latest, s, args.directory_there, text,
        args.dist_path)
      if old then
        ctx:log("the former latest.dat is %s", old)
      end
    end
    return { version = args.version, wheels = #new_wheels, installers = #new_files }
  end,
}
