--- What our transfer scripts do on a simulated Windows: a directory stands for C:.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"

local M = {}

local BLOCK = 98202

--- Local path of a Windows path; names are compared regardless of case.
function M.path(root, windows)
  local rest = windows:gsub("\\", "/"):match("^[Cc]:/(.+)$")
  if not root or not rest or rest:find("..", 1, true) then
    error("not simulated: path " .. windows, 0)
  end
  -- Made by a build, a file keeps the case of its name.
  local dir, last = rest:match("^(.-)([^/]*)$")
  local exact = ("%s/%s%s"):format(root, dir:lower(), last)
  return fs.exists(exact) and exact or root .. "/" .. rest:lower()
end

--- upload.ps1
function M.upload(pipe)
  local p = pipe.params
  local full = M.path(pipe.root, p.Path)
  local temp = full .. p.Part
  if fs.exists(full) and not p.Overwrite then
    return nil, p.Path .. " exists"
  end
  fs.mkdir(full:match("^(.*)/"), { parents = true })
  local file = assert(io.open(temp, p.First and "wb" or "ab"))
  for _, block in ipairs(pipe.input) do
    file:write(crypto.unbase64(block))
  end
  file:close()
  if not p.Last then
    return 0
  end
  local size, sum = fs.stat(temp).size, fs.sha256(temp)
  if size ~= p.Size or sum ~= p.Sha256 then
    os.remove(temp)
    return nil, "content of " .. p.Path .. " is not what was sent"
  end
  fs.rename(temp, full)
  pipe:output { Size = size, Sha256 = sum }
  return 0
end

--- download.ps1
function M.download(pipe)
  local full = M.path(pipe.root, pipe.params.Path)
  local file = io.open(full, "rb")
  if not file then
    return nil, "Could not find file '" .. pipe.params.Path .. "'."
  end
  local size = 0
  while true do
    local bytes = file:read(BLOCK)
    if not bytes then
      break
    end
    size = size + #bytes
    pipe:output(crypto.base64(bytes))
  end
  file:close()
  pipe:output { Size = size, Sha256 = fs.sha256(full) }
  return 0
end

return M
