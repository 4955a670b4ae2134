--- OpenSSH's client configuration: ~/.ssh/config and /etc/ssh/ssh_config, as ssh_config(5) says.
--
-- Read only.  The first value of a directive wins; what we cannot do (agent
-- forwarding, canonical names, ...) is ignored, an unknown word is warned of.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local log = require "hgauto.log"

local M = {}

local DEPTH_MAX = 16
local FILE_MAX = 1 << 20
local FILES_MAX = 500

-- How a directive's arguments are read; all we honour.
local KINDS = {
  hostname = "word", user = "word", port = "port", identityfile = "add", identitiesonly = "flag",
  identityagent = "word", certificatefile = "add", userknownhostsfile = "words",
  globalknownhostsfile = "words", hostkeyalias = "word", stricthostkeychecking = "strict",
  proxyjump = "jump", proxycommand = "rest", connecttimeout = "time", serveraliveinterval = "time",
  serveralivecountmax = "count", addressfamily = "family", bindaddress = "word",
  ciphers = "algorithms", kexalgorithms = "algorithms", macs = "algorithms",
  hostkeyalgorithms = "algorithms", sendenv = "sendenv", setenv = "setenv",
}

-- Words OpenSSH knows and we do not act on.
local KNOWN = {}
for word in ([[addkeystoagent batchmode bindinterface canonicaldomains
  canonicalizefallbacklocal canonicalizehostname canonicalizemaxdots canonicalizepermittedcnames
  casignaturealgorithms challengeresponseauthentication channeltimeout checkhostip cipher
  clearallforwardings compression compressionlevel connectionattempts controlmaster controlpath
  controlpersist dsaauthentication dynamicforward enableescapecommandline enablesshkeysign
  escapechar exitonforwardfailure fallbacktorsh fingerprinthash forkafterauthentication
  forwardagent forwardx11 forwardx11timeout forwardx11trusted gatewayports globalknownhostsfile2
  gssapiauthentication gssapiclientidentity gssapidelegatecredentials gssapikeyexchange
  gssapikexalgorithms gssapirenewalforcesrekey gssapiserveridentity gssapitrustdns
  hashknownhosts hostbasedacceptedalgorithms hostbasedauthentication hostbasedkeytypes identityfile2
  ignoreunknown ipqos kbdinteractiveauthentication kbdinteractivedevices keepalive
  knownhostscommand localcommand localforward loglevel logverbose nohostauthenticationforlocalhost
  numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand
  permitremoteopen pkcs11provider preferredauthentications protocol proxyusefdpass
  pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication refuseconnection
  rekeylimit remotecommand remoteforward requesttty requiredrsasize revokedhostkeys
  rhostsauthentication rhostsrsaauthentication rsaauthentication securitykeyprovider sessiontype
  skeyauthentication smartcarddevice stdinnull streamlocalbindmask streamlocalbindunlink
  syslogfacility tag tcpkeepalive tisauthentication tunnel tunneldevice updatehostkeys
  useblacklistedkeys usekeychain usedns useprivilegedport usersh verifyhostkeydns versionaddendum
  visualhostkey warnweakcrypto xauthlocation]]):gmatch("%S+") do
  KNOWN[word] = true
end

local function fail(ctx, fmt, ...)
  error(host.error {
    kind = "usage", code = "SshConfig", file = ctx.file, line = ctx.line,
    message = ("%s:%d: %s"):format(ctx.file, ctx.line, fmt:format(...)),
  }, 0)
end

-- ---- words ----

