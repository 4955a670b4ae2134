-- A task that keeps a machine busy until a file appears.
local hg = require "hg"

return hg.task {
  help = "Hold a machine until a file is there.",
  args = { hg.arg.string { name = "file", required = true, help = "what is waited for" } },
  run = function(ctx, args)
    local fs = require "hgauto.fs"
    local m <close> = hg.machines.linux { allow_cidr = { "127.0.0.1/32" } }
    fs.write(args.file .. ".machine", m.id)
    hg.wait { what = args.file, every = 0.05, timeout = 120, poll = function()
      return fs.exists(args.file)
    end }
    m:exec "true"
    ctx:log "still there"
  end,
}
