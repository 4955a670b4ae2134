--- Files to and from a Windows machine: SFTP where its sshd answers, else raw input of a command
-- (up), else base64 blocks through a pipeline.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local fs = require "hgauto.fs"
local log = require "hgauto.log"
local time = require "hgauto.time"
local u = require "hgauto.winrm.util"

local M = {}

local UP_BLOCK = 48 * 1024 -- 64 KiB of base64
local UP_PIPELINE = 24 * 1024 * 1024 -- of file; the service takes 50 MB a pipeline
local DOWN_BLOCK = 98202 -- fills four fragments of the service exactly
local CLEANUP = 20
local POWERSHELL = [[C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe]]
local XFER = {
  overwrite = "boolean", progress = "function", timeout = "number", via = "string",
  verify = "boolean",
}
local VIA = {
  ["s:upload"] = { auto = true, sftp = true, stdin = true, psrp = true },
  ["s:download"] = { auto = true, sftp = true, psrp = true },
}

local function source(name)
  return { name = name, text = embed.read("windows/" .. name .. ".ps1") }
end

local function options(opts, what)
  local o = u.options(opts, XFER, what)
  o.via = o.via or "auto"
  if not VIA[what][o.via] then
    u.usage("%s: option via cannot be %q", what, o.via)
  end
  return o
end

local function report(o, done, total)
  if o.progress then
    o.progress(done, total)
  end
end

local function differs(session, path, who)
  u.raise {
    kind = "remote", code = "Checksum", host = session.label,
    message = ("winrm: %s: %s"):format(path, who),
  }
end

-- ---- SFTP ----

--- C:\a\b as sshd of Windows names it.
local function sftp_path(windows)
  local path = windows:gsub("\\", "/")
  return path:find("^%a:/") and "/" .. path or path
end

--- The session's sshd, if there is one: {ssh session, root}; why not otherwise.
local function sftp_of(session)
  if not session.sftp then
    return nil, "the session knows no sshd"
  end
  local good, c, root = pcall(session.sftp)
  if good then
    return c and { ssh = c, root = root or "" }, "sshd is not ready"
  end
  if type(c) ~= "table" or c.kind == "cancelled" then
    error(c, 0)
  end
  log.info("winrm %s: files do not go over SFTP: %s", session.label, c.message)
  session.sftp = nil -- not tried again
  return nil, c.message
end

local function up_sftp(_, j, sftp)
  local c <close> = sftp.ssh
  local at = sftp.root .. sftp_path(j.dst)
  if j.o.overwrite == false and c:find(at) then
    u.raise { kind = "exists", code = "Exists", message = j.dst .. " exists" }
  end
  c:put(j.src, at, {
    verify = j.o.verify and "sha256" or "size", progress = j.o.progress, timeout = j.o.timeout,
  })
end

local function down_sftp(_, j, sftp)
  local c <close> = sftp.ssh
  local r = c:get(sftp.root .. sftp_path(j.src), j.dst, {
    verify = j.o.verify and "sha256" or "size", fsync = true, progress = j.o.progress,
    timeout = j.o.timeout,
  })
  j.total, j.sum = r.bytes, fs.sha256(j.dst)
end

-- ---- upload: raw input of a command ----

--- PowerShell takes a script on its command line as base64 of UTF-16.
local function encoded(name)
  return crypto.base64((source(name).text:gsub(".", "%0\0")))
end

--- Pieces of the file that fill one request each; the last one says so.
local function pieces(session, file, j)
  local room = session.core:payload(u.CMD)
  return function()
    local bytes = file:read(room) or ""
    j.begun, j.done = true, j.done + #bytes
    report(j.o, j.done, j.total)
    return bytes, j.done >= j.total or #bytes < room
  end
end

local function up_stdin(session, j)
  local file <close> = assert(io.open(j.src, "rb"))
  local r = session:cmd({ POWERSHELL, "-NoProfile", "-NonInteractive", "-InputFormat", "None",
    "-EncodedCommand", encoded("upload-stdin") }, {
    env = {
      HGA_PATH = j.dst, HGA_PART = j.part, HGA_SIZE = ("%d"):format(j.total), HGA_SHA256 = j.sum,
      HGA_OVERWRITE = j.o.overwrite == false and "0" or "1",
    },
    stdin = pieces(session, file, j), timeout = j.o.timeout, check = false,
  })
  if not r.ok then
    local why = core.stderr(r.stderr):match("^%s*([^\r\n]*)")
    u.raise {
      kind = "remote", code = "ScriptFailed", host = session.label, result = r,
      message = ("winrm upload to %s: %s"):format(session.label,
        why ~= "" and why or ("exited with code %d"):format(r.code)),
    }
  end
  local size, sum = r.stdout:match("^(%d+) (%x+)")
  if math.tointeger(tonumber(size)) ~= j.total or sum ~= j.sum then
    differs(session, j.dst, "the machine has other content than was sent")
  end
end

-- ---- upload: a pipeline's input ----

