--- Tells the sweep of each piece of remote work before it is "done", which is where
--- the process may be ended, too.  Without one nobody is told.
local host = require "hgauto.host"
local http = require "hgauto.http"

--- Returns when the sweep lets the work go on.
-- @param what string
-- @waits
return function(what)
  local relay = host.getenv "HGAUTO_SWEEP_RELAY"
  if relay then
    http.request { method = "GET", timeout = 60, url = ("%s/_remote/%s"):format(relay, what) }
  end
end
