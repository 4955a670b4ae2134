--- What a person is told at Ctrl-C (the ladder itself is the host's).
local M = {}

--- Registers the lines said at the first and second press.
function M.install()
  local async = require "hgauto.async"
  async.on_interrupt(function(press, name)
    local term = require "hgauto.term"
    require("hg.events").emit("cancel", { by = name, press = press })
    if press == 1 then
      local what = name == "INT" and "press again not to wait" or ("SIG" .. name)
      local session = package.loaded["hg.session"]
      if session and session.run then
        term.err(("cancelling, removing what this run made (%s)\n"):format(what))
      end
    elseif press == 2 then
      term.err("not waiting for clean-up any more\n")
    end
  end)
end

return M
