--- What a run does, as JSON lines: runs/ID/events.jsonl, and wherever --events says.
--
-- One object and one write per line; what must survive a crash is on disk when
-- it was told.  Readers ignore members they do not know and a torn last line.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local log = require "hgauto.log"
local term = require "hgauto.term"
local time = require "hgauto.time"

local M = {}

-- After these the file is synced.
local DURABLE = { ["step.end"] = true, resource = true, ["run.end"] = true }

local stream

--- Begins the stream of this process's run.
-- @param dir string directory of the run's record
-- @param[opt] also string a further file, or "-" for stdout
function M.open(dir, also)
  stream = { file = dir .. "/events.jsonl", also = also, seq = 0, start = time.mono() }
end

--- Ends the stream; what is told later goes nowhere.
function M.close()
  stream = nil
end

--- Whether stdout belongs to the events alone.
-- @return boolean
function M.on_stdout()
  return stream ~= nil and stream.also == "-"
end

--- Tells one event.
-- @param ev string "step.start", "resource", …
-- @param[opt] fields table plain data
function M.emit(ev, fields)
  local s = stream
  if not s then
    return
  end
  local e = { v = 1, seq = s.seq, t = time.iso(time.now(), { ms = true }),
    m = math.floor((time.mono() - s.start) * 1000), ev = ev }
  s.seq = s.seq + 1
  for _, name in ipairs { "lane", "step" } do
    local v = async.local_get(name)
    e[name] = v ~= "" and v or nil
  end
  for k, v in pairs(fields or {}) do
    e[k] = v
  end
  local line = log.redact(json.encode(e)) .. "\n"
  fs.append(s.file, line, { sync = DURABLE[ev] or false })
  if s.also == "-" then
    term.out(line)
  elseif s.also then
    fs.append(s.also, line)
  end
end

--- Reads the events of a record; a torn last line is left out.
-- @param dir string
-- @return table[]
function M.read(dir)
  local list, path = {}, dir .. "/events.jsonl"
  if not fs.exists(path) then
    return list
  end
  for line in fs.read(path):gmatch("[^\n]+") do
    local ok, e = pcall(json.decode, line)
    if ok and type(e) == "table" then
      list[#list + 1] = e
    end
  end
  return list
end

return M
