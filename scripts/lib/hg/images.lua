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

-- Owners that an image may have: the publisher, those the user allows, and for an
-- image that the user names ("self") this account.
local function owners_of(fact, more, own)
  local list, known = { fact.owner }, { [fact.owner] = true }
  for _, id in ipairs(more or {}) do
    if not id:match "^%d%d%d%d%d%d%d%d%d%d%d%d$" then
      hg.fail { kind = "usage",
        message = ('--allow-owner: "%s" is no account number of 12 digits'):format(id) }
    end
    list[#list + 1], known[id] = id, true
  end
  if own then
    local account = require("hgauto.aws").account({}).Account
    list[#list + 1], known[account] = "self", true
  end
  return list, known
end

-- The id that a public parameter of Systems Manager names.
local function from_parameter(fact, override)
  local path = override:sub(5)
  path = path ~= "" and path or fact.ssm
  if path:sub(1, 5) ~= "/aws/" then
    hg.fail { kind = "usage",
      message = ("--base-image %s: public parameters begin with /aws/"):format(override) }
  end
  local value = require("hgauto.aws").client("ssm"):get_parameter({ Name = path }).Parameter.Value
  if not (value or ""):match "^ami%-%x+$" then
    hg.fail { kind = "task", message = ("%s is no AMI id but %s"):format(path, tostring(value)) }
  end
  return value
end

local function check_override(override)
  if override ~= nil and type(override) ~= "string" then
    hg.fail { kind = "usage", exit = 1, message = ("base_image is a name pattern or an AMI id, not"
      .. " a %s"):format(type(override)) }
  end
end

-- What DescribeImages is asked for: always somebody's images.
local function question(fact, owners, override)
  if override and override:match "^ami%-%x+$" then
    return { Owners = owners, ImageIds = { override } }
  end
  return { Owners = owners, Filters = {
    { Name = "name", Values = { override or fact.pattern } },
    { Name = "state", Values = { "available" } },
    { Name = "architecture", Values = { fact.architecture or "x86_64" } },
    { Name = "image-type", Values = { "machine" } },
  } }
end

local function no_image(name, owners, what)
  hg.fail {
    kind = "task", message = ("no base image for %s (owner %s, name %s)"):format(name,
      table.concat(owners, ", "), what),
    hint = "another one: --base-image PATTERN, ami-… or ssm:/aws/…; of another owner:"
      .. " --allow-owner ID",
  }
end

local function newest_of(ec2, fact, name, o)
  local owners, known = owners_of(fact, o.owners, o.own)
  local newest
  for _, image in ipairs(ec2:describe_images(question(fact, owners, o.override)).Images) do
    local fits = known[image.OwnerId] and image.State == "available"
      and image.Architecture == (fact.architecture or "x86_64")
      and (o.override or not fact.strict or (image.Name or ""):match(fact.strict))
    if fits and (not newest or (image.CreationDate or "") > (newest.CreationDate or "")) then
      newest = image
    end
  end
  return newest or no_image(name, owners, o.shown or o.override or fact.pattern)
end

--- The newest base image of that name.
-- @param ec2 table client
-- @param name string such as "debian13"
-- @param[opt] override string instead of the fact's pattern: a name pattern, an AMI id, or
--   ssm:/aws/… ("ssm:" alone: the publisher's parameter for it)
-- @param[opt] owners string[] accounts whose images are taken, too
-- @return table image {id, root_device, user, name, architecture}
-- @raise usage unknown or vanished base; task no image
-- @waits
function M.base(ec2, name, override, owners)
  local fact = hg.facts.images[name] or M.unknown(name)
  check_override(override)
  local shown = override
  if override and override:sub(1, 4) == "ssm:" then
    override = from_parameter(fact, override)
  end
  local image = newest_of(ec2, fact, name, { override = override, owners = owners, shown = shown })
  return { id = image.ImageId, root_device = image.RootDeviceName, user = fact.user,
    name = image.Name, architecture = image.Architecture }
end

--- An image that the user names: of this account, of the publisher, or of an owner
--- that is allowed.
-- @param ec2 table client
-- @param name string whose kind it is, such as "debian13"
-- @param id string ami-…
-- @param[opt] owners string[]
-- @return table as from base; prepared=true for one that hgauto made
-- @waits
function M.named(ec2, name, id, owners)
  local fact = hg.facts.images[name] or M.unknown(name)
  local image = newest_of(ec2, fact, name, { override = id, owners = owners, own = true })
  return { id = image.ImageId, root_device = image.RootDeviceName, user = fact.user,
    name = image.Name, architecture = image.Architecture,
    base_name = hg.ledger.tag(image.Tags, "hgauto-base-name"),
    prepared = hg.ledger.tag(image.Tags, "hgauto:v") ~= nil and image.OwnerId ~= fact.owner }
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
      label = spec.distro, allow_owner = spec.owners,
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
-- @param[opt] o table extras=boolean extra=text of a script of the user's, pattern=base image,
--   owners=accounts whose base images are taken, too
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
    base = { owner = fact.owner, pattern = o.pattern or fact.pattern,
      others = o.owners and #o.owners > 0 and o.owners or nil },
    root = { size = 16, type = "gp3" },
    extra = o.extra and crypto.sha256(o.extra) or "",
  })
  local spec = { distro = distro, packages = packages, extra = o.extra, fingerprint = fingerprint,
    base_image = o.pattern, owners = o.owners, prefix = ("hg-linux-dev-%s-"):format(distro),
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

local KINDS = { dev = true, auto = true, base = true }

--- What a value of --image asks for.
-- @param value string|nil
-- @return string "ami" (an id), "dev", "auto" or "base"
-- @raise usage
function M.kind(value)
  local kind = value or "auto"
  if kind:match "^ami%-%x+$" then
    return "ami"
  elseif not KINDS[kind] then
    hg.fail { kind = "usage", message = ("--image %s: dev, auto, base or ami-…"):format(kind) }
  end
  return kind
end

--- The image for a machine.
-- @param ec2 table client
-- @param distro string
-- @param o table image="auto"|"dev"|"base"|"ami-…" base_image= owners=, and of the machine
--   that an image is made on allow_cidr= subnet=
-- @return table as from base
-- @waits
function M.choose(ec2, distro, o)
  local kind = M.kind(o.image)
  if kind == "ami" then
    return M.named(ec2, distro, o.image, o.owners)
  elseif kind == "base" then
    return M.base(ec2, distro, o.base_image, o.owners)
  end
  local spec = M.dev_spec(distro, { pattern = o.base_image, owners = o.owners })
  local found = M.find(ec2, spec)
  if not found and kind == "dev" then
    found = M.ensure(ec2, spec, { allow_cidr = o.allow_cidr, subnet = o.subnet })
  end
  if found and time.now() - (time.parse(found.created or "") or time.now()) > OLD then
    out.warn(("image %s is older than 90 days; hgauto bootstrap-linux-dev --refresh-base renews it")
      :format(found.name))
  end
  return found or M.base(ec2, distro, o.base_image, o.owners)
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
  local base = M.base(ec2, spec.distro, spec.base_image, spec.owners)
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
    and hg.ledger.tag(found.Tags, "hgauto-base-ami") ~= M.base(ec2, spec.distro, spec.base_image,
      spec.owners).id
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
