"""Canary secrets in AWS calls: the secret key, the session token and user data
go through success, denial, garbled and torn answers, a Lua error and the level
trace; the service quotes all of them in every spelling.  Afterwards neither
stdout, stderr, nor any file, nor (with gcore) the memory of the process that
closed its clients may hold them."""

import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse

HGAUTO = os.environ["HGAUTO"]
KEY = "k/+" + os.urandom(18).hex() + "Key"
TOKEN = "t+/=" + os.urandom(120).hex() + "Token"
DATA = "#!/bin/sh\npassword='" + os.urandom(16).hex() + "&<data>'\n"

n = 0


def ok(cond, name):
    global n
    n += 1
    print("%sok %d - %s" % ("" if cond else "not ", n, name), flush=True)


def spellings(text):
    """The text as it is, percent-encoded, in JSON, XML, and base64 (at any offset)."""
    raw = text.encode()
    yield "plain", raw
    for safe in ("", "/", "~"):
        yield "URL", urllib.parse.quote(text, safe=safe).encode()
    yield "form", urllib.parse.quote_plus(text).encode()
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "XML", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").encode()
    for shift in range(3):
        # Characters that depend on nothing but the text.
        coded = base64.b64encode(b"\0" * shift + raw)
        first, last = (0, 2, 3)[shift], (len(raw) + shift) * 8 // 6
        core = coded[first:last]
        yield "base64", core
        yield "base64url", core.replace(b"+", b"-").replace(b"/", b"_")
        yield "base64 in a form", urllib.parse.quote_plus(core.decode()).encode()


FORMS = {
    name: sorted({(kind, form) for kind, form in spellings(text)})
    for name, text in (("key", KEY), ("token", TOKEN), ("data", DATA))
}


def found(blob, names):
    return ["%s as %s" % (name, kind) for name in names for kind, form in FORMS[name]
            if form in blob]


ECHO = " ".join(form.decode() for forms in FORMS.values() for _, form in forms)
XML_ECHO = ECHO.replace("&", "&amp;").replace("<", "&lt;")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        act = urllib.parse.parse_qs(body)["ImageId"][0]
        status, text = 200, ""
        if act == "ami-good":
            text = (
                "<RunInstancesResponse><instancesSet><item><instanceId>i-0123456789abcdef0"
                "</instanceId><keyName>%s</keyName></item></instancesSet></RunInstancesResponse>"
                % XML_ECHO
            )
        elif act == "ami-denied":
            status = 403
            text = (
                "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no: %s"
                "</Message></Error></Errors></Response>" % XML_ECHO
            )
        elif act == "ami-garbled":
            text = "<html>" + ECHO
        elif act == "ami-wrong":
            # Long enough for whatever holds it to grow several times.
            status, text = 500, ECHO + " filler" * 6000
        elif act == "ami-json":
            status, text = 400, json.dumps({"__type": "Bad", "message": ECHO})
        self.send_response(status, "X")
        length = len(text) + (40 if act == "ami-torn" else 0)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Echo", ECHO.replace("\n", " "))
        if act == "ami-torn":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


# The key and the token are nowhere in it; user data comes from a file.
SCRIPT = """
local aws = require "hgauto.aws"
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local log = require "hgauto.log"
log.level("trace")
local sink <close> = log.file("%(tmp)s/run.log", { level = "trace" })
local answers = 0
do
  local ec2 = aws.client("ec2", { region = "us-west-2", endpoint_url = "%(url)s",
    max_attempts = 2 })
  local data = fs.read("%(tmp)s/data")
  for _, act in ipairs { "good", "denied", "garbled", "wrong", "json", "torn" } do
    local ok, r = pcall(ec2.run_instances, ec2, { ImageId = "ami-" .. act, MinCount = 1,
      MaxCount = 1, UserData = data })
    if ok then
      answers = answers + 1
    else
      print(act, tostring(r), r.hint, r.code, r.traceback)
      print(json.encode(r.response or {}))
    end
  end
  -- A mistake while the parameters are at hand.
  print(pcall(ec2.run_instances, ec2, { ImageId = {}, MinCount = "one", UserData = data,
    SecretName = data }))
  print(pcall(function() return #ec2:run_instances(nil)[data] end))
  local place = { region = "us-west-2" }
  print(json.encode(aws.credentials(place)), ec2, json.encode(aws.config(place)))
end
collectgarbage() collectgarbage()
print("answers", answers)
print("ready")
while not fs.exists("%(tmp)s/go") do
  async.sleep(0.05)
end
error("the end")
"""


