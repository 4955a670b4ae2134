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
  t.is({ p.boot, #p.scripts, p.power }, { nil, 0 }, "nothing runs")
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
  local p = plan '#cloud-config\n{"apt": {}, "yum_repos": {}, "ssh_keys": {"rsa_private": "x"}}'
  t.is(p.notices, { "hgauto: cloud-config key 'apt' is not supported",
    "hgauto: cloud-config key 'ssh_keys.rsa_private' is not supported",
    "hgauto: cloud-config key 'yum_repos' is not supported" }, "each once, in order")
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
  t.is(#plan("#!/bin/sh\n").scripts, 1, "a script runs at the first boot")
  t.is(#plan("#!/bin/sh\n", { first = false }).scripts, 0, "not at the second")
end)

t.test("files, users and host name are there before SSH is", function()
  local p = plan [[#cloud-config
{"hostname": "builder", "ssh_authorized_keys": ["ssh-ed25519 MORE m"],
 "users": ["default", {"name": "ci", "groups": ["sudo", "adm"], "shell": "/bin/sh",
   "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": ["ssh-ed25519 CI c"]}],
 "write_files": [{"path": "/etc/x", "content": "text", "permissions": "0640", "owner": "ci:ci"},
   {"path": "/etc/y", "encoding": "b64", "content": "AGE="}]}]]
  t.is(p.hostname, "builder", "host name")
  t.is(file(p, "/etc/hostname").data, "builder\n", "in its file")
  t.is(p.users, { { name = "ci", groups = "sudo,adm", shell = "/bin/sh" } }, "users")
  t.is(file(p, "/etc/sudoers.d/91-ci").data, "ci ALL=(ALL) NOPASSWD:ALL\n", "their rights")
  t.is(file(p, "/home/ci/.ssh/authorized_keys").data, "ssh-ed25519 CI c\n", "their keys")
  t.is(file(p, "/home/admin/.ssh/authorized_keys").data,
    "ssh-ed25519 AAAA me\nssh-ed25519 MORE m\n", "more keys of the image's user")
  t.is({ file(p, "/etc/x").data, file(p, "/etc/x").mode, file(p, "/etc/x").owner },
    { "text", 416, "ci" }, "a file with mode and owner")
  t.is(file(p, "/etc/y").data, "\0a", "a binary file")
  t.is(p.notices, {}, "nothing to complain of")
end)

t.test("what cannot be used is named, the rest is used", function()
  local p = plan [[#cloud-config
{"hostname": "no name", "users": [{"name": "Root!"}], "timezone": "../x", "power_state": {},
 "write_files": [{"path": "relative"}, {"path": "/a", "permissions": "rwx"},
   {"path": "/b", "encoding": "gzip"}, {"path": "/c", "append": true}, {"path": "/good"}]}]]
  local text = table.concat(p.notices, "\n")
  for _, part in ipairs { "hostname: no name", "users%[1%]", "timezone: %.%./x", "power_state",
    "write_files%[1%]: needs an absolute path", "write_files%[2%]: permissions rwx",
    "write_files%[3%]: encoding gzip", "write_files%[4%]: append" } do
    t.like(text, part, part)
  end
  t.ok(file(p, "/good"), "the good file is made")
  t.is(p.hostname, "ip-172-31-4-5", "the host name is as without")
end)

t.test("packages, commands and power come after each other", function()
  local text = '#cloud-config\n{"packages": ["a", "b c"], "runcmd": [["echo", "x y"], "date"],'
    .. '"timezone": "Europe/Berlin", "power_state": {"mode": "poweroff", "delay": "+5"}}'
  local p = plan(text)
  local order = {}
  for i, argv in ipairs(p.scripts) do
    order[i] = argv[3]:match("instance/(%w+)")
  end
  t.is(order, { "timezone", "packages", "runcmd" }, "in this order")
  t.like(file(p, "/var/lib/cloud/instance/packages").data, "install %-y .*'a' 'b c'\n", "quoted")
  t.is(file(p, "/var/lib/cloud/instance/runcmd").data, "#!/bin/sh\n'echo' 'x y'\ndate\n",
    "commands as at boot")
  t.is(p.power, "shutdown -P +5", "power")
  t.is(#plan(text, { first = false }).scripts, 0, "once only")
end)

return t.done()
