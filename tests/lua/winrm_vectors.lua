-- Escapes, primitives and error texts of CLIXML as another implementation knows them.
local core = require "hgauto.winrm.core"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local t = require "hg.tap"

local path = (host.getenv("HGAUTO_VECTORS") or "../shared/vectors") .. "/winrm/vectors.json"
if not fs.exists(path) then
  t.skip("no vectors: set HGAUTO_VECTORS")
end
local v = json.decode(fs.read(path))

for _, pair in ipairs(v.strings) do
  t.is(core.escape(pair[1]), pair[2], "escaped: " .. pair[2])
  t.is(core.unescape(pair[2]), pair[1], "and back")
end
for _, p in ipairs(v.primitives) do
  local tag, value, xml = p[1], p[2], p[3]
  t.is(core.decode(xml), value, xml .. " is read")
  t.is(core.decode(xml, true).t, tag, "its type")
  local text = core.decode(xml, true).v
  t.is(core.encode({ t = tag, v = text }, true), xml, "and written")
end
for i, e in ipairs(v.stderr_clixml) do
  t.is(core.stderr(e["in"]), e.text, "stderr text " .. i)
end
return t.done()