def files(top):
    for here, _, names in os.walk(top):
        for name in names:
            path = os.path.join(here, name)
            if os.path.isfile(path):
                yield path


class Run:
    """One child; image: take its memory when its clients are gone."""

    def __init__(self, tmp, url, image):
        self.tmp, self.core = tmp, None
        home = os.path.join(tmp, "home")
        self.given = [os.path.join(home, ".aws", "credentials"), os.path.join(tmp, "data")]
        os.makedirs(os.path.dirname(self.given[0]))
        with open(os.open(self.given[0], os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write("[default]\naws_access_key_id = AKIDEXAMPLE00001\n"
                    "aws_secret_access_key = %s\naws_session_token = %s\n" % (KEY, TOKEN))
        with open(self.given[1], "w") as f:
            f.write(DATA)
        script = os.path.join(tmp, "secrets.lua")
        with open(script, "w") as f:
            f.write(SCRIPT % {"tmp": tmp, "url": url})
        env = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": tmp,
               "HGAUTO_STATE": os.path.join(tmp, "state"), "AWS_EC2_METADATA_DISABLED": "true"}
        with open(os.path.join(tmp, "stderr"), "wb") as err:
            child = subprocess.Popen([HGAUTO, "test", script], env=env, stdout=subprocess.PIPE,
                                     stderr=err, cwd=tmp)
        self.out = b""
        for line in child.stdout:
            self.out += line
            if line == b"ready\n":
                break
        if image:
            subprocess.run(["gcore", "-o", os.path.join(tmp, "image"), str(child.pid)],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.core = os.path.join(tmp, "image.%d" % child.pid)
        with open(os.path.join(tmp, "go"), "w"):
            pass
        self.out += child.stdout.read()
        child.wait()
        child.stdout.close()

    def read(self, name):
        with open(os.path.join(self.tmp, name), "rb") as f:
            return f.read()


def scan_streams(run):
    log, stderr, everything = run.read("run.log"), run.read("stderr"), ("key", "token", "data")
    ok(b"\nready\n" in run.out and b"answers\t1\n" in run.out, "the calls are made")
    ok(b"Action=RunInstances" in log and b"Action=RunInstances" in stderr
       and b"UnauthorizedOperation" in run.out, "log, stderr and errors tell of them")
    for name, blob in (("stdout", run.out), ("stderr", stderr), ("the log", log)):
        hits = found(blob, everything)
        ok(not hits, "nothing in %s%s" % (name, ": " + ", ".join(hits) if hits else ""))
    hits = [path + ": " + hit for path in files(run.tmp) if path not in run.given
            for hit in found(open(path, "rb").read(), everything)]
    ok(not hits, "nothing in any other file" + "".join("\n# " + h for h in hits))


def scan_image(run):
    if run.core is None or not os.path.exists(run.core):
        print("ok %d # SKIP no image of the process (package gdb; not with ASan)" % (n + 1))
        return 1
    with open(run.core, "rb") as f:
        image = f.read()
    ok(b"AKIDEXAMPLE00001" in image, "the image is one")
    hits = found(image, ("key", "token"))
    ok(not hits, "no key or token in memory%s" % (": " + ", ".join(hits) if hits else ""))
    return 0


def main():
    global ECHO, XML_ECHO
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d" % server.server_address[1]
    with tempfile.TemporaryDirectory() as tmp:
        scan_streams(Run(tmp, url, False))
    # What a peer sends is in memory: this time it keeps the secrets.
    ECHO = XML_ECHO = "nothing"
    with tempfile.TemporaryDirectory() as tmp:
        # With AddressSanitizer an image would be terabytes of shadow.
        asan = b"libasan" in subprocess.run(["ldd", HGAUTO], stdout=subprocess.PIPE).stdout
        skipped = scan_image(Run(tmp, url, shutil.which("gcore") is not None and not asan))
    server.shutdown()
    print("1..%d" % (n + skipped))


main()
