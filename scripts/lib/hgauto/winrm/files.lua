--- Files to and from a Windows machine without sshd: base64 blocks through a pipeline.
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local fs = require "hgauto.fs"
local time = require "hgauto.time"
local u = require "hgauto.winrm.util"

local M = {}

local UP_BLOCK = 48 * 1024 -- 64 KiB of base64
local UP_PIPELINE = 24 * 1024 * 1024 -- of file; the service takes 50 MB a pipeline
local DOWN_BLOCK = 98202 -- fills four fragments of the service exactly
local XFER = { overwrite = "boolean", progress = "function", timeout = "number" }

local function source(name)
  return { name = name, text = embed.read("windows/" .. name .. ".ps1") }
end

local function blocks(file, total, state, progress)
  local left = UP_PIPELINE
  return function()
    if left <= 0 then
      return nil
    end
    local bytes = file:read(UP_BLOCK)
    if not bytes or bytes == "" then
      state.eof = true
      return nil
    end
    left, state.done = left - #bytes, state.done + #bytes
    if progress then
      progress(state.done, total)
    end
    return crypto.base64(bytes)
  end
end

--- Copies a local file to the machine; the target appears whole or not at all.
function M.upload(session, src, dst, opts)
  local o = u.options(opts, XFER, "s:upload")
  local started = time.mono()
  local total, sum = assert(fs.stat(src)).size, fs.sha256(src)
  local part = ".hga-" .. crypto.token():sub(1, 8) .. ".part"
  local state, up, first = { done = 0 }, source("upload"), true
  local file <close> = assert(io.open(src, "rb"))
  local last_output
  repeat
    local final = total - state.done <= UP_PIPELINE
    local r = session:ps(up, {
      timeout = o.timeout, input = blocks(file, total, state, o.progress), errors = "stop",
      params = {
        Path = dst, Part = part, Size = total, Sha256 = sum, First = first, Last = final,
        Overwrite = o.overwrite ~= false,
      },
    })
    first, last_output = false, r.output[1]
  until final
  if type(last_output) ~= "table" or last_output.Size ~= total or last_output.Sha256 ~= sum then
    u.raise {
      kind = "remote", code = "Checksum", host = session.label,
      message = ("winrm: %s: the machine has other content than was sent"):format(dst),
    }
  end
  return { bytes = total, sha256 = sum, seconds = time.mono() - started, via = "psrp" }
end

--- Copies a file of the machine here; the target appears whole or not at all.
function M.download(session, src, dst, opts)
  local o = u.options(opts, XFER, "s:download")
  local started = time.mono()
  if o.overwrite == false and fs.exists(dst) then
    u.raise { kind = "exists", code = "Exists", message = dst .. " exists" }
  end
  local temp = dst .. ".hga-" .. crypto.token():sub(1, 8) .. ".part"
  local file = assert(io.open(temp, "wb"))
  local done, final = 0, nil
  local good, e = pcall(function()
    session:ps(source("download"), {
      timeout = o.timeout, params = { Path = src, Block = DOWN_BLOCK }, collect = false,
      errors = "stop",
      on_output = function(v)
        if type(v) == "table" then
          final = v
          return
        end
        local bytes = crypto.unbase64(v)
        assert(file:write(bytes))
        done = done + #bytes
        if o.progress then
          o.progress(done)
        end
      end,
    })
    assert(file:close())
    if not final or final.Size ~= done or final.Sha256 ~= fs.sha256(temp) then
      u.raise {
        kind = "remote", code = "Checksum", host = session.label,
        message = ("winrm: %s: other content arrived than the machine has"):format(src),
      }
    end
    fs.rename(temp, dst)
  end)
  if not good then
    file:close()
    os.remove(temp)
    error(e, 0)
  end
  return { bytes = done, sha256 = final.Sha256, seconds = time.mono() - started, via = "psrp" }
end

return M
