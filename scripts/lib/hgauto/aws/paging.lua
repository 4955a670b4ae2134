--- Paging of hgauto.aws: which calls do it, one page after the other, merging.
--
-- Tokens and "is there more" are evaluated by core on each answer.
local core = require "hgauto.aws.core"
local crypto = require "hgauto.crypto"
local host = require "hgauto.host"
local json = require "hgauto.json"

local M = {}

local function fail(code, fmt, ...)
  error(host.error { kind = "aws", code = code, message = fmt:format(...) }, 0)
end

--- Whether a call with these parameters fetches all pages.
-- @param page table paging of the operation
-- @param[opt] params table
-- @return boolean
function M.is_automatic(page, params)
  if type(params) ~= "table" then
    return true
  end
  if page.limit and params[page.limit] ~= nil then
    return false
  end
  for _, name in ipairs(page.inputs) do
    if params[name] ~= nil then
      return false
    end
  end
  return true
end

-- Members by a plain path ("a.b"); other expressions are not merged.
local function get(t, path)
  for name in path:gmatch("[^.]+") do
    if type(t) ~= "table" then
      return nil
    end
    t = rawget(t, name)
  end
  return t
end

local function set(t, path, value)
  local last
  for name in path:gmatch("[^.]+") do
    if last then
      if rawget(t, last) == nil then
        t[last] = {}
      end
      t = t[last]
    end
    last = name
  end
  t[last] = value
end

local function bad_token()
  error(host.error {
    kind = "usage", code = "StartingToken", message = "PaginationConfig: bad StartingToken",
  }, 0)
end

local function parse_token(page, text)
  local ok, value = pcall(function()
    return json.decode(crypto.unbase64(text))
  end)
  if not ok or type(value) ~= "table" then
    bad_token()
  end
  local tokens, skip = {}, 0
  for _, name in ipairs(page.inputs) do
    if value[name] ~= nil and value[name] ~= json.null then
      tokens[name] = value[name]
    end
  end
  if math.type(value.boto_truncate_amount) == "integer" then
    skip = value.boto_truncate_amount
  end
  return tokens, skip
end

local function make_token(page, tokens, cut)
  local out = {}
  for _, name in ipairs(page.inputs) do
    out[name] = tokens[name] == nil and json.null or tokens[name]
  end
  if cut then
    out.boto_truncate_amount = cut
  end
  return crypto.base64(json.encode(out))
end

local CONFIG = { MaxItems = true, PageSize = true, StartingToken = true }

local function config_of(params)
  local config = params.PaginationConfig or {}
  for key in pairs(config) do
    if not CONFIG[key] then
      error(host.error {
        kind = "usage",
        message = "PaginationConfig: unknown key " .. tostring(key)
          .. "; known: MaxItems, PageSize, StartingToken",
      }, 0)
    end
  end
  return config
end

--- State of an iteration over pages; nothing is sent yet.
-- @param p table private part of the client
-- @param op table the operation
-- @param params table|nil
-- @param opts table|nil call options
-- @param request function sends one request
-- @return table
function M.start(p, op, params, opts, request)
  local s = {
    p = p, op = op, page = op.paging, opts = opts, request = request, params = {},
    total = 0, tokens = {}, skip = 0, first = true,
  }
  for k, v in pairs(params or {}) do
    s.params[k] = v
  end
  local config = config_of(s.params)
  s.params.PaginationConfig = nil
  s.max = config.MaxItems
  if config.PageSize then
    if not s.page.limit then
      error(host.error {
        kind = "usage", message = op.snake .. ": PageSize is not supported by this operation",
      }, 0)
    end
    s.params[s.page.limit] = config.PageSize
  end
  if config.StartingToken then
    s.tokens, s.skip = parse_token(s.page, config.StartingToken)
    for name, value in pairs(s.tokens) do
      s.params[name] = value
    end
    s.resumed = true
  end
  return s
end

