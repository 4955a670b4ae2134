--- Builds Mercurial's wheel and source archive on a temporary Linux machine.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"

local KINDS = { "wheel", "sdist" }

local function unique(kinds)
  local seen, out = {}, {}
  for _, kind in ipairs(kinds) do
    if not seen[kind] then
      seen[kind] = true
      out[#out + 1] = kind
    end
  end
  return out
end

return hg.task {
  help = "Build Mercurial's wheel and source archive on a temporary Linux machine.",
  args = tasks.join({
    arg.enum { name = "kind", "wheel", "sdist", positional = true, multiple = true,
      default = KINDS, help = "what to build" },
    arg.string { name = "distro", default = "debian13", help = "base image of the machine" },
    arg.enum { name = "isolation", "auto", "yes", "no", default = "auto",
      help = "build requirements from PyPI: when lacking, always, never" },
    arg.path { name = "dist-path", default = "dist", metavar = "DIR", help = "where artifacts go" },
  }, tasks.source_args(), tasks.machine_args()),
  needs = { "ec2:RunInstances", "ec2:TerminateInstances", "ec2:Describe*", "ec2:CreateTags",
    "ec2:ImportKeyPair", "ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress",
    "ec2:RevokeSecurityGroupIngress", "sts:GetCallerIdentity" },
  example = "hgauto run --local build-linux --source apt",

  run = function(ctx, args)
    hg.artifacts.prepare(args.dist_path)
    local source = ctx:step("source", hg.mercurial.resolve, {
      source = args.source, revision = args.revision, dirty = args.dirty, hg = args.hg,
      version_hint = args.version_hint,
    })
    local m <close> = ctx:step("machine", hg.machines.linux, {
      distro = args.distro, base_image = args.base_image, instance_type = args.instance_type,
      max_age = args.max_age, allow_cidr = args.allow_cidr, subnet = args.subnet,
      label = args.distro,
    })
    ctx:step("bootstrap", hg.linux.bootstrap, m, { packages = hg.facts.packages.build })
    ctx:step("sync", hg.mercurial.sync, m, source)
    -- With uncommitted changes the version is another one than the tag's.
    local built, version = {}, not args.dirty and source.tag or nil
    for _, kind in ipairs(unique(args.kind)) do
      built[#built + 1] = ctx:step(kind, hg.linux.build, m, kind,
        { node = source.node, isolation = args.isolation })
    end
    ctx:step("verify", function()
      for _, artifact in ipairs(built) do
        local v = hg.linux.verify(m, artifact)
        version = version or v
        if v ~= version then
          hg.fail { kind = "task", message = ("%s is version %s, expected %s")
            :format(artifact.name, v, version) }
        end
      end
    end)
    ctx:step("fetch", function()
      local entries = {}
      for _, artifact in ipairs(built) do
        local file = hg.artifacts.fetch(m, artifact.path, args.dist_path)
        ctx:artifact(file.path, { sha256 = file.sha256 })
        ctx:log("%s  %s", file.sha256, file.name)
        entries[#entries + 1] = hg.artifacts.entry(file, {
          kind = artifact.kind, version = version, node = source.node, branch = source.branch,
          revision = args.revision, os = "linux", distro = args.distro, arch = m.arch,
          image = m.image, base_image = m.base_image, run = ctx.run, simulated = m.simulated,
        })
        hg.artifacts.record(args.dist_path, { entries[#entries] })
      end
    end)
    ctx:step("terminate", m.close, m)
    return { node = source.node, version = version, artifacts = ctx.artifacts }
  end,
}
