--- Recorded exchanges with Windows hosts: a server that compares our requests with the recorded
-- ones and answers as recorded, and a driver that makes our client do what was recorded.
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local httpd = require "hgauto.httpd"
local winrm = require "hgauto.winrm"

local M = {}

local X4 = ("%x"):rep(4)
local UUID = X4 .. X4 .. "%-" .. X4 .. "%-" .. X4 .. "%-" .. X4 .. "%-" .. X4 .. X4 .. X4
local ZERO = "00000000-0000-0000-0000-000000000000"
local POWERSHELL = "schemas.microsoft.com/powershell/"

-- ---- trees ----

local function local_name(s)
  return s:match("([^:]+)$")
end

local function text_of(node)
  local parts = {}
  for _, c in ipairs(node.c) do
    if type(c) == "string" then
      parts[#parts + 1] = c
    end
  end
  return (table.concat(parts):match("^%s*(.-)%s*$"))
end

local function find(node, name)
  if node.n == name then
    return node
  end
  for _, c in ipairs(node.c) do
    local f = type(c) == "table" and find(c, name)
    if f then
      return f
    end
  end
  return nil
end

local function attr(node, name)
  for key, v in pairs(node.a or {}) do
    if local_name(key) == name and not key:find("^xmlns") then
      return v
    end
  end
  return nil
end

local function fail(fmt, ...)
  error({ mismatch = fmt:format(...) }, 0)
end

-- ---- comparing ----

--- The text rule: equal but for UUIDs, and those bound to each other.
local function same_text(st, what, rec, got)
  local function strip(s)
    return (s:gsub(UUID, "#"))
  end
  if strip(rec) ~= strip(got) then
    fail("%s: %q instead of %q", what, got:sub(1, 200), rec:sub(1, 200))
  end
  local theirs = {}
  for id in got:gmatch(UUID) do
    theirs[#theirs + 1] = id:upper()
  end
  local i = 0
  for id in rec:gmatch(UUID) do
    i = i + 1
    id = id:upper()
    local mine = theirs[i]
    if id ~= ZERO and id ~= mine then
      if st.bind[id] then
        if st.bind[id] ~= mine then
          fail("%s: id %s instead of %s", what, mine, st.bind[id])
        end
      elseif st.seen[id] then
        fail("%s: id %s where the answer's own was recorded", what, mine)
      else
        st.bind[id] = mine
      end
    end
  end
end

local WORDS = { DesiredStream = true, InputStreams = true, OutputStreams = true }
local IGNORED = { IdleTimeOut = true, Lifetime = true }

local function words(s)
  local list = {}
  for w in s:gmatch("%S+") do
    list[#list + 1] = w
  end
  table.sort(list)
  return table.concat(list, " ")
end

local function children(node)
  local list = {}
  for _, c in ipairs(node.c) do
    if type(c) == "table" and not IGNORED[c.n] then
      list[#list + 1] = { node = c, key = c.n .. "\0" .. (attr(c, "Name") or ""), at = #list }
    end
  end
  table.sort(list, function(a, b)
    if a.key ~= b.key then
      return a.key < b.key
    end
    return a.at < b.at
  end)
  return list
end

local function same_attrs(st, rec, got)
  for key, v in pairs(rec.a) do
    local name = local_name(key)
    if not key:find("^xmlns") then
      local other = attr(got, name)
      if name == "End" then
        if (other or "false"):lower() ~= v:lower() then
          fail("%s: End is %s instead of %s", rec.n, tostring(other), v)
        end
      elseif other == nil then
        fail("%s: attribute %s is missing", rec.n, name)
      else
        same_text(st, rec.n .. "@" .. name, v, other)
      end
    end
  end
end

local function same_tree(st, rec, got)
  if rec.n ~= got.n then
    fail("element %s instead of %s", got.n, rec.n)
  end
  same_attrs(st, rec, got)
  local a, b = text_of(rec), text_of(got)
  if WORDS[rec.n] then
    a, b = words(a), words(b)
  end
  if not (rec.n == "Code" and not a:find("powershell", 1, true)) then
    same_text(st, rec.n, a, b)
  end
  local ra, gb = children(rec), children(got)
  if #ra ~= #gb then
    fail("%s: %d elements instead of %d", rec.n, #gb, #ra)
  end
  for i, c in ipairs(ra) do
    if c.key ~= gb[i].key then
      fail("%s: element %s instead of %s", rec.n, gb[i].key:gsub("%z", " "), c.key:gsub("%z", " "))
    end
    same_tree(st, c.node, gb[i].node)
  end
end

--- Neutral values: equal but for object ids and UUIDs.
function M.same_value(a, b, path)
  path = path or "value"
  if type(a) ~= type(b) then
    return false, path
  end
  if type(a) == "string" then
    return a:gsub(UUID, "#") == b:gsub(UUID, "#"), path
  end
  if type(a) ~= "table" then
    return a == b, path
  end
  local typed = rawget(a, "t") ~= nil
  for key, v in pairs(a) do
    if v ~= require("hgauto.json").null and not (typed and key == "id") then
      local good, where = M.same_value(v, rawget(b, key), path .. "." .. tostring(key))
      if not good then
        return false, where
      end
    end
  end
  for key, v in pairs(b) do
    if rawget(a, key) == nil and v ~= require("hgauto.json").null
      and not (typed and key == "id") then
      return false, path .. "." .. tostring(key)
    end
  end
  return true
end

-- ---- fragments ----

local function blobs(node, is_ps, into)
  local carrier = node.n == "creationXml" or node.n == "connectXml"
    or (is_ps and (node.n == "Stream" or node.n == "Arguments"))
  if carrier then
    local text = text_of(node)
    if text ~= "" then
      into:feed(crypto.unbase64(text))
    end
    node.c = { "fragments" }
    return
  end
  for _, c in ipairs(node.c) do
    if type(c) == "table" then
      blobs(c, is_ps, into)
    end
  end
end

--- On the command shell several Arguments are one, joined by blanks.
local function join_arguments(node)
  local list, rest = {}, {}
  for _, c in ipairs(node.c) do
    if type(c) == "table" and c.n == "Arguments" then
      list[#list + 1] = text_of(c)
    else
      if type(c) == "table" then
        join_arguments(c)
      end
      rest[#rest + 1] = c
    end
  end
  if #list > 0 then
    rest[#rest + 1] = { n = "Arguments", a = {}, c = { table.concat(list, " ") } }
    node.c = rest
  end
end

local function bind_raw(st, what, rec, got)
  if rec == ZERO then
    return
  end
  if st.raw[rec] and st.raw[rec] ~= got then
    fail("%s: %s instead of %s", what, got, st.raw[rec])
  end
  st.raw[rec] = got
end

local function same_messages(st)
  while true do
    st.rec_next = st.rec_next or st.rec_in:next()
    st.got_next = st.got_next or st.got_in:next()
    local a, b = st.rec_next, st.got_next
    if not a or not b then
      return
    end
    st.rec_next, st.got_next = nil, nil
    if a.code ~= b.code or a.destination ~= b.destination then
      fail("message %s instead of %s", b.type, a.type)
    end
    bind_raw(st, a.type .. " pool", a.pool, b.pool)
    bind_raw(st, a.type .. " pipeline", a.pipeline, b.pipeline)
    local good, where = M.same_value(core.decode(a.xml, true), core.decode(b.xml, true))
    if not good then
      fail("%s: %s differs", a.type, where)
    end
  end
end

-- ---- one request ----

local COMPARED = { protocolversion = true, winrs_codepage = true, winrs_noprofile = true }

local function options_of(tree)
  local list = {}
  local set = find(tree, "OptionSet")
  for _, c in ipairs(set and set.c or {}) do
    if type(c) == "table" then
      list[(attr(c, "Name") or ""):lower()] = text_of(c)
    end
  end
  return list
end

local function selectors_of(tree)
  local list = {}
  local set = find(tree, "SelectorSet")
  for _, c in ipairs(set and set.c or {}) do
    if type(c) == "table" then
      list[attr(c, "Name") or ""] = text_of(c)
    end
  end
  return list
end

local function same_head(st, rec, got)
  for _, name in ipairs { "Action", "ResourceURI", "MessageID" } do
    local a, b = find(rec, name), find(got, name)
    if not b then
      fail("%s is missing", name)
    end
    same_text(st, name, text_of(a), text_of(b))
  end
  local a, b = selectors_of(rec), selectors_of(got)
  for name, v in pairs(a) do
    if not b[name] then
      fail("selector %s is missing", name)
    end
    same_text(st, "selector " .. name, v, b[name])
  end
  for name in pairs(b) do
    if not a[name] then
      fail("selector %s is too much", name)
    end
  end
  a, b = options_of(rec), options_of(got)
  for name in pairs(COMPARED) do
    if a[name] and (b[name] or ""):lower() ~= a[name]:lower() then
      fail("option %s is %s instead of %s", name, tostring(b[name]), a[name])
    end
  end
  if (a.winrs_skip_cmd_shell or "false"):lower() ~= (b.winrs_skip_cmd_shell or "false"):lower() then
    fail("option winrs_skip_cmd_shell differs")
  end
end

local function override(tree, list)
  for _, o in ipairs(list or {}) do
    local node = tree
    for step in o.path:gmatch("[^/]+") do
      local name = local_name(step)
      if name ~= node.n then
        node = assert(find(node, name), "override: no " .. o.path)
      end
    end
    for key, v in pairs(o.attributes or {}) do
      node.a[key] = v
    end
    if o.text then
      node.c = { o.text }
    end
  end
end

local function compare(st, m, body)
  local rec, got = core.tree(m.request), core.tree(body)
  override(rec, m.overrides)
  same_head(st, rec, got)
  local ra, gb = find(rec, "Body"), find(got, "Body")
  local is_ps = text_of(find(rec, "ResourceURI")):find(POWERSHELL, 1, true) ~= nil
  if is_ps or find(ra, "creationXml") or find(ra, "connectXml") then
    blobs(ra, is_ps, st.rec_in)
    blobs(gb, is_ps, st.got_in)
  else
    join_arguments(ra)
    join_arguments(gb)
  end
  same_tree(st, ra, gb)
  same_messages(st)
  return text_of(find(got, "MessageID")), is_ps
end

-- ---- answers ----

--- 16 bytes of a UUID in .NET's order.
local function guid_bytes(id)
  local b = crypto.unhex(id:gsub("%-", ""):lower())
  return b:sub(1, 4):reverse() .. b:sub(5, 6):reverse() .. b:sub(7, 8):reverse() .. b:sub(9)
end

local function rewrite(st, bytes)
  local out, at = {}, 1
  local map = {}
  for rec, got in pairs(st.raw) do
    map[guid_bytes(rec)] = guid_bytes(got)
  end
  while at + 20 <= #bytes do
    local flags, n = bytes:byte(at + 16), string.unpack(">I4", bytes, at + 17)
    local data = bytes:sub(at + 21, at + 20 + n)
    if flags % 2 == 1 and #data >= 40 then
      local pool, pipe = data:sub(9, 24), data:sub(25, 40)
      data = data:sub(1, 8) .. (map[pool] or pool) .. (map[pipe] or pipe) .. data:sub(41)
    end
    out[#out + 1] = bytes:sub(at, at + 20) .. data
    at = at + 21 + n
  end
  return table.concat(out)
end

local function answer(st, m, message_id, is_ps)
  local text = m.response or ""
  local recorded = {}
  for id in text:gmatch(UUID) do
    recorded[#recorded + 1] = id:upper()
  end
  text = text:gsub("(<[%w:]*RelatesTo>)[^<]*", function(tag)
    return tag .. message_id
  end)
  text = text:gsub(UUID, function(id)
    return st.bind[id:upper()]
  end)
  if is_ps then
    local function stream(open, data, close)
      return open .. crypto.base64(rewrite(st, crypto.unbase64(data))) .. close
    end
    text = text:gsub("(<[%w:]*Stream[^>]*>)([^<%s][^<]*)(</)", stream)
    text = text:gsub("(<[%w:]*connectResponseXml[^>]*>)([^<]+)(</)", stream)
  end
  for _, id in ipairs(recorded) do
    st.seen[id] = true
  end
  return text
end

--- A server for one case at a time: server.case(messages) begins one.
function M.server()
  local server = {}
  local st
  local function begin(messages)
    st = {
      messages = messages, index = 0, bind = {}, raw = {}, seen = {}, rec_in = core.psrp(),
      got_in = core.psrp(), unauthorized = 0,
    }
    server.state = st
  end
  local function refuse(req, why)
    st.failed = st.failed or ("request %d: %s"):format(st.index, why)
    req:respond { status = 499, body = why }
  end
  server.http = httpd.new {
    max_body = 64 * 1024 * 1024,
    on_request = function(req)
      if not req.headers.authorization then
        st.unauthorized = st.unauthorized + 1
        req:respond {
          status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="WSMAN"' }, body = "",
        }
        return
      end
      local m = st.messages[st.index + 1]
      st.index = st.index + 1
      if not m or st.failed then
        return refuse(req, "surplus request")
      end
      local good, id, is_ps = pcall(compare, st, m, req.body)
      if not good then
        return refuse(req, type(id) == "table" and id.mismatch or tostring(id.message or id))
      end
      if m.http_error then
        return req:abort("fin")
      end
      local t = m.transport_error
      req:respond {
        status = type(t) == "table" and t.code or 200,
        headers = { ["Content-Type"] = "application/soap+xml;charset=UTF-8" },
        body = answer(st, m, id, is_ps),
      }
    end,
  }
  server.port = server.http:listen {}
  server.begin = begin
  --- nil, or why the case failed.
  function server.verdict()
    if st.failed then
      return st.failed
    end
    if st.index ~= #st.messages then
      return ("%d of %d requests were made"):format(st.index, #st.messages)
    end
    local _, mine = st.got_in:whole()
    local _, theirs = st.rec_in:whole()
    if st.rec_next or st.got_next or mine + theirs > 0 or st.rec_in:next() or st.got_in:next() then
      return "messages are left over"
    end
    return nil
  end
  return server
end

-- ---- the driver ----

local function check(cond, fmt, ...)
  if not cond then
    error({ result = fmt:format(...) }, 0)
  end
end

--- One character per byte -> bytes.
local function bytes(s)
  local out = {}
  for _, c in utf8.codes(s) do
    out[#out + 1] = string.char(c)
  end
  return table.concat(out)
end

local function mark(v)
  local null = require("hgauto.json").null
  return (v == nil or v == null) and null or { [core.mark] = v }
end

local Driver = {}
Driver.__index = Driver

function Driver:shell_of(op)
  return self.shells[op.shell]
end

local function is(what, got, want)
  check(got == want, "%s: %s instead of %s", what, tostring(got), tostring(want))
end

--- A fault that was recorded must come out as the error's.
function Driver:guard(i, fn, ...)
  local e = self.expect[i] or {}
  local good, r = pcall(fn, ...)
  if not good and (type(r) ~= "table" or not r.kind) then
    error(r, 0)
  end
  if e.fault and e.fault.code ~= 2150858793 then
    check(not good, "op %d: fault %s did not appear", i, tostring(e.fault.code))
    check(r.fault ~= nil, "op %d: %s instead of a fault", i, r.message or "?")
    is("fault", r.fault.code, e.fault.code)
    return nil
  end
  if not good then
    error(r, 0)
  end
  return r
end

function Driver:messages(list)
  for _, m in ipairs(list) do
    self.got[#self.got + 1] = m
  end
end

local RUN = {}

function RUN.Get(d, op)
  if op.shell then
    d:guard(op.i, function()
      return d:shell_of(op):alive()
    end)
    return
  end
  d:guard(op.i, function()
    return d.session:config()
  end)
end

function RUN.shell_open(d, op)
  local env
  for _, pair in ipairs(op.env or {}) do
    env = env or {}
    env[pair[1]] = pair[2]
  end
  local sh = d:guard(op.i, d.session.shell, d.session, {
    env = env, cwd = op.WorkingDirectory, codepage = tonumber(op.WINRS_CODEPAGE),
    no_profile = op.WINRS_NOPROFILE ~= nil,
  })
  d.shells[d.expect[op.i].shell_id] = sh
end

function RUN.command(d, op)
  local c = d:guard(op.i, function()
    return d:shell_of(op):command(op.command, op.args, { skip_shell = op.skip_cmd_shell })
  end)
  d.commands[d.expect[op.i].command_id] = c
  d.results[op.i] = { command = c, stdout = {}, stderr = {} }
  c.result = d.results[op.i]
end

function RUN.send(d, op)
  d.commands[op.command_id]:send(bytes(op.data), op["end"])
end

local function receive_shell(d, op)
  local c = d.commands[op.command_id] or d:shell_of(op):_attach(crypto.uuid():upper())
  local i = op.i
  while true do
    local r = d:guard(i, c.receive, c)
    local e = d.expect[i] or {}
    if not r then
      return
    end
    if e.streams then
      for name, want in pairs(e.streams) do
        is(name, r.streams[name] or "", bytes(want))
      end
      is("state", r.state, e.state)
      is("exit code", r.exit_code, e.exit_code)
    end
    if c.result then
      table.insert(c.result.stdout, r.streams.stdout or "")
      table.insert(c.result.stderr, r.streams.stderr or "")
      c.result.state, c.result.exit_code = r.state or c.result.state, r.exit_code
    end
    if c.done then
      return
    end
    i = i + 1
  end
end

function RUN.receive(d, op)
  local sh = d:shell_of(op)
  if not sh.invoke then
    return receive_shell(d, op)
  end
  if not op.command_id then
    return nil -- the pool received until it was open
  end
  local p = d.commands[op.command_id] or sh:_attach(crypto.uuid():upper())
  local i = op.i
  repeat
    local list = d:guard(i, p.receive, p)
    if not list then
      return nil
    end
    d:messages(list)
    if p.result then
      for _, m in ipairs(list) do
        table.insert(p.result.messages, m)
      end
    end
    i = i + 1
  until p.state
  sh.busy = false
  return nil
end

function RUN.signal(d, op)
  d:guard(op.i, function()
    local c = d.commands[op.command_id]
    c:signal(op.full_code)
    c.done, c.ended = true, true
    if c.pool then
      c.pool.busy = false
    end
  end)
end

function RUN.close(d, op)
  d:guard(op.i, function()
    d:shell_of(op):close()
  end)
end

function RUN.pool_open(d, op)
  local pool = d:guard(op.i, d.session.pool, d.session, {
    resource = op.uri, host = op.host or false, no_profile = op.WINRS_NOPROFILE ~= nil,
    application_arguments = op.application_arguments and mark(op.application_arguments),
    idle_timeout = op.IdleTimeOut and tonumber(op.IdleTimeOut:match("%d+")),
  })
  local e = d.expect[op.i]
  local shell_id = e.shell_id
  for _, other in ipairs(d.ops) do
    if not shell_id and other.i > op.i and other.shell then
      shell_id = other.shell
    end
  end
  d.shells[shell_id] = pool
  d:messages(pool.seen)
end

local function statements_of(list)
  local out = {}
  for s, commands in ipairs(list) do
    out[s] = {}
    for c, cmd in ipairs(commands) do
      local copy = {}
      for key, v in pairs(cmd) do
        copy[key] = v
      end
      copy.args = {}
      for a, arg in ipairs(cmd.args or {}) do
        local name = arg.name
        copy.args[a] = { name = type(name) == "string" and name or nil, value = mark(arg.value) }
      end
      out[s][c] = copy
    end
  end
  return out
end

function RUN.invoke(d, op)
  local from = op
  if not op.statements then
    for _, other in ipairs(d.ops) do
      for _, m in ipairs(other.i > op.i and other.op == "psrp_send"
        and other.command_id == op.command_id and other.messages or {}) do
        if m.type == "CREATE_PIPELINE" then
          from = m
          d.skip[other.i] = true
        end
      end
    end
  end
  local pool = d:shell_of(op)
  local first = d.pids[op.command_id]
  local p = d:guard(op.i, pool.invoke, pool, {
    statements = statements_of(from.statements), no_input = from.no_input,
    add_to_history = from.add_to_history, nested = from.nested or pool.busy or nil,
    streams = from.remote_stream_options or 15, id = first, host = from.host or false,
  })
  p.result = { pipeline = p, messages = {} }
  d.results[op.i] = p.result
  d.pids[op.command_id] = p.id
  d.commands[op.command_id] = p
  local other = d.expect[op.i].command_id
  if other then
    d.commands[other] = p
  end
  return p
end

local function input_of(op)
  local null = require("hgauto.json").null
  local list = {}
  for i, m in ipairs(op.messages) do
    list[i] = {
      type = m.type,
      xml = m.type == "END_OF_PIPELINE_INPUT" and ""
        or core.encode(m.value == nil and null or m.value, true),
    }
  end
  return list
end

--- Requests that one send of these messages makes.
local function requests_for(pool, list)
  local p = core.psrp()
  for _, m in ipairs(list) do
    p:add(pool.session.core:payload(pool.resource, pool.envelope), m.type, pool.id, "", m.xml)
  end
  return #p:take()
end

--- Requests in a row may be one send, cut by the size of the envelope, or a send each.
function RUN.psrp_send(d, op)
  local together, run = {}, {}
  for _, other in ipairs(d.ops) do
    if other.i == op.i + #run and other.op == "psrp_send" and other.command_id == op.command_id then
      run[#run + 1] = other
      table.move(input_of(other), 1, #other.messages, #together + 1, together)
    end
  end
  local p = d.commands[op.command_id]
  if requests_for(p.pool, together) ~= #run then
    return p:send(input_of(op))
  end
  for _, other in ipairs(run) do
    d.skip[other.i] = true
  end
  p:send(together)
end

local function compare_messages(d)
  local want = {}
  for _, e in ipairs(d.expect_list) do
    for _, m in ipairs(e.psrp or {}) do
      want[#want + 1] = m
    end
  end
  is("messages", #d.got, #want)
  for i, m in ipairs(want) do
    local g = d.got[i]
    is("type of message " .. i, g.type, m.type)
    local v = core.decode(g.xml, true)
    if m.state then
      local ext = v.ext
      local state = ext.PipelineState or ext.RunspaceState
      is("state", state.v, m.state)
      if m.error then
        local good, where = M.same_value(m.error, ext.ExceptionAsErrorRecord)
        check(good, "error of message %d differs at %s", i, where)
      end
    else
      local good, where = M.same_value(m.value, v)
      check(good, "message %d (%s) differs at %s", i, m.type, where)
    end
  end
end

local TEXTS = { debug = "DEBUG_RECORD", verbose = "VERBOSE_RECORD", warning = "WARNING_RECORD" }

local function compare_summary(d, s)
  local r = d.results[s.i]
  check(r ~= nil, "summary of op %d: no result", s.i)
  if r.command then
    is("stdout", table.concat(r.stdout), bytes(s.stdout or ""))
    is("stderr", table.concat(r.stderr), bytes(s.stderr or ""))
    is("exit code", r.exit_code, s.exit_code)
    return
  end
  if type(s.pipeline_state) == "string" then
    is("pipeline state", r.pipeline.state, s.pipeline_state)
  end
  local output = {}
  for _, m in ipairs(r.messages) do
    if m.type == "PIPELINE_OUTPUT" then
      output[#output + 1] = core.decode(m.xml, true)
    end
  end
  local good, where = M.same_value(s.output or {}, output)
  check(good, "output differs at %s", where)
  for name, kind in pairs(TEXTS) do
    local texts = {}
    for _, m in ipairs(r.messages) do
      if m.type == kind then
        texts[#texts + 1] = tostring(core.decode(m.xml))
      end
    end
    good, where = M.same_value(s[name] or {}, texts)
    check(good, "%s differs at %s", name, where)
  end
end

--- Runs one case against the server; nil, or why it failed.
function M.run(server, case, ops)
  server.begin(case.messages)
  local d = setmetatable({
    ops = ops.ops, expect = {}, expect_list = ops.expect, shells = {}, commands = {}, pids = {},
    got = {}, results = {}, skip = {},
  }, Driver)
  for _, e in ipairs(ops.expect) do
    d.expect[e.i] = e
    for key, v in pairs(e) do
      if v == require("hgauto.json").null then
        e[key] = nil
      end
    end
  end
  local good, e = pcall(function()
    d.session = winrm.connect {
      host = "127.0.0.1", port = server.port, plaintext = true, allow_plaintext = true,
      user = "vagrant", password = "not-a-real-one",
    }
    for at, op in ipairs(d.ops) do
      for key, v in pairs(op) do
        if v == require("hgauto.json").null then
          op[key] = nil
        end
      end
      local before = d.ops[at - 1]
      local repeated = op.op == "receive" and before and before.op == "receive"
        and (op.command_id or false) == (before.command_id or false)
      if not d.skip[op.i] and not repeated then
        local fn = RUN[op.op]
        check(fn, "%s is not driven", op.op)
        fn(d, op)
      end
    end
    compare_messages(d)
    for _, s in ipairs(ops.summary) do
      compare_summary(d, s)
    end
  end)
  if d.session then
    d.session.closed = true
    d.session.core:close()
    require("hgauto.async").release(d.session)
  end
  local why = server.verdict()
  if why then
    return why
  end
  if not good then
    return type(e) == "table" and (e.result or e.message) or tostring(e)
  end
  return nil
end

return M
