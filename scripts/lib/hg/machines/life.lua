--- How every machine of ours ends: kept, closed, or at the end of its block.
--
-- The transports differ; what may still cost money must not.  A class of
-- machines brings `disconnect` (drops its sessions, never raises) and the fields
-- id, ec2; this module gives it the rest.
local async = require "hgauto.async"
local ec2m = require "hg.machines.ec2"
local hg = require "hg"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

local function keep(m)
  m.kept = true
  async.disown(m)
  ec2m.keep(m.id)
  m.record.state = "kept"
  hg.events.emit("resource", { kind = "instance", id = m.id, action = "kept" })
end

local function close(m)
  if m.closed or m.kept then
    return
  end
  m:disconnect()
  local state = async.shield(60, ec2m.terminate, m.ec2, m.id)
  m.closed = true
  async.disown(m)
  if m.forget then
    m:forget()
  end
  m.record.state, m.record.ended = "terminated", time.iso(time.now(), { ms = true })
  hg.events.emit("resource", { kind = "instance", id = m.id, action = "gone" })
  out.note(("%s %s"):format(m.id, state == "terminated" and state or "terminating"))
end

-- The end of the block that made it; with --on-error keep a failure leaves it.
local function end_of_block(m, err)
  local failed = err ~= nil and not (type(err) == "table" and err.kind == "cancelled")
  if failed and session.on_error == "keep" and not m.closed then
    m:keep()
    return
  end
  m:close()
end

--- A machine of ours begins: from now on its scope ends it, and the run's record has it.
-- @param m table machine {id, address, expires}
-- @param more table what else the record shall tell
function M.begin(m, more)
  local record = { lane = async.local_get("lane"), kind = "instance", id = m.id,
    address = m.address, started = time.iso(time.now(), { ms = true }), state = "running",
    expires = m.expires }
  for k, v in pairs(more) do
    record[k] = v
  end
  -- Ctrl-C may come between any two of these: what closes the machine needs its record.
  m.record = record
  async.own(m)
  if session.ctx then
    session.ctx:machine(record)
  end
  hg.events.emit("resource", { kind = "instance", id = m.id, action = "created",
    usd_per_hour = record.usd_per_hour })
end

--- Gives a class of machines its end.
--   m:keep()   the machine outlives the run (until its max_age)
--   m:close()  ends it and confirms that; a second call does nothing.  Not stopped
--              by cancellation; when it fails, the end of the scope tries again.
-- @param class table with disconnect(m), and forget(m) for what is known of a
--   machine that is gone
function M.give(class)
  class.keep, class.close, class.__close = keep, close, end_of_block
end

return M