local function blocks(file, j)
  local left = UP_PIPELINE
  return function()
    if left <= 0 then
      return nil
    end
    local bytes = file:read(UP_BLOCK)
    if not bytes or bytes == "" then
      return nil
    end
    j.begun = true
    left, j.done = left - #bytes, j.done + #bytes
    report(j.o, j.done, j.total)
    return crypto.base64(bytes)
  end
end

local function up_psrp(session, j)
  local up, first, last = source("upload-psrp"), true
  local file <close> = assert(io.open(j.src, "rb"))
  repeat
    local final = j.total - j.done <= UP_PIPELINE
    local r = session:ps(up, {
      timeout = j.o.timeout, input = blocks(file, j), errors = "stop",
      params = {
        Path = j.dst, Part = j.part, Size = j.total, Sha256 = j.sum, First = first, Last = final,
        Overwrite = j.o.overwrite ~= false,
      },
    })
    first, last = false, r.output[1]
  until final
  if type(last) ~= "table" or last.Size ~= j.total or last.Sha256 ~= j.sum then
    differs(session, j.dst, "the machine has other content than was sent")
  end
end

local UP = { sftp = up_sftp, stdin = up_stdin, psrp = up_psrp }

--- Runs one way of uploading; a program that was killed leaves its part, so we remove it.
local function try_up(session, j, via, sftp)
  j.begun, j.done = false, 0
  j.part = ".hga-" .. crypto.token():sub(1, 8) .. ".part"
  local whole = false
  local _d <close> = async.defer(function()
    if not whole and j.begun and via ~= "sftp" then
      u.quietly(session.ps, session, source("remove"), { params = { Path = j.dst .. j.part } })
    end
  end, CLEANUP)
  UP[via](session, j, sftp)
  whole = true
end

--- Copies a local file to the machine; the target appears whole or not at all.
function M.upload(session, src, dst, opts)
  local o, started = options(opts, "s:upload"), time.mono()
  local j = { src = src, dst = dst, o = o, total = assert(fs.stat(src)).size, sum = fs.sha256(src) }
  local via, sftp = o.via, nil
  if via == "auto" or via == "sftp" then
    local why
    sftp, why = sftp_of(session)
    if via == "sftp" and not sftp then
      u.usage("s:upload: no SFTP to %s: %s", session.label, why)
    end
    via = sftp and "sftp" or "stdin"
  end
  local good, e = pcall(try_up, session, j, via, sftp)
  if not good and o.via == "auto" and via == "stdin" and not j.begun
    and type(e) == "table" and (e.kind == "remote" or e.kind == "protocol") then
    log.info("winrm %s: upload through a pipeline: %s", session.label, e.message)
    via = "psrp"
    good, e = pcall(try_up, session, j, via)
  end
  if not good then
    error(e, 0)
  end
  return { bytes = j.total, sha256 = j.sum, seconds = time.mono() - started, via = via }
end

-- ---- download ----

local function receive(session, j, file)
  local done, final = 0, nil
  session:ps(source("download"), {
    timeout = j.o.timeout, params = { Path = j.src, Block = DOWN_BLOCK }, collect = false,
    errors = "stop",
    on_output = function(v)
      if type(v) == "table" then
        final = v
        return
      end
      local bytes = crypto.unbase64(v)
      assert(file:write(bytes))
      done = done + #bytes
      report(j.o, done)
    end,
  })
  return done, final
end

local function down_psrp(session, j)
  local temp = j.dst .. ".hga-" .. crypto.token():sub(1, 8) .. ".part"
  local file <close> = assert(io.open(temp, "wb"))
  local good, e = pcall(function()
    local done, final = receive(session, j, file)
    assert(file:close())
    if not final or final.Size ~= done or final.Sha256 ~= fs.sha256(temp) then
      differs(session, j.src, "other content arrived than the machine has")
    end
    fs.chmod(temp, 438 & ~fs.umask())
    fs.append(temp, "", { sync = true })
    fs.rename(temp, j.dst)
    j.total, j.sum = done, final.Sha256
  end)
  if not good then
    os.remove(temp)
    error(e, 0)
  end
end

--- Copies a file of the machine here; the target appears whole or not at all.
function M.download(session, src, dst, opts)
  local o, started = options(opts, "s:download"), time.mono()
  local j = { src = src, dst = dst, o = o }
  if o.overwrite == false and fs.exists(dst) then
    u.raise { kind = "exists", code = "Exists", message = dst .. " exists" }
  end
  local sftp, why
  if o.via ~= "psrp" then
    sftp, why = sftp_of(session)
    if o.via == "sftp" and not sftp then
      u.usage("s:download: no SFTP to %s: %s", session.label, why)
    end
  end
  if sftp then
    down_sftp(session, j, sftp)
  else
    down_psrp(session, j)
  end
  return { bytes = j.total, sha256 = j.sum, seconds = time.mono() - started,
    via = sftp and "sftp" or "psrp" }
end

return M
