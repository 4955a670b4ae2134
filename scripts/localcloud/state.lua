-- Objects of the local cloud.  Lua tables are the working set, SQLite keeps
-- them: changes are marked and written in one transaction by commit.  Nothing
-- here waits, so a request's check and change cannot be interleaved.

local crypto = require "hgauto.crypto"
local json = require "hgauto.json"
local time = require "hgauto.time"

local M = {}

local SCHEMA = 1

local TABLES = {
  "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS obj(kind TEXT NOT NULL, region TEXT NOT NULL, id TEXT NOT NULL,"
    .. " json TEXT NOT NULL, PRIMARY KEY(kind, region, id))",
  "CREATE TABLE IF NOT EXISTS token(op TEXT NOT NULL, region TEXT NOT NULL, token TEXT NOT NULL,"
    .. " hash TEXT NOT NULL, ids TEXT NOT NULL, expires INTEGER, PRIMARY KEY(op, region, token))",
  "CREATE TABLE IF NOT EXISTS layer(id TEXT PRIMARY KEY, refs INTEGER NOT NULL,"
    .. " bytes INTEGER NOT NULL, origin TEXT NOT NULL, tier TEXT NOT NULL,"
    .. " created INTEGER NOT NULL)",
}

local State = {}
State.__index = State

-- ---- opening ----

local function meta(db, key, make)
  local rows = db:exec("SELECT value FROM meta WHERE key=?", key)
  if rows[1] then
    return rows[1].value
  end
  local value = make()
  db:exec("INSERT INTO meta(key, value) VALUES(?, ?)", key, value)
  return value
end

local function check_schema(db)
  local have = tonumber(meta(db, "schema", function()
    return tostring(SCHEMA)
  end))
  if have > SCHEMA then
    local hg = require "hg"
    hg.fail { kind = "usage", code = "Schema",
      message = ("the local cloud's state has format %d, this hgauto knows %d"):format(have,
        SCHEMA),
      hint = "use the newer hgauto, or begin anew with: hgauto local down --wipe" }
  end
end

local function random_hex(n)
  return function()
    return crypto.hex(crypto.random(n))
  end
end

local function load_all(self)
  local db = self.db
  db:exec("PRAGMA journal_mode=WAL")
  db:exec("PRAGMA synchronous=NORMAL")
  for _, sql in ipairs(TABLES) do
    db:exec(sql)
  end
  check_schema(db)
  self.secret = crypto.unhex(meta(db, "page_secret", random_hex(32)))
  self.cloud_id = meta(db, "cloud_id", random_hex(8))
  for _, row in ipairs(db:exec("SELECT kind, region, id, json FROM obj")) do
    local obj = json.decode(row.json)
    self:place(obj.kind, obj.region)[obj.id] = obj
  end
end

--- Makes the working set from a generic store (st:db("local/cloud")), which it
-- takes over.
-- @param db table exec, begin, commit, rollback, close
-- @return State
-- @raise usage (Schema) it was written by a newer program
function M.open(db)
  local self = setmetatable({ db = db, objects = {}, dirty = {}, tokens = {}, fresh = {} },
    State)
  local ok, e = pcall(load_all, self)
  if not ok then
    db:close()
    error(e, 0)
  end
  return self
end

--- Closes the store; changes not committed are lost.
function State:close()
  self.db:close()
end

-- ---- objects ----

--- The live table id -> object of one kind and region.
function State:place(kind, region)
  local of_kind = self.objects[kind]
  if not of_kind then
    of_kind = {}
    self.objects[kind] = of_kind
  end
  if not of_kind[region] then
    of_kind[region] = {}
  end
  return of_kind[region]
end

--- One object or nil.
function State:get(kind, region, id)
  return self:place(kind, region)[id]
end

