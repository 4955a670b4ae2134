--- Lines of output that comes in blocks, of two streams at once.
local M = {}

--- Cuts blocks into lines without their ends, longer ones into pieces.
-- @param max integer bytes of the longest piece
-- @param emit function called with each line
-- @return function takes a block, or nil and true at the end
function M.splitter(max, emit)
  local rest = ""
  return function(block, last)
    rest = block and rest .. block or rest
    local from = 1
    while true do
      local at = rest:find("\n", from, true)
      if not at then
        break
      end
      for i = from, at - 1, max do
        emit(rest:sub(i, math.min(i + max - 1, at - 1)))
      end
      if at == from then
        emit("")
      end
      from = at + 1
    end
    rest = rest:sub(from)
    while #rest >= max or last and rest ~= "" do
      local piece = rest:sub(1, max)
      rest = rest:sub(max + 1)
      emit(piece)
    end
  end
end

--- Iterates over the lines of a process.
-- @param max integer as splitter
-- @param read function returns the next block and its stream, "out" or "err"; nil at the end
-- @return function line, stream
-- @waits as read
function M.iterate(max, read)
  local queue, head, over, cut = {}, 1, false, {}
  for _, name in ipairs { "out", "err" } do
    cut[name] = M.splitter(max, function(line)
      queue[#queue + 1] = { line, name }
    end)
  end
  return function()
    while head > #queue do
      if over then
        return nil
      end
      queue, head = {}, 1
      local block, name = read()
      if block then
        cut[name](block)
      else
        over = true
        cut.out(nil, true)
        cut.err(nil, true)
      end
    end
    local item = queue[head]
    head = head + 1
    return item[1], item[2]
  end
end

return M
