--- Test library for `hgauto test`: prints TAP, one file per process.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local term = require "hgauto.term"

local M = {}
local n, failed, dirs = 0, 0, {}
local SKIP = setmetatable({}, { __name = "hg.tap.skip" })

local function say(fmt, ...)
  term.out(fmt:format(...) .. "\n")
end

local function show(v)
  if type(v) == "string" then
    return ("%q"):format(v):gsub("\\\n", "\\n")
  end
  if type(v) ~= "table" then
    return tostring(v)
  end
  local keys, parts = {}, {}
  for k in pairs(v) do
    keys[#keys + 1] = k
  end
  table.sort(keys, function(a, b)
    return tostring(a) < tostring(b)
  end)
  for _, k in ipairs(keys) do
    parts[#parts + 1] = tostring(k) .. "=" .. show(v[k])
    if #parts > 40 then
      parts[#parts + 1] = "…"
      break
    end
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function same(a, b)
  if a == b then
    return math.type(a) == math.type(b) or type(a) ~= "number" or a == b
  end
  if type(a) ~= "table" or type(b) ~= "table" then
    return false
  end
  for k, v in next, a do
    if not same(v, rawget(b, k)) then
      return false
    end
  end
  for k in next, b do
    if rawget(a, k) == nil then
      return false
    end
  end
  return true
end

--- Asserts that a value is true.
-- @param cond any
-- @param name string
-- @return boolean
function M.ok(cond, name)
  n = n + 1
  if cond then
    say("ok %d - %s", n, name or "")
    return true
  end
  failed = failed + 1
  local info = debug.getinfo(2, "Sl")
  say("not ok %d - %s\n# at %s:%d", n, name or "", info and info.short_src or "?",
    info and info.currentline or 0)
  return false
end

--- Asserts deep equality (raw tables).
-- @param got any
-- @param want any
-- @param name string
-- @return boolean
function M.is(got, want, name)
  local good = same(got, want)
  if not M.ok(good, name) then
    say("#  got: %s", (show(got):gsub("\n", "\n#       ")))
    say("# want: %s", (show(want):gsub("\n", "\n#       ")))
  end
  return good
end

--- Asserts that a text matches a Lua pattern.
-- @param text string
-- @param pattern string
-- @param name string
-- @return boolean
function M.like(text, pattern, name)
  local good = type(text) == "string" and text:find(pattern) ~= nil
  if not M.ok(good, name) then
    say("#     got: %s", (show(text):gsub("\n", "\n#          ")))
    say("# pattern: %s", pattern)
  end
  return good
end

--- Asserts that fn raises an error with these fields.
-- @param fn function
-- @param want table kind, code, match (pattern of tostring); all optional
-- @param name string
-- @return any the error
function M.raises(fn, want, name)
  local good, err = pcall(fn)
  if good then
    M.ok(false, name)
    say("# nothing was raised")
    return nil
  end
  local function field(key)
    return type(err) == "table" and err[key] or nil
  end
  local fits = (not want.kind or field("kind") == want.kind)
    and (not want.code or field("code") == want.code)
    and (not want.match or tostring(err):find(want.match) ~= nil)
  if not M.ok(fits, name) then
    say("# raised: %s (kind %s, code %s)", (tostring(err):gsub("\n", "\n# ")), field("kind"),
      field("code"))
    say("#   want: %s", show(want))
  end
  return err
end

--- Prints a diagnostic line.
-- @param fmt string
function M.diag(fmt, ...)
  local text = select("#", ...) > 0 and fmt:format(...) or fmt
  say("# %s", (text:gsub("\n", "\n# ")))
end

--- Skips: inside a test the rest of it, at top level the whole file.
-- @param why string reason and what to install
function M.skip(why)
  error(setmetatable({ why = why }, SKIP), 0)
end

--- Whether AddressSanitizer is in this program: it keeps what was freed for a
-- while, so that memory cannot be judged.
-- @return boolean
function M.sanitized()
  return require("hgauto.fs").read("/proc/self/maps"):find("libasan", 1, true) ~= nil
end

--- Runs one test; an error fails it, later tests still run.
-- @param name string a sentence
-- @param fn function may wait
function M.test(name, fn)
  local before = failed
  local good, err = xpcall(fn, function(e)
    if getmetatable(e) == SKIP then
      return e
    end
    if type(e) == "table" and e.traceback then
      return e
    end
    return type(e) == "table" and e or debug.traceback(tostring(e), 2)
  end)
  if good then
    return
  end
  if getmetatable(err) == SKIP then
    n = n + 1
    say("ok %d - %s # SKIP %s", n, name, err.why)
    return
  end
  if type(err) == "table" and err.kind == "cancelled" then
    error(err, 0)
  end
  n, failed = n + 1, failed + 1
  say("not ok %d - %s", n, name)
  local text = tostring(err)
  if type(err) == "table" and err.traceback then
    text = text .. "\n" .. err.traceback
  end
  say("# %s", (text:gsub("\n", "\n# ")))
  return before == failed
end

--- A temporary directory, removed at the end of the file.
-- @return string
function M.tmpdir()
  local dir = fs.tmpdir(host.getenv("TMPDIR") or "/tmp", "hgauto-test-")
  dirs[#dirs + 1] = dir
  return dir
end

--- Directory with third-party vectors, or nil when absent.
-- @return string|nil
function M.vectors()
  local dir = host.getenv("HGAUTO_VECTORS") or "../shared/vectors"
  return fs.exists(dir) and dir or nil
end

--- Waits until fn returns something true, at most `limit` (10) seconds.
-- @param fn function
-- @param[opt] limit number
-- @return any its value, or nil
function M.eventually(fn, limit)
  local time = require "hgauto.time"
  local ends = time.mono() + (limit or 10)
  repeat
    local v = fn()
    if v then
      return v
    end
    async.sleep(0.02)
  until time.mono() > ends
  return nil
end

--- Removes temporary directories.
function M.cleanup()
  for i = #dirs, 1, -1 do
    fs.remove(dirs[i], { tree = true })
    dirs[i] = nil
  end
end

--- Ends the file: the plan; `return t.done()`.
-- @return boolean true when all passed
function M.done()
  M.cleanup()
  say("1..%d", n)
  return failed == 0
end

--- For `hgauto test`: runs the function of a test file.
-- @param chunk function
-- @return boolean
function M.run_file(chunk)
  local good, result = xpcall(chunk, function(e)
    if type(e) == "table" then
      return e
    end
    return debug.traceback(tostring(e), 2)
  end)
  if good then
    return result == true
  end
  M.cleanup()
  if getmetatable(result) == SKIP then
    say("1..0 # SKIP %s", result.why)
    return failed == 0
  end
  if type(result) == "table" and result.kind == "cancelled" then
    error(result, 0)
  end
  local text = tostring(result)
  if type(result) == "table" and result.traceback then
    text = text .. "\n" .. result.traceback
  end
  say("not ok %d - the file runs to its end\n# %s", n + 1, (text:gsub("\n", "\n# ")))
  say("1..%d", n + 1)
  return false
end

return M
