--- A package index: what it has of a project, and uploading to it.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local hg = require "hg"
local http = require "hgauto.http"
local json = require "hgauto.json"
local term = require "hgauto.term"
local wheel = require "hg.wheel"

local M = {}

local TRIES = 3

-- What a server said, for a message: one short line, no control characters.
local function said(body)
  local line = (body or ""):gsub("<[^>]*>", " "):gsub("%s+", " "):gsub("^ ", ""):sub(1, 160)
  return line ~= "" and ": " .. term.filter(line) or ""
end

--- Files of a project that an index has.
-- @param index string address of its simple API
-- @param project string
-- @return table name of a file -> SHA-256, hex
-- @raise remote, protocol, net
-- @waits
-- @see PEP 691
function M.known(index, project)
  local r = http.request { url = index:gsub("/*$", "") .. "/" .. project .. "/",
    headers = { Accept = "application/vnd.pypi.simple.v1+json" }, fresh = true }
  if r.status == 404 then
    return {}
  elseif r.status ~= 200 then
    hg.fail { kind = "remote", code = "Http", message = ("%s answers %d%s"):format(index, r.status,
      said(r.body)) }
  end
  local ok, doc = pcall(json.decode, r.body)
  if not ok or type(doc) ~= "table" or type(doc.files) ~= "table" then
    hg.fail { kind = "protocol", message = index .. " is no simple API in JSON" }
  end
  local known = {}
  for _, f in ipairs(doc.files) do
    if type(f) == "table" and type(f.filename) == "string" and type(f.hashes) == "table" then
      known[f.filename] = tostring(f.hashes.sha256 or "")
    end
  end
  return known
end

--- Whether the index has exactly this file.
-- @param known table from known
-- @param file table {name, sha256}
-- @return boolean
-- @raise task it has another one of that name
function M.has(known, file)
  local theirs = known[file.name]
  if theirs and theirs:lower() ~= file.sha256 then
    hg.fail { kind = "task", message = ("%s is on the package index already, with other content")
      :format(file.name) }
  end
  return theirs ~= nil
end

--- The fields of the form that uploads a wheel.
-- @param file table {path, name, sha256}
-- @return table[] {name, value}
function M.form(file)
  local tag = file.name:match "%-(cp%d+)%-[%w_.]+%-[%w_.]+%.whl$"
  if not tag then
    hg.fail { kind = "task", message = file.name .. " has no name of a wheel for one Python" }
  end
  local fields = { { ":action", "file_upload" }, { "protocol_version", "1" },
    { "filetype", "bdist_wheel" }, { "pyversion", tag }, { "sha256_digest", file.sha256 } }
  local meta = wheel.fields(wheel.metadata(file.path))
  return table.move(meta, 1, #meta, #fields + 1, fields)
end

-- multipart/form-data (RFC 7578).
local function multipart(fields, file)
  local boundary = "hgauto-" .. crypto.token()
  local parts = {}
  for _, f in ipairs(fields) do
    parts[#parts + 1] = ('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n')
      :format(boundary, f[1], f[2])
  end
  parts[#parts + 1] = ('--%s\r\nContent-Disposition: form-data; name="content"; filename="%s"\r\n'
    .. "Content-Type: application/octet-stream\r\n\r\n"):format(boundary, file.name)
  parts[#parts + 1] = fs.read(file.path, { max = 256 << 20 })
  parts[#parts + 1] = ("\r\n--%s--\r\n"):format(boundary)
  return table.concat(parts), "multipart/form-data; boundary=" .. boundary
end

local function post(url, token, body, kind)
  return http.request { method = "POST", url = url, body = body, timeout = 900, repeatable = false,
    headers = { ["Content-Type"] = kind,
      Authorization = "Basic " .. crypto.base64("__token__:" .. token:reveal()) } }
end

-- What an answer means: done, try again with a reason, or an error.
local function judge(r, file)
  if r.status >= 200 and r.status < 300 then
    return true
  elseif r.status >= 500 or r.status == 429 then
    return false, ("the package index answers %d"):format(r.status)
  elseif r.status == 401 or r.status == 403 then
    hg.fail { kind = "auth", code = "Refused", message = ("the package index refuses the token for"
      .. " %s (%d)%s"):format(file.name, r.status, said(r.body)) }
  end
  hg.fail { kind = "remote", code = "Refused", message = ("the package index refuses %s (%d)%s")
    :format(file.name, r.status, said(r.body)) }
end

--- Uploads a wheel.  An upload that was cut is only repeated when the index has
--- not got the file.
-- @param o table url= upload address, index=, project=, token=secret
-- @param file table {path, name, sha256}
-- @raise auth the token is refused; remote; net
-- @waits
function M.upload(o, file)
  local body, kind = multipart(M.form(file), file)
  local why
  for try = 1, TRIES do
    local ok, r = pcall(post, o.url, o.token, body, kind)
    if not ok and (type(r) ~= "table" or (r.kind ~= "net" and r.kind ~= "timeout")) then
      error(r, 0)
    end
    local done
    if ok then
      done, why = judge(r, file)
    else
      why = r.message
    end
    if done then
      return
    end
    async.sleep(try)
    if M.has(M.known(o.index, o.project), file) then
      return
    end
  end
  hg.fail { kind = "net", message = ("%s could not be uploaded in %d attempts; last: %s"):format(
    file.name, TRIES, why) }
end

return M
