-- Modules over base: every allocation fails once in here.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local log = require "hgauto.log"
local term = require "hgauto.term"
local dir = host.getenv("TORTURE_DIR")

local v = json.decode('{"a":[1,2.5,null,{"b":"\\u00e4"}],"c":{"d":true}}')
json.encode({ v, json.list(), { 1, { x = "y" } } }, { indent = 1 })
pcall(json.decode, "[1,")
pcall(json.encode, { print })
local key = crypto.keypair("ed25519", "c")
key:save(dir .. "/key")
crypto.load_private(dir .. "/key"):fingerprint()
crypto.public_info(key:public())
crypto.unhex(crypto.hex(crypto.random(20)))
crypto.unbase64(crypto.base64("abc"))
crypto.hmac_sha256(key:private(), "x")
fs.write(dir .. "/f", "text")
fs.append(dir .. "/f", "more")
fs.read(dir .. "/f")
fs.sha256(dir .. "/f")
fs.mkdir(dir .. "/d/e", { parents = true })
fs.list(dir)
fs.remove(dir .. "/d", { tree = true })
do
  local _lock <close> = fs.lock(dir .. "/l")
end
log.secret("very secret text")
log.redact("a very secret text here")
term.filter("a\27[1mb")
local _f <close> = log.file(dir .. "/log")
log.info("x %s", "y")
pcall(host.load_text, "return 1", "x")
pcall(host.load_text, "return =", "x")
pcall(host.sandbox, function() print "no" end)
