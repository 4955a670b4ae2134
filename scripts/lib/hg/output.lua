--- What a person sees: whole lines on stderr for progress, stdout for results.
--
-- No terminal: `HH:MM:SS label step: text`.  On a terminal the same without
-- the clock.  After 30 s without a line, a lane that is busy tells why.
local async = require "hgauto.async"
local term = require "hgauto.term"
local time = require "hgauto.time"

-- silence: seconds without a line before a busy lane tells why.
-- log_bytes: how much of the run's log is written.
local M = { quiet = false, verbose = false, log = nil, silence = 30, log_bytes = 0 }

-- When a lane last had output; when a heartbeat last spoke for it.
local heard, told = {}, {}
-- Running steps by lane and path: what a heartbeat reports.
local busy = {}

local function mark(good)
  if not term.utf8() then
    return good and "ok" or "!!"
  end
  return good and "✓" or "✗"
end

local function where()
  local lane, step = async.local_get("lane"), async.local_get("step")
  local parts = {}
  if lane and lane ~= "" then
    parts[#parts + 1] = lane
  end
  if step and step ~= "" then
    parts[#parts + 1] = step
  end
  return table.concat(parts, " ")
end

local function hear()
  heard[async.local_get("lane") or ""] = time.mono()
end

local function say(text)
  if term.isatty(2) then
    term.err(text .. "\n")
  else
    term.err(time.local_text(time.now(), "%H:%M:%S") .. " " .. text .. "\n")
  end
end

local function put(text)
  hear()
  say(term.filter(text))
end

local function record(level, text)
  if M.log then
    M.log(level, async.local_get("lane") or "", async.local_get("step") or "", text)
  end
end

--- A line about the current lane and step.
-- @param text string
function M.note(text)
  record("I", text)
  if M.quiet then
    return
  end
  local at = where()
  put(at ~= "" and (at .. ": " .. text) or text)
end

--- As note, but only with -v; always in the log.
-- @param text string
function M.debug(text)
  record("D", text)
  if M.verbose then
    local at = where()
    put(at ~= "" and (at .. ": " .. text) or text)
  end
end

--- A warning; shown even with -q.
-- @param text string
function M.warn(text)
  record("W", text)
  require("hg.events").emit("message", { level = "warning", text = text })
  local at = where()
  put((at ~= "" and (at .. ": ") or "") .. "warning: " .. text)
end

--- A line that a machine printed; filtered for terminals, whole in the log.
-- @param label string lane or machine
-- @param stream string "stdout" or "stderr"
-- @param text string without newline
function M.remote(label, stream, text)
  record(stream == "stderr" and "e" or "o", text)
  hear()
  if M.quiet then
    return
  end
  local bar = term.utf8() and " │ " or " | "
  term.err((label ~= "" and label or "out") .. bar .. term.filter(text) .. "\n")
end

--- A result on stdout.
-- @param text string one line without newline
function M.result(text)
  -- With --events - stdout holds the events alone.
  if require("hg.events").on_stdout() then
    term.err(text .. "\n")
  else
    term.out(text .. "\n")
  end
end

--- Marks a step as running (heartbeats name it).
-- @param key string
-- @param t table {label=, name=, start=}
function M.begin_step(key, t)
  busy[key] = t
end

--- A step ended: prints `✓ name  detail  0:21`.
-- @param key string
-- @param good boolean
-- @param detail string|nil
function M.end_step(key, good, detail)
  local t = busy[key]
  busy[key] = nil
  if not t then
    return
  end
  local took = require("hg").format.duration(time.mono() - t.start)
  record(good and "I" or "E", ("%s %s"):format(good and "ok" or "FAILED", took))
  if M.quiet then
    return
  end
  local lane = t.lane ~= "" and (t.lane .. " ") or ""
  put(("%s %s%s%s  %s"):format(mark(good), lane, t.name, detail and ("  " .. detail) or "", took))
end

-- The innermost running steps, sorted.
local function innermost()
  local keys = {}
  for key, t in pairs(busy) do
    local inner = true
    for _, other in pairs(busy) do
      if other.lane == t.lane and other.name:sub(1, #t.name + 1) == t.name .. "/" then
        inner = false
      end
    end
    if inner then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys)
  return keys
end

local function beat(t, now)
  local format = require("hg").format
  local silent_since = math.max(t.start, heard[t.lane] or 0)
  if now - math.max(silent_since, told[t.lane] or 0) < M.silence then
    return
  end
  told[t.lane] = now
  say(("%s%s: %s, last output %s ago"):format(t.lane ~= "" and (t.lane .. " ") or "", t.name,
    format.duration(now - t.start), format.duration(now - silent_since)))
end

--- Body of the task that prints heartbeats of silent lanes; ends when cancelled.
-- @waits
function M.heartbeat()
  while true do
    async.sleep(math.min(1, M.silence))
    if not M.quiet then
      for _, key in ipairs(innermost()) do
        beat(busy[key], time.mono())
      end
    end
  end
end

return M
