#!/usr/bin/env python3
"""The code of an MFA device, asked for on a terminal and typed there."""

import http.server
import os
import re
import shutil
import sys
import tempfile
import threading
import urllib.parse

try:
    import pexpect
except ImportError:
    print("1..0 # SKIP needs python3-pexpect")
    sys.exit(0)

HGAUTO = os.environ.get("HGAUTO", os.path.abspath("hgauto"))
PATIENCE = 60
count = failed = 0


def ok(cond, name, detail=""):
    global count, failed
    count += 1
    print("%sok %d - %s" % ("" if cond else "not ", count, name))
    if not cond:
        failed += 1
        for line in str(detail).splitlines():
            print("# |" + line)
    sys.stdout.flush()


ANSWER = """<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser>
<AssumedRoleId>x</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/M/x</Arn>
</AssumedRoleUser><Credentials><AccessKeyId>ASIAMFA</AccessKeyId>
<SecretAccessKey>canary-mfa</SecretAccessKey><SessionToken>tok</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>
</AssumeRoleResponse>""".encode()

bodies = []


class Sts(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        size = int(self.headers["Content-Length"])
        bodies.append(urllib.parse.parse_qs(self.rfile.read(size).decode()))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *args):
        pass


def start(home, url):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env.update(HOME=home, AWS_ENDPOINT_URL_STS=url, AWS_REGION="us-west-2",
               AWS_EC2_METADATA_DISABLED="true", TERM="xterm")
    return pexpect.spawn(
        HGAUTO, ["run", "--state-path", home + "/state",
                 home + "/task.lua"],
        env=env, timeout=PATIENCE, encoding="utf-8", dimensions=(24, 120))


def main():
    home = tempfile.mkdtemp(prefix="mfa-")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d" % server.server_address[1]
    os.mkdir(home + "/.aws", 0o700)
    with open(home + "/.aws/config", "w", encoding="utf-8") as f:
        f.write("[profile m]\nrole_arn = arn:aws:iam::123456789012:role/M\n"
                "mfa_serial = arn:aws:iam::1:mfa/me\nsource_profile = b\n"
                "[profile b]\naws_access_key_id = AKIABASE\n"
                "aws_secret_access_key = canary-base\n")
    with open(home + "/task.lua", "w", encoding="utf-8") as f:
        f.write('return function()\n  local c = require("hgauto.aws")'
                '.credentials { profile = "m" }\n'
                '  print("got " .. c.access_key_id)\nend\n')
    try:
        child = start(home, url)
        child.expect_exact("Enter MFA code for arn:aws:iam::1:mfa/me: ")
        ok(True, "the code is asked for")
        ok(not bodies, "before anything is sent", bodies)
        ok(child.waitnoecho(10), "typing is not echoed")
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        ok(child.exitstatus == 130,
           "interrupted while asking", child.exitstatus)
        ok(not bodies, "nothing was sent", bodies)

        child = start(home, url)
        child.expect_exact("Enter MFA code for arn:aws:iam::1:mfa/me: ")
        child.waitnoecho(10)
        child.sendline("")
        child.expect("nothing was typed")
        child.expect(pexpect.EOF)
        child.close()
        ok(child.exitstatus == 3, "an empty line is no code", child.exitstatus)

        child = start(home, url)
        child.expect_exact("Enter MFA code for arn:aws:iam::1:mfa/me: ")
        child.waitnoecho(10)
        child.sendline("123456")
        child.expect("got ASIAMFA")
        shown = child.before
        child.expect(pexpect.EOF)
        shown += child.before
        child.close()
        ok(child.exitstatus == 0, "with it the role is taken", shown)
        ok("123456" not in re.sub("123456789012", "", shown),
           "it does not show up on the screen", shown)
        sent = bodies[-1] if bodies else {}
        ok(sent.get("TokenCode") == ["123456"] and
           sent.get("SerialNumber") == ["arn:aws:iam::1:mfa/me"],
           "code and device are sent", sent)

        child = start(home, url)
        child.expect("got ASIAMFA")
        child.expect(pexpect.EOF)
        child.close()
        ok(len(bodies) == 1, "the second run finds the role in the cache",
           len(bodies))
    except (pexpect.TIMEOUT, pexpect.EOF) as e:
        ok(False, "the terminal shows what was expected", child.before)
    finally:
        server.shutdown()
        shutil.rmtree(home)
    print("1..%d" % count)
    return 1 if failed else 0


sys.exit(main())
