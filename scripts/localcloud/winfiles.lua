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

--- upload-stdin.ps1; killed, it leaves its part as a real one does.
function M.upload_stdin(job)
  local env = job.env
  local full = M.path(job.root, env.HGA_PATH)
  local temp = full .. env.HGA_PART:lower()
  local function fail(why)
    os.remove(temp)
    job:write("stderr", why .. "\r\n")
    return 1
  end
  if fs.exists(full) and env.HGA_OVERWRITE ~= "1" then
    return fail(env.HGA_PATH .. " exists")
  end
  fs.mkdir(full:match("^(.*)/"), { parents = true })
  local file <close> = assert(io.open(temp, "wb"))
  for part in job.read, job do
    file:write(part)
  end
  file:close()
  local size, sum = fs.stat(temp).size, fs.sha256(temp)
  if ("%d"):format(size) ~= env.HGA_SIZE or sum ~= env.HGA_SHA256 then
    return fail("content of " .. env.HGA_PATH .. " is not what was sent")
  end
  fs.rename(temp, full)
  job:write("stdout", ("%d %s\r\n"):format(size, sum))
  return 0
end

--- remove.ps1 of one file or tree
function M.remove(pipe)
  local at = M.path(pipe.root, pipe.params.Path)
  if fs.exists(at) then
    fs.remove(at, { tree = true })
  end
  return 0
end

--- upload-psrp.ps1
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
