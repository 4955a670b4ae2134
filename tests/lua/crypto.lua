-- hgauto.crypto against published values and ssh-keygen.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local t = require "hg.tap"

t.test("digests of \"abc\" (RFC 1321, FIPS 180)", function()
  t.is(crypto.md5("abc"), "900150983cd24fb0d6963f7d28e17f72", "md5")
  t.is(crypto.sha1("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d", "sha1")
  t.is(crypto.sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha256")
end)

t.test("HMAC-SHA256 (RFC 4231, case 2)", function()
  t.is(crypto.hex(crypto.hmac_sha256("Jefe", "what do ya want for nothing?")),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "text key")
  t.is(crypto.hex(crypto.hmac_sha256(crypto.secret("Jefe12"), "x")),
    crypto.hex(crypto.hmac_sha256("Jefe12", "x")), "secret as key")
end)

t.test("hex and base64 (RFC 4648)", function()
  t.is(crypto.hex("\0\255a"), "00ff61", "hex")
  t.is(crypto.unhex("00fF61"), "\0\255a", "unhex")
  t.raises(function() crypto.unhex("0") end, { kind = "protocol" }, "odd")
  t.is({ crypto.base64(""), crypto.base64("f"), crypto.base64("foobar") },
    { "", "Zg==", "Zm9vYmFy" }, "base64")
  t.is(crypto.unbase64("Zm9vYg=="), "foob", "unbase64")
  t.raises(function() crypto.unbase64("*") end, { kind = "protocol" }, "bad digit")
end)

t.test("random, uuid, token, equal", function()
  t.is(#crypto.random(33), 33, "length")
  t.ok(crypto.random(16) ~= crypto.random(16), "differs")
  t.raises(function() crypto.random(-1) end, { kind = "usage" }, "negative")
  t.like(crypto.uuid(), "^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$", "uuid version 4")
  t.like(crypto.token(), "^" .. ("%x"):rep(32) .. "$", "token")
  t.ok(crypto.equal("a", "a") and not crypto.equal("a", "b") and not crypto.equal("a", "aa"),
    "equal")
end)

t.test("secrets are shown as ***", function()
  local s = crypto.secret("hidden words")
  t.is({ tostring(s), s:reveal(), s:len(), #s }, { "***", "hidden words", 12, 12 }, "object")
  t.is(require("hgauto.log").redact("the hidden words, twice"), "the ***, twice", "in the log")
  t.raises(function() require("hgauto.json").encode { s } end, { kind = "usage" }, "not in JSON")
end)

t.test("keys", function()
  local dir = t.tmpdir()
  local k = crypto.keypair("ed25519", "me@here")
  t.like(k:public(), "^ssh%-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA%S+ me@here$", "public line")
  t.is(k:type(), "ssh-ed25519", "type")
  local digest = crypto.unhex(crypto.sha256(k:blob()))
  t.is(k:fingerprint(), "SHA256:" .. crypto.base64(digest):gsub("=", ""), "fingerprint")
  k:save(dir .. "/key")
  t.is(fs.stat(dir .. "/key").mode, 384, "saved with mode 600")
  t.is(crypto.load_private(dir .. "/key"):public(), k:public(), "load_private")
  t.is(crypto.parse_private(k:private()):public(), k:public(), "parse_private of a secret")
  fs.chmod(dir .. "/key", 420)
  t.raises(function() crypto.load_private(dir .. "/key") end, { kind = "auth", code = "KeyMode" },
    "an open mode is refused")
  t.raises(function() crypto.load_private(dir .. "/none") end, { kind = "notfound" }, "missing")
  t.raises(function() crypto.parse_private("junk") end, { kind = "auth", code = "KeyFormat" },
    "junk")
  t.raises(function() crypto.keypair("rot13") end, { kind = "usage" }, "unknown algorithm")
  local info = crypto.public_info(k:public())
  t.is({ info.type, info.bits, info.fingerprint, info.md5_der }, { "ssh-ed25519", 256,
    k:fingerprint(), nil }, "public_info")
  t.raises(function() crypto.public_info("ssh-rsa x") end, { kind = "usage" }, "bad line")
  k:close()
  k:close()
  t.raises(function() k:public() end, { kind = "usage" }, "a closed key")
  t.raises(function() k.public() end, { kind = "usage", match = "call it with a colon" },
    "dot call")
end)

return t.done()
