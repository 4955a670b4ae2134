--- Builds Mercurial's wheel, source archive and Debian package on temporary
--- Linux machines.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"

local KINDS = { "wheel", "sdist", "deb" }

-- What is asked for, in the order in which it is built, once each.
local function kinds_of(words)
  local wanted, list = {}, {}
  for _, word in ipairs(words) do
    wanted[word] = true
  end
  for _, kind in ipairs(KINDS) do
    if wanted[kind] or wanted.all then
      list[#list + 1] = kind
    end
  end
  return list
end

local function packages_for(kinds)
  local list = { table.unpack(hg.facts.packages.build) }
  for _, kind in ipairs(kinds) do
    if kind == "deb" then
      table.move(hg.facts.packages.deb, 1, #hg.facts.packages.deb, #list + 1, list)
    end
  end
  return list
end

-- One distribution: a machine, the artifacts, its end.
local function build(ctx, args, source, distro, kinds)
  local m <close> = ctx:step("machine", hg.machines.linux, {
    distro = distro, image = args.image, base_image = args.base_image,
    instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
    subnet = args.subnet, allow_owner = args.allow_owner, label = distro,
  })
  ctx:step("bootstrap", hg.linux.bootstrap, m, { packages = packages_for(kinds) })
  ctx:step("sync", hg.mercurial.sync, m, source)
  -- With uncommitted changes the version is another one than the tag's.
  local built, version = {}, not args.dirty and source.tag or nil
  for _, kind in ipairs(kinds) do
    built[#built + 1] = ctx:step(kind, hg.linux.build, m, kind,
      { node = source.node, isolation = args.isolation, manylinux = args.manylinux })
  end
  version = ctx:step("verify", function()
    local seen = version
    for _, artifact in ipairs(built) do
      local v = hg.linux.verify(m, artifact)
      seen = seen or v
      if v ~= seen then
        hg.fail { kind = "task", message = ("%s is version %s, expected %s")
          :format(artifact.name, v, seen) }
      end
    end
    return seen
  end)
  ctx:step("fetch", { resume = false }, function()
    for _, artifact in ipairs(built) do
      local file = hg.artifacts.fetch(m, artifact.path, args.dist_path)
      ctx:artifact(file.path, { sha256 = file.sha256 })
      ctx:log("%s  %s", file.sha256, file.name)
      hg.artifacts.record(args.dist_path, { hg.artifacts.entry(file, {
        kind = artifact.kind, version = version, node = source.node, branch = source.branch,
        revision = args.revision, os = "linux", distro = distro, arch = m.arch,
        image = m.image, base_image = m.base_image, run = ctx.run, simulated = m.simulated,
      }) })
    end
  end)
  ctx:step("terminate", m.close, m)
  return version
end

return hg.task {
  help = "Build Mercurial's wheel, source archive and Debian package on a Linux machine.",
  args = tasks.join({
    arg.enum { name = "kind", "wheel", "sdist", "deb", "all", positional = true, multiple = true,
      default = { "wheel", "sdist" }, help = "what to build" },
    arg.string { name = "distro", multiple = true, default = { "debian13" },
      help = "base image of the machine; each gets one" },
    arg.enum { name = "isolation", "auto", "yes", "no", default = "auto",
      help = "build requirements from PyPI: when lacking, always, never" },
    arg.flag { name = "manylinux", help = "tag the wheel by what it needs of the C library" },
    arg.path { name = "dist-path", default = "dist", metavar = "DIR", help = "where artifacts go" },
  }, tasks.source_args(), tasks.machine_args()),
  needs = hg.policy.needs.linux,
  example = "hgauto run --local build-linux --source apt",

  run = function(ctx, args)
    hg.images.check_linux(args.distro)
    hg.artifacts.prepare(args.dist_path)
    local source = ctx:step("source", hg.mercurial.resolve, {
      source = args.source, revision = args.revision, dirty = args.dirty, hg = args.hg,
      version_hint = args.version_hint,
    })
    local kinds = kinds_of(args.kind)
    local version
    if #args.distro == 1 then
      version = build(ctx, args, source, args.distro[1], kinds)
    else
      version = ctx:parallel(args.distro, function(distro)
        return build(ctx, args, source, distro, kinds)
      end)[1]
    end
    return { node = source.node, version = version, artifacts = ctx.artifacts }
  end,
}
