--- Sending draft changesets to the function that feeds the try server.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local hg = require "hg"
local json = require "hgauto.json"

local M = {}

local FUNCTION = "ci-try-server-upload"
-- What the service takes in one synchronous call.
local MAX_PAYLOAD = 6 << 20

-- The answer of the function: a list of lines.
local function lines_of(r)
  local text = r.Payload or ""
  if r.FunctionError then
    local ok, e = pcall(json.decode, text)
    hg.fail { kind = "remote", code = r.FunctionError, message = ("%s failed: %s"):format(FUNCTION,
      ok and type(e) == "table" and tostring(e.errorMessage) or text:sub(1, 300)) }
  end
  local ok, lines = pcall(json.decode, text)
  if not ok or type(lines) ~= "table" then
    hg.fail { kind = "protocol", message = FUNCTION .. " answered nonsense" }
  end
  return lines
end

--- Body of the task try.
-- @param ctx table
-- @param args table revision source hg
-- @return table {node}
-- @waits
function M.run(ctx, args)
  local source = ctx:step("source", hg.mercurial.describe, args)
  local dir = fs.tmpdir(ctx.dir, "try-")
  local file = hg.mercurial.bundle_drafts(source, dir .. "/bundle.hg")
  if not file then
    fs.remove(dir, { tree = true })
    hg.fail { kind = "task",
      message = ("%s is public, nothing to send"):format(source.node:sub(1, 12)) }
  end
  local payload = json.encode {
    bundle = crypto.base64(fs.read(file)), node = source.node, branch = source.branch,
    user = source.user, message = source.description,
  }
  fs.remove(dir, { tree = true })
  if #payload > MAX_PAYLOAD then
    hg.fail { kind = "usage", message = ("the bundle is too large: %s of at most %s")
      :format(hg.format.bytes(#payload), hg.format.bytes(MAX_PAYLOAD)) }
  end
  hg.output.result("node: " .. source.node)
  hg.output.result("branch: " .. source.branch)
  hg.output.result("user: " .. source.user)
  hg.output.result("desc: " .. source.description:match("[^\n]*"))
  -- One attempt: a second could start the same builds again.
  local lambda = require("hgauto.aws").client("lambda")
  local r = ctx:step("send", lambda.invoke, lambda, {
    FunctionName = FUNCTION, InvocationType = "RequestResponse", Payload = payload,
  }, { max_attempts = 1 })
  for _, line in ipairs(lines_of(r)) do
    hg.output.result("remote: " .. require("hgauto.term").filter(tostring(line)))
  end
  return { node = source.node }
end

return M
