-- User data of Windows machines, and what the local cloud understands of it.
local t = require "hg.tap"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local windows = require "hg.windows"
local winmachine = require "localcloud.winmachine"

t.test("passwords", function()
  local seen = {}
  for _ = 1, 50 do
    local p = windows.password():reveal()
    t.ok(#p == 24 and p:find("%l") and p:find("%u") and p:find("%d") and p:find("[!#%%+=_.-]")
      and not p:find("[^%w!#%%+=_.-]") and not seen[p], "complex, of the alphabet, new")
    seen[p] = true
  end
end)

t.test("values are data, whatever is in them", function()
  local id = windows.identity()
  local hostile = "it's \"$(calc)\" `n\n@} </powershell>\0\xff"
  id.password, id.token = crypto.secret(hostile), hostile
  local text = windows.user_data(id, { expires = 1800000000, authorized_keys = hostile })
  t.ok(#text <= 16000, ("%d bytes fit"):format(#text))
  t.ok(not text:find("calc", 1, true), "the value is not in the text")
  local _, ends = text:gsub("</powershell>", "")
  t.is(ends, 1, "the script ends once")
  local v = winmachine.parse(text)
  t.is({ v.Password, v.Token, v.AuthorizedKeys, v.Expires },
    { hostile, hostile, hostile, 1800000000 }, "they come out as they went in")
  local read = crypto.pfx_read(v.Pfx, v.PfxPassword)
  t.is(read.cert, id.cert, "certificate out of the PFX")
  t.is(crypto.certificate_pin(read.cert), id.pin, "its pin")
  t.raises(function() crypto.pfx_read(v.Pfx, "wrong") end, { kind = "usage", match = "password" },
    "wrong password")
  t.raises(function() crypto.pfx_read(v.Pfx:sub(1, -9), v.PfxPassword) end, { kind = "usage" },
    "cut PFX")
  t.raises(function()
    windows.user_data(id, { expires = 1, authorized_keys = ("k"):rep(12000) })
  end, { kind = "usage", match = "16000 at most" }, "too long")
  local _, why = winmachine.parse((text:gsub("  Token = [^\n]*\n", "")))
  t.like(why, "no Token", "a missing value closes the machine")
  t.like(select(2, winmachine.parse("<powershell>\nls\n</powershell>")), "not made by hgauto",
    "any other script, too")
end)

t.test("as rendered it is PowerShell", function()
  local pscheck = dofile "tests/tools/pscheck/pscheck.lua"
  local hostile = "it's \"$(calc)\" `n\n@} </powershell>"
  local text = windows.user_data(windows.identity(), { expires = 1, authorized_keys = hostile })
  local plain = text:gsub("</?powershell>\n", "")
  local e = pscheck.check(plain)[1]
  t.ok(not e, "brackets and quotes match " .. (e and e.message or ""))
  t.ok(#pscheck.check((plain:gsub("} @hga", " @hga"))) > 0, "a missing one is seen")
  local build = host.getenv "BUILD" or "build"
  local modules = build .. "/pscheck/node_modules"
  if not (fs.exists(modules) and proc.which "node") then
    t.diag("the grammar is not here (sh tests/tools/pscheck/install.sh build/pscheck)")
    return
  end
  local file = t.tmpdir() .. "/userdata.ps1"
  local function grammar(code)
    fs.write(file, code)
    return proc.run({ "node", "tests/tools/pscheck/grammar.mjs", modules, file }, { check = false })
  end
  local r = grammar(text)
  t.ok(r.code == 0, "the grammar understands it " .. r.out)
  t.is(grammar((text:gsub("} @hga", " @hga"))).code, 1, "and not a broken one")
end)

t.test("damaged user data closes the machine, and nothing worse", function()
  local seed = os.time()
  math.randomseed(seed)
  local text = windows.user_data(windows.identity(), { expires = 1, authorized_keys = "k" })
  local bad = 0
  for _ = 1, 2000 do
    local at, n = math.random(#text), math.random(0, 40)
    local noise = {}
    for i = 1, math.random(0, 4) do
      noise[i] = string.char(math.random(0, 255))
    end
    local ok, values, why = pcall(winmachine.parse,
      text:sub(1, at) .. table.concat(noise) .. text:sub(at + n))
    local fine = ok and (type(values) == "table" and type(values.Password) == "string"
      or values == nil and type(why) == "string")
    bad = bad + (fine and 0 or 1)
  end
  t.is(bad, 0, ("2000 damaged texts (seed %d)"):format(seed))
end)

t.test("sources: parameters first, ASCII", function()
  local n = 0
  for _, file in ipairs(embed.list("windows/")) do
    local text, name = embed.read(file), file:match("([^/]+)%.ps1$")
    t.ok(not text:find("[^\n\32-\126]") and text:sub(-1) == "\n", name .. ": ASCII, LF, final LF")
    if name ~= "lib" then
      t.ok(windows.ps(name).order and text:find("^param%(\n"), name .. ": begins with parameters")
      n = n + 1
    end
  end
  t.ok(n >= 20, ("%d sources"):format(n))
end)

return t.done()
