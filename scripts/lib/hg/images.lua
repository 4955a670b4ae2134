--- Images: base images, found by owner and pattern, never by name alone; and
--- prepared ones of our own, named by a fingerprint of what is in them.
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local hg = require "hg"
local json = require "hgauto.json"
local out = require "hg.output"
local time = require "hgauto.time"

local M = {}

--- Refuses a name that stands for no base image.
-- @param name string
-- @raise usage always
function M.unknown(name)
  local names = {}
  for n in pairs(hg.facts.images) do
    names[#names + 1] = n
  end
  if hg.facts.gone[name] then
    hg.fail { kind = "usage",
      message = ("%s: its base image no longer exists; use debian13"):format(name) }
  end
  hg.fail { kind = "usage", message = ('unknown base image "%s"%s'):format(name,
    require("hg.suggest").text(name, names)) }
end

--- Refuses names that stand for no base image of Linux, before anything starts.
-- @param names string[]
-- @raise usage
function M.check_linux(names)
  for _, name in ipairs(names) do
    local fact = hg.facts.images[name] or M.unknown(name)
    if fact.os ~= "linux" then
      hg.fail { kind = "usage", message = ("%s is no Linux; use debian13"):format(name) }
    end
  end
end

--- The newest base image of that name.
-- @param ec2 table client
-- @param name string such as "debian13"
-- @param[opt] override string an AMI id or a name pattern instead of the fact's
-- @return table image {id, root_device, user, name, architecture}
-- @raise usage unknown or vanished base; task no image
-- @waits
function M.base(ec2, name, override)
  local fact = hg.facts.images[name] or M.unknown(name)
  if override ~= nil and type(override) ~= "string" then
    hg.fail { kind = "usage", exit = 1, message = ("base_image is a name pattern or an AMI id, not"
      .. " a %s"):format(type(override)) }
  end
  local params = { Owners = { fact.owner } }
  if override and override:match("^ami%-%x+$") then
    params.ImageIds = { override }
  else
    params.Filters = {
      { Name = "name", Values = { override or fact.pattern } },
      { Name = "state", Values = { "available" } },
      { Name = "architecture", Values = { fact.architecture or "x86_64" } },
      { Name = "image-type", Values = { "machine" } },
    }
  end
  local newest
  for _, image in ipairs(ec2:describe_images(params).Images) do
    local fits = image.OwnerId == fact.owner and image.State == "available"
      and image.Architecture == (fact.architecture or "x86_64")
      and (override or not fact.strict or (image.Name or ""):match(fact.strict))
    if fits and (not newest or (image.CreationDate or "") > (newest.CreationDate or "")) then
      newest = image
    end
  end
  if not newest then
    hg.fail {
      kind = "task", message = ("no base image for %s (owner %s, name %s)"):format(name, fact.owner,
        override or fact.pattern), hint = "another one: --base-image PATTERN or ami-…",
    }
  end
  return { id = newest.ImageId, root_device = newest.RootDeviceName, user = fact.user,
    name = newest.Name, architecture = newest.Architecture }
end

-- ---- prepared images ----------------------------------------------------------------

-- Raise it when what a prepared image holds changes in a way nothing below shows.
local RECIPE = 1

-- Seconds after which a prepared image's packages are worth renewing.
local OLD = 90 * 86400

local function launch_linux(spec)
  return function(base, o)
    return hg.machines.linux {
      distro = spec.distro, base_image = base.id, instance_type = o.instance_type or "t3.large",
      max_age = o.max_age or 7200, allow_cidr = o.allow_cidr, subnet = o.subnet,
      label = spec.distro,
    }
  end
end

local function prepare_linux(spec)
  return function(m)
    hg.linux.bootstrap(m, { packages = spec.packages, extra = spec.extra })
    m:script("seal", {}, { sudo = true, timeout = 300 })
  end
end

--- What a prepared image of Linux consists of; the base's AMI id does not count,
--- since the publisher renews it every few weeks.  Windows: hg.winimage.
-- @param distro string
-- @param[opt] o table extras=boolean extra=text of a script of the user's, pattern=base image
-- @return table spec for ensure: {distro, base_image, name, prefix, fingerprint,
--   launch=function(base, o) makes the machine, prepare=function(m) fills and seals it}
function M.dev_spec(distro, o)
  o = o or {}
  local fact = hg.facts.images[distro] or M.unknown(distro)
  local packages = {}
  for _, set in ipairs { "build", "deb", "test", o.extras and "extras" or nil } do
    table.move(hg.facts.packages[set], 1, #hg.facts.packages[set], #packages + 1, packages)
  end
  table.sort(packages)
  local files = {}
  for _, name in ipairs { "bootstrap-debian.sh", "seal.sh" } do
    files[name] = crypto.sha256(embed.read("linux/" .. name))
  end
  local fingerprint = crypto.sha256(json.encode {
    v = RECIPE, os = "linux", name = distro, packages = packages, files = files,
    base = { owner = fact.owner, pattern = o.pattern or fact.pattern },
    root = { size = 16, type = "gp3" },
    extra = o.extra and crypto.sha256(o.extra) or "",
  })
  local spec = { distro = distro, packages = packages, extra = o.extra, fingerprint = fingerprint,
    base_image = o.pattern, prefix = ("hg-linux-dev-%s-"):format(distro),
    name = ("hg-linux-dev-%s-%s"):format(distro, fingerprint:sub(1, 12)) }
  spec.launch, spec.prepare = launch_linux(spec), prepare_linux(spec)
  return spec
end

-- Images of this account by name pattern; only what hgauto made.
local function ours(ec2, pattern)
  local list = {}
  for _, image in ipairs(ec2:describe_images {
    Owners = { "self" }, Filters = { { Name = "name", Values = { pattern } } },
  }.Images) do
    if hg.ledger.tag(image.Tags, "hgauto:v") then
      list[#list + 1] = image
    end
  end
  return list
end

local function as_choice(image, distro)
  local fact = hg.facts.images[distro]
  return { id = image.ImageId, root_device = image.RootDeviceName, user = fact.user,
    name = image.Name, architecture = image.Architecture, prepared = true,
    base_name = hg.ledger.tag(image.Tags, "hgauto-base-name") or image.Name,
    base_id = hg.ledger.tag(image.Tags, "hgauto-base-ami"), created = image.CreationDate }
end

--- The prepared image of that specification if there is one that is usable.
-- @param ec2 table client
-- @param spec table from dev_spec
-- @return table|nil as from base, with prepared=true
-- @waits
function M.find(ec2, spec)
  for _, image in ipairs(ours(ec2, spec.name)) do
    if image.State == "available" then
      return as_choice(image, spec.distro)
    end
  end
  return nil
end

--- The image for a machine.
-- @param ec2 table client
-- @param distro string
-- @param o table image="auto"|"dev"|"base"|"ami-…" base_image= extras= extra=
-- @return table as from base
-- @waits
function M.choose(ec2, distro, o)
  local kind = o.image or "auto"
  if kind:match("^ami%-%x+$") then
    return M.base(ec2, distro, kind)
  elseif kind == "base" then
    return M.base(ec2, distro, o.base_image)
  end
  local spec = M.dev_spec(distro, { pattern = o.base_image })
  local found = M.find(ec2, spec)
  if not found and kind == "dev" then
    found = M.ensure(ec2, spec)
  end
  if found and time.now() - (time.parse(found.created or "") or time.now()) > OLD then
    out.warn(("image %s is older than 90 days; hgauto bootstrap-linux-dev --refresh-base renews it")
      :format(found.name))
  end
  return found or M.base(ec2, distro, o.base_image)
end

-- Deregisters an image of ours and deletes its snapshots.
local function remove(ec2, image)
  local row = { kind = "image", id = image.ImageId, name = image.Name, tags = image.Tags }
  hg.gc.remove(ec2, { row })
end

local function wait_available(ec2, id, name)
  return hg.wait {
    planned = { ImageId = id, Name = name, State = "available",
      CreationDate = time.iso(time.now()) },
    what = "image " .. name, timeout = 3600, every = 1, max_every = 15,
    poll = function()
      local image = ec2:describe_images({ Owners = { "self" },
        Filters = { { Name = "name", Values = { name } } } }).Images[1]
      if not image or (id and image.ImageId ~= id) then
        return nil, "not visible yet"
      elseif image.State == "available" then
        return image
      elseif image.State == "pending" or image.State == "transient" then
        return nil, image.State
      end
      local reason = image.StateReason or {}
      hg.fail { kind = "task", code = reason.Code, image = image,
        message = ("image %s: %s"):format(name, reason.Message or image.State) }
    end,
  }
end

-- Stops the machine from outside, makes the image, waits for it.  The machine
-- ends only after that.
local function bake(ec2, spec, m, base)
  ec2:stop_instances { InstanceIds = { m.id } }
  hg.wait { what = tostring(m.id) .. " to stop", planned = true, timeout = 600, every = 0.5,
    max_every = 5,
    poll = function()
      local r = ec2:describe_instances({ InstanceIds = { m.id } }).Reservations[1]
      local state = r and r.Instances[1].State.Name
      if state == "terminated" or state == "shutting-down" then
        hg.fail { kind = "task", message = m.id .. " ended while it was to be stopped" }
      end
      return state == "stopped", state
    end }
  local tags = {
    { Key = "Name", Value = spec.name },
    { Key = "hgauto-base-ami", Value = base.id },
    { Key = "hgauto-base-name", Value = base.name },
  }
  local made = hg.ledger.create {
    kind = "image", name = spec.name,
    call = function()
      return ec2:create_image {
        InstanceId = m.id, Name = spec.name, Description = "prepared for Mercurial by hgauto",
        TagSpecifications = { { ResourceType = "image", Tags = tags },
          { ResourceType = "snapshot", Tags = { tags[1] } } },
      }
    end,
    find = function()
      return ours(ec2, spec.name)[1]
    end,
  }
  return wait_available(ec2, made.ImageId, spec.name)
end

local function build(ec2, spec, o)
  local base = M.base(ec2, spec.distro, spec.base_image)
  local m <close> = spec.launch(base, o)
  spec.prepare(m)
  local image = bake(ec2, spec, m, base)
  m:close()
  return image
end

-- What an earlier try left under this name: used, waited for, or removed.
local function earlier(ec2, spec, o)
  for _, image in ipairs(ours(ec2, spec.name)) do
    if image.State == "available" and not o.force then
      return image
    elseif image.State == "pending" then
      out.note(("waiting for %s, which another run makes"):format(spec.name))
      return wait_available(ec2, image.ImageId, spec.name)
    elseif not o.force then
      remove(ec2, image)
    end
  end
  return nil
end

-- Other fingerprints of the same kind, made by this state directory.
local function remove_others(ec2, spec, keep)
  for _, image in ipairs(ours(ec2, spec.prefix .. "*")) do
    if image.ImageId ~= keep and hg.ledger.is_ours(image.Tags) then
      out.note(("removing the older image %s"):format(image.Name))
      remove(ec2, image)
    end
  end
end

-- A forced rebuild cannot have the name of the image that must stay until the
-- new one is there.
local function forced(spec)
  local copy = setmetatable({ name = ("%s-%s"):format(spec.name,
    time.iso(math.floor(time.now())):gsub("%D", "")) }, { __index = spec })
  return copy
end

--- The prepared image of that specification, built if there is none.
-- @param ec2 table client
-- @param spec table from dev_spec
-- @param[opt] o table force refresh keep_old instance_type max_age allow_cidr subnet
-- @return table as from base, with prepared=true
-- @return boolean whether it was built now
-- @waits
function M.ensure(ec2, spec, o)
  o = o or {}
  local _lock <close> = hg.ledger.lock("image " .. spec.name, 7200)
  local found = earlier(ec2, spec, o)
  local stale = found and o.refresh
    and hg.ledger.tag(found.Tags, "hgauto-base-ami") ~= M.base(ec2, spec.distro, spec.base_image).id
  if found and not stale then
    return as_choice(found, spec.distro), false
  end
  local image = build(ec2, (found or o.force) and forced(spec) or spec, o)
  if not o.keep_old then
    remove_others(ec2, spec, image.ImageId)
  end
  return as_choice(image, spec.distro), true
end

return M
