--- Prepared images of Windows: a base image with what Mercurial's own script
--- installs, sealed so that every machine made of it arms itself anew.
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local hg = require "hg"
local json = require "hgauto.json"
local out = require "hg.output"

local M = {}

-- Raise it when what a prepared image holds changes in a way nothing below shows.
local RECIPE = 1

-- Both lie side by side in the checkout, and must on the machine.
local SCRIPT, SETTINGS = "contrib/install-windows-dependencies.ps1", "contrib/vs2022-settings.json"

-- Our sources that decide what the image is.
local OURS = { "antivirus", "bootstrap-run", "features", "hg-init", "lib", "seal", "system-run",
  "toolchain" }

--- Whether a revision brings what prepares a machine.
-- @param source table from hg.mercurial.resolve
-- @return boolean
-- @waits
function M.possible(source)
  local files = hg.mercurial.cat(source, { SCRIPT, SETTINGS })
  return files[SCRIPT] ~= nil and files[SETTINGS] ~= nil
end

--- The script without its line that clones a repository from the net unchecked.
-- @param text string
-- @return string
-- @raise task there is not exactly one such line
function M.without_clone(text)
  local kept, removed = {}, 0
  for line in text:gsub("\r\n", "\n"):gsub("\n$", ""):gmatch("([^\n]*)\n?") do
    if line:find "^%s*Clone%-Mercurial%-Repo%f[^%w-]" then
      removed = removed + 1
    else
      kept[#kept + 1] = line
    end
  end
  if removed ~= 1 then
    hg.fail { kind = "task", message = ("%s: expected one line that calls Clone-Mercurial-Repo,"
      .. " found %d; this revision cannot prepare a machine"):format(SCRIPT, removed) }
  end
  return table.concat(kept, "\n"):gsub("\n+$", "") .. "\n"
end

--- Directories of the Pythons that the script installs.
-- @param text string
-- @return string[] such as "python313-x64"
function M.pythons_of(text)
  local seen, list = {}, {}
  for name in text:gmatch "python3%d+%-x%d+" do
    if not seen[name] then
      seen[name], list[#list + 1] = true, name
    end
  end
  table.sort(list)
  return list
end

local function sources()
  local files = {}
  for _, name in ipairs(OURS) do
    files[name] = crypto.sha256(embed.read("windows/" .. name .. ".ps1"))
  end
  return files
end

local function seed_of(source)
  local ok, public = pcall(hg.mercurial.public_head, source)
  return ok and public or nil
end

-- What the bake does on a machine of the base image.
local function prepare(m, spec, o)
  hg.windows.antivirus(m, false)
  hg.windows.install_features(m)
  m:reboot()
  local place = "C:\\hgdev\\bootstrap\\"
  m:mkdir "C:\\hgdev\\bootstrap"
  for path, text in pairs(spec.files) do
    m:write(place .. path:match "[^/]+$", text)
  end
  local id = crypto.token():sub(1, 16)
  m:script("bootstrap-run", { id, place .. SCRIPT:match "[^/]+$" }, { id = id, timeout = 9000 })
  -- The services hold the PATH of before until they start again.
  m:reboot()
  local missing = m:ps("toolchain", { params = { Root = "C:\\hgdev",
    Pythons = table.concat(spec.pythons, " ") } }).output
  if #missing > 0 then
    hg.fail { kind = "task", message = ("%s left out: %s"):format(SCRIPT:match "[^/]+$",
      table.concat(missing, ", ")) }
  end
  m:script("hg-init", { m.src }, { timeout = 300 })
  local seed = o.seed ~= false and seed_of(spec.source)
  if seed then
    hg.mercurial.sync(m, seed)
  end
  hg.windows.antivirus(m, true)
  hg.windows.seal(m)
end

--- What a prepared image consists of.
-- @param os string "2019", "2022", "2025"
-- @param source table from hg.mercurial.resolve: brings the script that installs
-- @param[opt] o table pattern=base image, seed=boolean
-- @return table spec for hg.images.ensure
-- @raise usage the revision brings no such script; task not as expected
-- @waits
function M.spec(os, source, o)
  o = o or {}
  local name = "windows" .. os
  local fact = hg.facts.images[name] or hg.images.unknown(name)
  local files, hashes = hg.mercurial.cat(source, { SCRIPT, SETTINGS }), {}
  for _, path in ipairs { SCRIPT, SETTINGS } do
    if not files[path] then
      hg.fail { kind = "usage", message = ("revision %s has no %s, which prepares Windows machines")
        :format(source.tag or source.node:sub(1, 12), path), hint = "another revision, or "
        .. "--image ami-… for an image of yours" }
    end
    hashes[path] = crypto.sha256(files[path])
  end
  local pythons = M.pythons_of(files[SCRIPT])
  files[SCRIPT] = M.without_clone(files[SCRIPT])
  local fingerprint = crypto.sha256(json.encode {
    v = RECIPE, os = "windows", name = os, files = sources(), windows = hashes,
    base = { owner = fact.owner, pattern = o.pattern or fact.pattern,
      others = o.owners and #o.owners > 0 and o.owners or nil },
    root = { size = 64, type = "gp3" }, seed = o.seed ~= false,
  })
  local spec = { distro = name, fingerprint = fingerprint, base_image = o.pattern,
    owners = o.owners, files = files, pythons = pythons, source = source,
    prefix = ("hg-windows-dev-%s-"):format(os),
    name = ("hg-windows-dev-%s-%s"):format(os, fingerprint:sub(1, 12)) }
  function spec.launch(base, given)
    return hg.machines.windows { os = name, base_image = base.id, label = name,
      instance_type = given.instance_type, max_age = given.max_age or 21600,
      allow_cidr = given.allow_cidr, subnet = given.subnet, allow_owner = spec.owners }
  end
  function spec.prepare(m)
    prepare(m, spec, o)
  end
  return spec
end

--- The image for a Windows machine of a task.
-- @param ec2 table client
-- @param os string
-- @param source table from hg.mercurial.resolve
-- @param o table image="dev"|"auto"|"base"|"ami-…" base_image= owners= allow_cidr= subnet=
-- @return table as hg.images.base
-- @waits
function M.choose(ec2, os, source, o)
  local name, kind = "windows" .. os, hg.images.kind(o.image)
  if kind == "ami" then
    return hg.images.named(ec2, name, o.image, o.owners)
  end
  if kind == "auto" and not M.possible(source) then
    out.warn(("this revision has no %s: no image can be prepared, the base image is used")
      :format(SCRIPT))
    kind = "base"
  end
  if kind == "base" then
    return hg.images.base(ec2, name, o.base_image, o.owners)
  end
  return (hg.images.ensure(ec2, M.spec(os, source, { pattern = o.base_image, owners = o.owners }), {
    allow_cidr = o.allow_cidr, subnet = o.subnet,
  }))
end

return M
