-- User data: what is understood, what is refused, which files come of it.
local t = require "hg.tap"
local crypto = require "hgauto.crypto"
local userdata = require "localcloud.userdata"

local function plan(text, more)
  local opts = { text = text, first = true, user = "admin", public_key = "ssh-ed25519 AAAA me",
    private_ip = "172.31.4.5", make_host_key = function()
      return "PRIVATE", "ssh-ed25519 BBBB root@ip-172-31-4-5"
    end }
  for k, v in pairs(more or {}) do
    opts[k] = v
  end
  return userdata.plan(opts)
end

local function file(p, path)
  for _, f in ipairs(p.files) do
    if f.path == path then
      return f
    end
  end
end

t.test("kinds of user data are told apart", function()
  t.is(userdata.parse("#!/bin/sh\nx").script, "#!/bin/sh\nx", "a script")
  t.is(userdata.parse('#cloud-config\n{"a": 1}\n').config.a, 1, "cloud-config in JSON")
  t.is(userdata.parse("#cloud-config\n# a comment\n{\n  # another\n \"a\": \"#\"}").config.a, "#",
    "with comments between the lines")
  t.is(next(userdata.parse("#cloud-config\n").config), nil, "an empty cloud-config")
  t.is(userdata.parse("hello").plain, true, "anything else is plain")
  t.is(userdata.parse("").plain, false, "nothing is nothing")
end)

t.test("what cannot be honoured is refused", function()
  local refused = { code = "UnsupportedOperation" }
  for name, text in pairs {
    gzip = "\31\139\8\0", multipart = "Content-Type: multipart/mixed; boundary=x\n",
    yaml = "#cloud-config\nruncmd:\n  - ls\n", ["broken JSON"] = '#cloud-config\n{"a":',
  } do
    t.raises(function()
      userdata.check(crypto.base64(text))
    end, refused, name)
  end
  t.raises(function()
    userdata.check("%%%")
  end, { code = "InvalidParameterValue" }, "no base64")
  t.raises(function()
    userdata.check(crypto.base64(("x"):rep(16385)))
  end, { code = "InvalidParameterValue", match = "16384" }, "one byte too long")
  t.is(#userdata.check(crypto.base64(("x"):rep(16384))), 16384, "the longest allowed")
  t.is(userdata.check(nil), nil, "none at all")
end)

t.test("every machine gets a name, a user and a host key", function()
  local p = plan("")
  t.is(p.hostname, "ip-172-31-4-5", "the name is made of the address")
  t.is(file(p, "/etc/hostname").data, "ip-172-31-4-5\n", "and written")
  t.like(file(p, "/etc/hosts").data, "\n172%.31%.4%.5 ip%-172%-31%-4%-5\n", "also into hosts")
  local keys = file(p, "/home/admin/.ssh/authorized_keys")
  t.is({ keys.data, keys.owner, keys.mode }, { "ssh-ed25519 AAAA me\n", "admin", 384 },
    "the key pair opens it")
  t.is(file(p, "/home/admin/.ssh/").mode, 448, "in a directory of its own")
  t.is(file(p, "/etc/ssh/ssh_host_ed25519_key").data, "PRIVATE\n", "a host key is made")
  t.is(p.host_public, "ssh-ed25519 BBBB root@ip-172-31-4-5", "and known")
  t.is({ p.boot, p.script }, {}, "nothing runs")
end)

t.test("an injected host key is used as it is", function()
  local p = plan [[#cloud-config
{"ssh_deletekeys": true, "ssh_keys": {"ed25519_private": "-----BEGIN\nabc\n-----END\n",
 "ed25519_public": "ssh-ed25519 CCCC x\n"}}]]
  t.is(file(p, "/etc/ssh/ssh_host_ed25519_key").data, "-----BEGIN\nabc\n-----END\n", "private")
  t.is(file(p, "/etc/ssh/ssh_host_ed25519_key").mode, 384, "for root only")
  t.is(file(p, "/etc/ssh/ssh_host_ed25519_key.pub").data, "ssh-ed25519 CCCC x\n", "public")
  t.is(p.host_public, "ssh-ed25519 CCCC x", "known without its newline")
  t.is(p.notices, {}, "without a complaint")
end)

t.test("unknown cloud-config keys are named", function()
  local p = plan '#cloud-config\n{"runcmd": ["x"], "apt": {}, "ssh_keys": {"rsa_private": "x"}}'
  t.is(p.notices, { "hgauto: cloud-config key 'apt' is not supported",
    "hgauto: cloud-config key 'runcmd' is not supported",
    "hgauto: cloud-config key 'ssh_keys.rsa_private' is not supported" }, "each once, in order")
end)

t.test("bootcmd runs at every boot, scripts once", function()
  local text = '#cloud-config\n{"bootcmd": [["sh", "-c", "echo \'a b\' $X"], "date > /tmp/d"]}'
  local p = plan(text)
  t.is(file(p, "/var/lib/cloud/instance/boot.sh").data,
    "#!/bin/sh\n'sh' '-c' 'echo '\\''a b'\\'' $X'\ndate > /tmp/d\n",
    "lists are quoted, strings are shell")
  t.ok(p.boot, "it is run")
  local again = plan(text, { first = false })
  t.ok(again.boot, "and again")
  t.is(file(again, "/etc/ssh/ssh_host_ed25519_key"), nil, "the host key stays as it is now")
  t.is(file(again, "/home/admin/.ssh/authorized_keys"), nil, "so do the authorized keys")
  t.ok(plan("#!/bin/sh\n").script, "a script runs at the first boot")
  t.is(plan("#!/bin/sh\n", { first = false }).script, nil, "not at the second")
end)

return t.done()