--- Arguments of a line: quotes, backslashes before quotes and blanks, # ends it.
local function split(ctx, text)
  local words, at = {}, 1
  while true do
    at = text:find("[^ \t]", at)
    if not at or text:sub(at, at) == "#" then
      return words
    end
    local word, quote = {}, nil
    while at <= #text do
      local c, following = text:sub(at, at), text:sub(at + 1, at + 1)
      if c == "\\" and (following == '"' or following == "'" or following == "\\"
        or not quote and following == " ") then
        word[#word + 1] = following
        at = at + 1
      elseif not quote and (c == " " or c == "\t") then
        break
      elseif not quote and (c == '"' or c == "'") then
        quote = c
      elseif quote == c then
        quote = nil
      else
        word[#word + 1] = c
      end
      at = at + 1
    end
    if quote then
      fail(ctx, "a quotation mark is missing")
    end
    words[#words + 1] = table.concat(word)
  end
end

local function one(ctx, words, key)
  if not words[1] or words[1] == "" then
    fail(ctx, "%s needs a value", key)
  end
  if words[2] then
    fail(ctx, "%s takes one value", key)
  end
  return words[1]
end

local SECONDS_MAX = 2 ^ 31 - 1 -- OpenSSH's
local UNITS = { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }

local function seconds(ctx, text, key)
  if text == "none" then
    return -1
  end
  local total, rest = 0, text
  repeat
    local n, unit, more = rest:match("^(%d+)([smhdwSMHDW]?)(.*)$")
    local number = n and #n <= 10 and math.tointeger(n)
    if not number or unit == "" and more ~= "" then
      fail(ctx, "%s: %q is no time", key, text)
    end
    total = total + number * (UNITS[unit:lower()] or 1)
    if total > SECONDS_MAX then
      fail(ctx, "%s: %q is too long", key, text)
    end
    rest = more
  until rest == ""
  return total
end

local FLAGS = { yes = true, ["true"] = true, no = false, ["false"] = false }
local STRICT = {
  yes = "true", ["true"] = "true", no = "false", ["false"] = "false", off = "false", ask = "ask",
  ["accept-new"] = "accept-new",
}

--- Reads [user@]host[:port] of a jump, also as ssh:// address.
-- @param text string
-- @return table|nil {host=, user=, port=}
function M.parse_jump(text)
  text = text:gsub("^ssh://", ""):gsub("/$", "")
  local user, rest = text:match("^(.*)@([^@]*)$")
  rest = rest or text
  local name, port = rest:match("^%[([^%]]+)%]:?(%d*)$")
  if not name then
    name, port = rest:match("^([^:]+):?(%d*)$")
  end
  if not name or name:sub(1, 1) == "-" or user == "" then
    return nil
  end
  local number = math.tointeger(tonumber(port))
  if port ~= "" and (not number or number < 1 or number > 65535) then
    return nil
  end
  return { host = name, user = user, port = number }
end

local function put(o, key, value)
  if o[key] == nil then
    o[key] = value
  end
end

local function add(list, value)
  for _, v in ipairs(list) do
    if v == value then
      return
    end
  end
  list[#list + 1] = value
end

-- Each reads the words of a line; nothing is set when the block is not active.
local READ = {}

function READ.word(ctx, key, words)
  return one(ctx, words, key)
end

function READ.flag(ctx, key, words)
  local v = FLAGS[one(ctx, words, key):lower()]
  if v == nil then
    fail(ctx, "%s: yes or no is needed, not %q", key, words[1])
  end
  return v
end

function READ.port(ctx, key, words)
  local n = math.tointeger(tonumber(one(ctx, words, key):match("^%d+$")))
  if not n or n < 1 or n > 65535 then
    fail(ctx, "%s: %q is no port", key, words[1])
  end
  return n
end

function READ.count(ctx, key, words)
  local n = math.tointeger(tonumber(one(ctx, words, key):match("^%d+$")))
  if not n then
    fail(ctx, "%s: %q is no number", key, words[1])
  end
  return n
end

function READ.time(ctx, key, words)
  return seconds(ctx, one(ctx, words, key), key)
end

function READ.strict(ctx, key, words)
  return STRICT[one(ctx, words, key):lower()]
    or fail(ctx, "%s: %q is none of yes, no, ask, accept-new", key, words[1])
end

function READ.family(ctx, key, words)
  local v = one(ctx, words, key):lower()
  if v ~= "any" and v ~= "inet" and v ~= "inet6" then
    fail(ctx, "%s: %q is none of any, inet, inet6", key, words[1])
  end
  return v
end

function READ.words(ctx, key, words)
  if not words[1] then
    fail(ctx, "%s needs a value", key)
  end
  return words
end

function READ.algorithms(ctx, key, words)
  local v = one(ctx, words, key)
  if not v:find("^[-+^]?[%w@.,*?_-]+$") then
    fail(ctx, "%s: %q is no list of algorithms", key, v)
  end
  return v
end

function READ.rest(ctx, key, _, text)
  if text == "" then
    fail(ctx, "%s needs a value", key)
  end
  return text
end

function READ.jump(ctx, key, words, text)
  local v = text:gsub("[ \t]+$", ""):gsub("ssh://", ""):gsub("/%f[,\0]", "")
  if words[2] or v == "" then
    fail(ctx, "%s takes one value", key)
  end
  if v:lower() ~= "none" then
    for hop in (v .. ","):gmatch("([^,]*),") do
      if not M.parse_jump(hop) then
        fail(ctx, "%s: %q is no jump host", key, hop)
      end
    end
  end
  return v
end

local function set_env(ctx, o, words)
  local list = {}
  for _, w in ipairs(words) do
    local name = w:match("^([^=]+)=")
    if not name then
      fail(ctx, "SetEnv: %q is no NAME=VALUE", w)
    end
    list[#list + 1] = w
  end
  put(o, "setenv", list)
end

local function send_env(o, words)
  o.sendenv = o.sendenv or {}
  for _, w in ipairs(words) do
    if w:sub(1, 1) == "-" then
      for i = #o.sendenv, 1, -1 do
        if M.match(w:sub(2), o.sendenv[i]) then
          table.remove(o.sendenv, i)
        end
      end
    else
      add(o.sendenv, w)
    end
  end
end

-- ---- patterns ----

--- OpenSSH's patterns: * and ?.
-- @param pattern string
-- @param text string
-- @return boolean
function M.match(pattern, text)
  local i, k, star, mark = 1, 1, nil, nil
  while i <= #text do
    local p = pattern:sub(k, k)
    if p == "*" then
      star, mark, k = k, i, k + 1
    elseif p ~= "" and (p == "?" or p == text:sub(i, i)) then
      i, k = i + 1, k + 1
    elseif star then
      mark = mark + 1
      i, k = mark, star + 1
    else
      return false
    end
  end
  return pattern:find("^%**$", k) ~= nil
end

--- A list with commas: true, false, or nil when a negated pattern matches.
local function match_list(list, text, fold)
  local found = false
  for p in (list .. ","):gmatch("([^,]*),") do
    local negated = p:sub(1, 1) == "!"
    local pattern = negated and p:sub(2) or p
    if M.match(fold and pattern:lower() or pattern, text) then
      if negated then
        return nil
      end
      found = true
    end
  end
  return found
end

local function host_line(ctx, words)
  local found = false
  for _, p in ipairs(words) do
    local negated = p:sub(1, 1) == "!"
    if M.match(negated and p:sub(2) or p, ctx.host) then
      if negated then
        return false
      end
      found = true
    end
  end
  if not words[1] then
    fail(ctx, "Host needs a pattern")
  end
  return found
end

local function expand_host(ctx)
  local name = ctx.o.hostname
  if not name then
    return ctx.final_host or ctx.host
  end
  return (name:gsub("%%(.)", { h = ctx.host, ["%"] = "%" }))
end

local CRITERIA = {
  host = function(ctx, list)
    return match_list(list, expand_host(ctx):lower(), true)
  end,
  originalhost = function(ctx, list)
    return match_list(list, ctx.host:lower(), true)
  end,
  user = function(ctx, list)
    return match_list(list, ctx.o.user or ctx.local_user)
  end,
  localuser = function(ctx, list)
    return match_list(list, ctx.local_user)
  end,
}

local function match_line(ctx, words)
  local result, i, seen = true, 1, 0
  while words[i] do
    local word, value = words[i], nil
    if word:find("^[^=]+=") then
      word, value = word:match("^([^=]+)=(.*)$")
    end
    local negated = word:sub(1, 1) == "!"
    local name = (negated and word:sub(2) or word):lower()
    local hit
    if name == "all" then
      if seen > 0 and not (seen == 1 and ctx.only_pass) or words[i + 1] then
        fail(ctx, "Match all stands alone")
      end
      hit = true
    elseif name == "final" or name == "canonical" then
      hit = ctx.final
      ctx.only_pass = true
      if name == "final" then
        ctx.want_final = true
      end
    elseif name == "exec" then
      fail(ctx, "Match exec is not supported: it would run a command")
    elseif CRITERIA[name] then
      if not value then
        i = i + 1
        value = words[i]
      end
      if not value then
        fail(ctx, "Match %s needs a pattern", name)
      end
      hit = CRITERIA[name](ctx, value) == true
    else
      fail(ctx, "Match %s is not supported", name)
    end
    if negated then
      hit = not hit
    end
    result = result and hit
    i, seen = i + 1, seen + 1
  end
  ctx.only_pass = nil
  if seen == 0 then
    fail(ctx, "Match needs a criterion")
  end
  return result
end

-- ---- files ----

--- Paths that a pattern of Include names, sorted.
local function glob(pattern)
  local found = { pattern:sub(1, 1) == "/" and "/" or "." }
  for part in pattern:gmatch("[^/]+") do
    local following = {}
    for _, dir in ipairs(found) do
      local base = dir == "/" and "/" or dir .. "/"
      if not part:find("[*?]") then
        if fs.exists(base .. part) then
          following[#following + 1] = base .. part
        end
      else
        local ok, names = pcall(fs.list, dir)
        table.sort(ok and names or {})
        for _, name in ipairs(ok and names or {}) do
          if (name:sub(1, 1) ~= "." or part:sub(1, 1) == ".") and M.match(part, name) then
            following[#following + 1] = base .. name
          end
        end
      end
    end
    found = following
  end
  return found
end

local read_file

local function include(ctx, words, active)
  if #words == 0 then
    fail(ctx, "Include needs a path")
  end
  for _, word in ipairs(words) do
    local path = word
    if path:sub(1, 2) == "~/" then
      path = ctx.home .. path:sub(2)
    elseif path:sub(1, 1) == "~" then
      fail(ctx, "Include: %q: only ~/ is supported", word)
    elseif path:sub(1, 1) ~= "/" then
      path = (ctx.user_file and ctx.home .. "/.ssh" or "/etc/ssh") .. "/" .. path
    end
    for _, file in ipairs(glob(path)) do
      if ctx.depth >= DEPTH_MAX then
        fail(ctx, "Include is nested too deeply")
      end
      local was = { ctx.file, ctx.line, ctx.never }
      ctx.depth, ctx.never = ctx.depth + 1, ctx.never or not active
      read_file(ctx, file, active)
      ctx.depth = ctx.depth - 1
      ctx.file, ctx.line, ctx.never = was[1], was[2], was[3]
    end
  end
end

local function unknown(ctx, key, written)
  if ctx.o.ignoreunknown and match_list(ctx.o.ignoreunknown, key, true) then
    return
  end
  if not KNOWN[key] then
    log.warn("%s:%d: unknown directive %s", ctx.file, ctx.line, written)
  end
end

local function directive(ctx, key, written, text, active)
  local kind = KINDS[key]
  -- These take the rest as it is: a quotation mark in it is the shell's.
  local words = kind ~= "rest" and split(ctx, text) or {}
  if key == "ignoreunknown" then
    if active then
      put(ctx.o, key, one(ctx, words, key):lower())
    end
    return
  end
  if not kind then
    return unknown(ctx, key, written)
  end
  if kind == "add" then
    local v = one(ctx, words, written)
    if active then
      ctx.o[key] = ctx.o[key] or {}
      add(ctx.o[key], v)
    end
  elseif kind == "setenv" or kind == "sendenv" then
    if active and kind == "setenv" then
      set_env(ctx, ctx.o, words)
    elseif active then
      send_env(ctx.o, words)
    end
  else
    local v = READ[kind](ctx, written, words, text)
    -- Of jump and command the first one counts for both.
    if active and not (key == "proxyjump" and ctx.o.proxycommand)
      and not (key == "proxycommand" and ctx.o.proxyjump) then
      put(ctx.o, key, v)
    end
  end
end

local function check_mode(path)
  local ok, st = pcall(fs.stat, path)
  if ok and ((st.uid ~= 0 and st.uid ~= M.uid()) or st.mode & 18 ~= 0) then
    error(host.error {
      kind = "auth", code = "ConfigMode", file = path, hint = "chmod go-w " .. path,
      message = path .. ": others could have written it; not read",
    }, 0)
  end
end

local function lines_of(text)
  return (text .. "\n"):gmatch("([^\n]*)\n")
end

function read_file(ctx, path, active)
  local ok, text = pcall(fs.read, path, { max = FILE_MAX })
  if not ok then
    if type(text) == "table" and text.kind == "notfound" then
      return false
    end
    error(text, 0)
  end
  ctx.files = ctx.files + 1
  if ctx.files > FILES_MAX then
    fail(ctx, "too many files")
  end
  if ctx.check then
    check_mode(path)
  end
  ctx.file, ctx.line = path, 0
  for line in lines_of(text) do
    ctx.line = ctx.line + 1
    line = line:gsub("[ \t\r\f]+$", ""):gsub("^[ \t]+", "")
    if line ~= "" and line:sub(1, 1) ~= "#" then
      local written, rest = line:match('^"?([^%s="]+)"?[ \t]*=?[ \t]*(.*)$')
      if not written then
        fail(ctx, "not understood")
      end
      local key = written:lower()
      if key == "host" then
        active = host_line(ctx, split(ctx, rest)) and not ctx.never
      elseif key == "match" then
        active = match_line(ctx, split(ctx, rest)) and not ctx.never
      elseif key == "include" then
        include(ctx, split(ctx, rest), active)
      else
        directive(ctx, key, written, rest, active)
      end
    end
  end
  return true
end

-- ---- what applies ----

--- Number of the user who runs us.
-- @return integer
function M.uid()
  return fs.stat("/proc/self").uid
end

local function read_all(ctx, path)
  ctx.files, ctx.depth = 0, 0
  if path then
    ctx.user_file, ctx.check = true, false
    if not read_file(ctx, path, true) then
      error(host.error { kind = "notfound", code = "SshConfig",
        message = path .. ": no such file" }, 0)
    end
    return
  end
  ctx.user_file, ctx.check = true, true
  read_file(ctx, ctx.home .. "/.ssh/config", true)
  ctx.user_file, ctx.check = false, false
  read_file(ctx, "/etc/ssh/ssh_config", true)
end

local DEFAULT_KEYS = { "id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk",
  "id_xmss", "id_dsa" }

--- All directives that apply to a host.
-- @param name string as the user gives it
-- @param[opt] path string a file instead of the user's and the system's
-- @param[opt] given table user, port: what goes before the files
-- @return table directive in lower case = value; lists are tables
-- @raise usage (file, line); auth ConfigMode; notfound
-- @example require("hgauto.ssh_config").effective("example.org").port
function M.effective(name, path, given)
  local o = {}
  for key, value in pairs(given or {}) do
    o[key] = value
  end
  local ctx = {
    o = o, host = name, home = fs.home(), local_user = host.getenv("USER") or "root",
    file = path or "ssh_config", line = 0,
  }
  read_all(ctx, path)
  ctx.final_host = expand_host(ctx):lower()
  if ctx.want_final then
    ctx.final = true
    o.hostname = o.hostname and ctx.final_host
    read_all(ctx, path)
  end
  o.hostname = ctx.final_host
  o.ignoreunknown = nil
  put(o, "user", ctx.local_user)
  put(o, "port", 22)
  put(o, "identitiesonly", false)
  put(o, "stricthostkeychecking", "ask")
  put(o, "connecttimeout", -1)
  put(o, "serveraliveinterval", 0)
  put(o, "serveralivecountmax", 3)
  put(o, "addressfamily", "any")
  put(o, "userknownhostsfile", { "~/.ssh/known_hosts", "~/.ssh/known_hosts2" })
  put(o, "globalknownhostsfile", { "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2" })
  put(o, "sendenv", {})
  put(o, "setenv", {})
  put(o, "certificatefile", {})
  o.identityfile_default = o.identityfile == nil or nil
  if not o.identityfile then
    o.identityfile = {}
    for i, key in ipairs(DEFAULT_KEYS) do
      o.identityfile[i] = "~/.ssh/" .. key
    end
  end
  for _, key in ipairs { "proxyjump", "proxycommand" } do
    if o[key] and o[key]:lower() == "none" then
      o[key] = nil
    end
  end
  if o.proxyjump then
    o.proxycommand = nil
  end
  return o
end

-- ---- tokens ----

local function hostname_here()
  return (fs.read("/proc/sys/kernel/hostname"):gsub("%s+$", ""))
end

--- Values of the tokens for a host.
-- @param name string as the user gave it
-- @param o table from effective
-- @return table letter = text
function M.tokens(name, o)
  local here = hostname_here()
  local t = {
    ["%"] = "%", d = fs.home(), h = o.hostname, i = tostring(M.uid()), L = here:match("^[^.]*"),
    l = here, n = name, p = tostring(o.port), r = o.user, u = host.getenv("USER") or "root",
    k = o.hostkeyalias or name,
  }
  t.C = crypto.sha1(t.l .. t.h .. t.p .. t.r)
  return t
end

local function variable(name)
  local v = host.getenv(name)
  if not v then
    error(host.error { kind = "usage", code = "SshConfig",
      message = ("ssh_config: the variable %s is not set"):format(name) }, 0)
  end
  return v
end

--- Expands tokens (%h ...) and, unless plain, ${VAR} and ~/.
-- @param text string
-- @param tokens table
-- @param[opt] plain boolean only tokens
-- @return string
-- @raise usage an unknown token
function M.expand(text, tokens, plain)
  local out = text:gsub("%%(.?)", function(c)
    return tokens[c] or error(host.error { kind = "usage", code = "SshConfig",
      message = ("ssh_config: %%%s in %q is not known"):format(c, text) }, 0)
  end)
  if plain then
    return out
  end
  out = out:gsub("%${([^}]*)}", variable)
  if out:sub(1, 2) == "~/" then
    out = fs.home() .. out:sub(2)
  end
  return out
end

--- Our algorithms narrowed and ordered as a directive says (+ - ^ lists).
-- @param ours string[]
-- @param text string|nil
-- @return string[]
function M.narrow(ours, text)
  if not text then
    return ours
  end
  local how, list = text:match("^([-+^]?)(.*)$")
  local picked, out = {}, {}
  for p in list:gmatch("[^,]+") do
    for _, a in ipairs(ours) do
      if M.match(p, a) and not picked[a] then
        picked[a] = true
        out[#out + 1] = a
      end
    end
  end
  if how == "" then
    return out
  end
  local rest = {}
  for _, a in ipairs(ours) do
    if how == "+" or not picked[a] then
      rest[#rest + 1] = a
    end
  end
  if how == "^" then
    return table.move(rest, 1, #rest, #out + 1, out)
  end
  return rest
end

return M