-- The first page of a resumed iteration: what was seen already goes.
local function drop_seen(s, answer)
  local primary = s.page.results[1]
  for _, key in ipairs(s.page.results) do
    local value = get(answer, key)
    if type(value) == "table" then
      local keep = json.list {}
      if key == primary then
        table.move(value, s.skip + 1, #value, 1, keep)
      end
      set(answer, key, keep)
    elseif type(value) == "string" then
      set(answer, key, "")
    elseif type(value) == "number" then
      set(answer, key, 0)
    end
  end
end

local function same_tokens(s, a, b)
  for _, name in ipairs(s.page.inputs) do
    if a[name] ~= b[name] then
      return false
    end
  end
  return true
end

-- Cuts the page so that MaxItems is kept; what is left begins the next run.
local function cut(s, answer, list, surplus)
  local keep = #list - surplus
  local short = json.list {}
  table.move(list, 1, keep, 1, short)
  set(answer, s.page.results[1], short)
  s.resume = make_token(s.page, s.tokens, keep + s.skip)
  s.over = true
end

local function advance(s, tokens, more)
  if not more then
    s.over = true
    return
  end
  for name, value in pairs(tokens) do
    if value == json.null then
      tokens[name] = nil
    end
  end
  if s.max and s.total == s.max then
    s.resume = make_token(s.page, tokens)
    s.over = true
    return
  end
  if s.previous and same_tokens(s, s.previous, tokens) then
    fail("SameToken", "%s: The same next token was received twice", s.op.snake)
  end
  for _, name in ipairs(s.page.inputs) do
    s.params[name] = tokens[name]
  end
  s.tokens, s.previous = tokens, tokens
end

--- The next page, or nil after the last.
-- @param s table
-- @return table|nil
-- @waits
function M.next(s)
  if s.over then
    return nil
  end
  local answer, tokens, more = s.request(s.p, s.op, s.params, s.opts, s.page.pager)
  if s.first and s.resumed then
    drop_seen(s, answer)
  elseif not s.first then
    s.skip = 0
  end
  s.first = false
  local list = get(answer, s.page.results[1])
  local n = type(list) == "table" and #list or 0
  local surplus = s.max and s.total + n - s.max or 0
  if surplus > 0 then
    cut(s, answer, list, surplus)
  else
    s.total = s.total + n
    advance(s, tokens, more)
  end
  return answer
end

local function merge(into, page, keys)
  for _, key in ipairs(keys) do
    local new, old = get(page, key), get(into, key)
    if old == nil then
      if new ~= nil then
        set(into, key, new)
      end
    elseif type(new) == "table" then
      table.move(new, 1, #new, #old + 1, old)
    elseif type(new) == "number" then
      set(into, key, old + new)
    elseif type(new) == "string" then
      set(into, key, old .. new)
    end
  end
end

-- Tokens of a single page say nothing about the whole.
local function clean(s, whole)
  for _, expr in ipairs(s.page.outputs) do
    if expr:match("^[%w_]+$") then
      whole[expr] = nil
    end
  end
  if s.page.more then
    set(whole, s.page.more, nil)
  end
  whole.NextToken = s.resume
end

--- All remaining pages as one answer: lists appended, numbers added.
-- @param s table
-- @return table
-- @waits
function M.collect(s)
  local whole = M.next(s)
  if not whole then
    return {}
  end
  local metas = core.metas()
  while true do
    local page = M.next(s)
    if not page then
      break
    end
    merge(whole, page, s.page.results)
    metas[whole] = metas[page]
  end
  clean(s, whole)
  return whole
end

local Pages = {}
Pages.__index = Pages
Pages.__name = "hgauto.aws.pages"

function Pages:__call()
  return M.next(self.state)
end

--- Merges the pages that are left.
-- @return table
-- @waits
function Pages:collect()
  return M.collect(self.state)
end

--- Iterator object over pages.
-- @param s table
-- @return table callable, with collect()
function M.iterator(s)
  return setmetatable({ state = s }, Pages)
end

return M