--- All objects of a kind, in one region or (nil) in all, unordered.
-- @return object[]
function State:list(kind, region)
  local out = {}
  for name, objects in pairs(self.objects[kind] or {}) do
    if not region or name == region then
      for _, obj in pairs(objects) do
        out[#out + 1] = obj
      end
    end
  end
  return out
end

local function mark(self, obj)
  self.dirty[obj.kind .. "\0" .. obj.region .. "\0" .. obj.id] =
    { obj.kind, obj.region, obj.id, obj }
end

--- Adds or changes an object; kind, region and id are set.
-- @return the object
function State:put(obj)
  local place = self:place(obj.kind, obj.region)
  self.fresh[obj.id] = self.fresh[obj.id] or not place[obj.id] or nil
  place[obj.id] = obj
  mark(self, obj)
  return obj
end

--- Begins a request: nothing is new yet.
function State:begin()
  self.fresh = {}
end

--- Whether an object was added since State:begin.
function State:is_new(id)
  return self.fresh[id] == true
end

--- Removes an object.
function State:drop(obj)
  self:place(obj.kind, obj.region)[obj.id] = nil
  mark(self, obj)
end

--- A new id such as i-0123456789abcdef0; like AWS's it begins with a zero digit.
-- @param prefix string
-- @return string
function M.new_id(prefix)
  return prefix .. "-0" .. crypto.hex(crypto.random(8))
end

local last_ms = 0

--- Milliseconds since 1970, the unit of obj.created; never the same twice, so
-- that creation times order objects.
-- @return integer
function M.now_ms()
  last_ms = math.max(last_ms + 1, math.floor(time.now() * 1000))
  return last_ms
end

-- ---- client tokens ----

--- What a client token stands for.
-- @return {hash=, ids={…}}|nil
function State:token(op, region, token)
  local pending = self.tokens[op .. "\0" .. region .. "\0" .. token]
  if pending then
    return pending
  end
  local rows = self.db:exec("SELECT hash, ids FROM token WHERE op=? AND region=? AND token=?",
    op, region, token)
  local row = rows[1]
  return row and { hash = row.hash, ids = json.decode(row.ids) }
end

--- Remembers a client token; written by the next commit.
function State:put_token(op, region, token, hash, ids)
  self.tokens[op .. "\0" .. region .. "\0" .. token] =
    { op = op, region = region, token = token, hash = hash, ids = ids }
end

--- Forgets a client token at once.
function State:drop_token(op, region, token)
  self.db:exec("DELETE FROM token WHERE op=? AND region=? AND token=?", op, region, token)
end

-- ---- transactions ----

local function write(self)
  for _, key in pairs(self.dirty) do
    local kind, region, id = key[1], key[2], key[3]
    local obj = self:get(kind, region, id)
    if obj then
      self.db:exec("INSERT OR REPLACE INTO obj(kind, region, id, json) VALUES(?, ?, ?, ?)",
        kind, region, id, json.encode(obj))
    else
      self.db:exec("DELETE FROM obj WHERE kind=? AND region=? AND id=?", kind, region, id)
    end
  end
  for _, t in pairs(self.tokens) do
    self.db:exec("INSERT OR REPLACE INTO token(op, region, token, hash, ids) VALUES(?, ?, ?, ?, ?)",
      t.op, t.region, t.token, t.hash, json.encode(t.ids))
  end
end

--- Writes all changes in one transaction; on failure they are taken back.
function State:commit()
  if not next(self.dirty) and not next(self.tokens) then
    return
  end
  self.db:begin()
  local ok, e = pcall(write, self)
  if ok then
    ok, e = pcall(self.db.commit, self.db)
  end
  if not ok then
    pcall(self.db.rollback, self.db)
    self:rollback()
    error(e, 0)
  end
  self.dirty, self.tokens = {}, {}
end

local function refill(obj, value)
  for k in pairs(obj) do
    obj[k] = nil
  end
  for k, v in pairs(value) do
    obj[k] = v
  end
  return obj
end

--- Takes back changes since the last commit by reading the objects again, into
-- the same tables: machines hold on to theirs.
function State:rollback()
  for _, key in pairs(self.dirty) do
    local rows = self.db:exec("SELECT json FROM obj WHERE kind=? AND region=? AND id=?",
      key[1], key[2], key[3])
    local old = rows[1] and json.decode(rows[1].json)
    self:place(key[1], key[2])[key[3]] = old and refill(key[4], old) or nil
  end
  self.dirty, self.tokens = {}, {}
end

--- Notes a base layer in the layer table.
function State:note_layer(layer)
  self.db:exec("INSERT OR IGNORE INTO layer(id, refs, bytes, origin, tier, created)"
    .. " VALUES(?, 0, ?, ?, ?, ?)", layer.layer, layer.size or 0, "base",
    layer.tier or "full", math.floor(time.now()))
end

return M
