-- Security Token Service: who am I.

local M = {}
local ops = {}
M.ops = ops

ops.GetCallerIdentity = {
  accept = {},
  run = function(c)
    return { Account = c.account, UserId = "AIDAHGAUTOLOCALUSER01",
      Arn = ("arn:aws:iam::%s:user/hgauto-local"):format(c.account) }
  end,
}

return M
