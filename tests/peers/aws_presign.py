"""Presigned URLs against botocore: the same request signed at the same second
must get the same signature."""

import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse

try:
    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    print("1..0 # SKIP python3-botocore is not installed")
    sys.exit(0)

KEY, SECRET, TOKEN = "AKIDEXAMPLE00001", "wJalrXUtnFEMI/K7MDENG", "tok/en+=" + "x" * 40
CASES = [
    ("s3", "get_object", {"Bucket": "my-bucket", "Key": "a b/c+d~\u00e9//..(x)'.txt",
                          "VersionId": "v 1"}),
    ("s3", "put_object", {"Bucket": "my-bucket", "Key": "x", "ContentType": "text/plain",
                          "ACL": "private"}),
    ("s3", "list_objects_v2", {"Bucket": "my.bucket", "Prefix": "a/b c", "MaxKeys": 3}),
    ("ec2", "describe_instances", {"InstanceIds": ["i-1"], "Filters": [
        {"Name": "tag:a b", "Values": ["*+&="]}]}),
    ("sts", "get_caller_identity", {}),
    ("iam", "list_roles", {"PathPrefix": "/hg auto/"}),
    ("lambda", "invoke", {"FunctionName": "f:1", "Payload": "{}"}),
    ("ssm", "get_parameter", {"Name": "/a/b"}),
]
SCRIPT = """
local aws = require "hgauto.aws"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local out = {}
for _, case in ipairs(json.decode(fs.read("%(dir)s/cases"))) do
  local c = aws.client(case[1], { region = "eu-west-1", credentials = {
    access_key_id = "%(key)s", secret_access_key = "%(secret)s", session_token = "%(token)s" } })
  local url, with = c:presign(case[2], case[3], { expires = 600 })
  out[#out + 1] = { url = url, method = with.method, headers = with.headers, body = with.body }
end
-- On the screen the session token would be hidden.
fs.write("%(dir)s/urls", json.encode(out))
return true
"""
OURS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders",
        "X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-Signature")


class Clock(datetime.datetime):
    """The second at which ours was signed, in every way botocore asks for it."""

    at = None

    @classmethod
    def utcnow(cls):
        return cls.at

    @classmethod
    def now(cls, tz=None):
        return cls.at


def expected(service, got):
    parts = urllib.parse.urlsplit(got["url"])
    query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    ours = dict(pair for pair in query if pair[0] in OURS)
    kept = "&".join(p for p in parts.query.split("&") if p.split("=")[0] not in OURS)
    plain = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, kept, ""))
    kind = botocore.auth.S3SigV4QueryAuth if service == "s3" else botocore.auth.SigV4QueryAuth
    region = ours["X-Amz-Credential"].split("/")[2]
    auth = kind(Credentials(KEY, SECRET, TOKEN), service, region, expires=600)
    request = AWSRequest(got["method"], plain, headers=got["headers"] or {})
    # botocore would put a JSON body into the query; ours goes with the URL.
    if got.get("body"):
        body = hashlib.sha256(got["body"].encode()).hexdigest()
        auth.payload = lambda _request: body
    at = datetime.datetime.strptime(ours["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    Clock.at = Clock(*at.timetuple()[:6])
    if hasattr(botocore.auth, "get_current_datetime"):
        botocore.auth.get_current_datetime = lambda *args, **kw: Clock.at
    botocore.auth.datetime.datetime = Clock
    auth.add_auth(request)
    theirs = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.url).query))
    return ours, {key: theirs.get(key) for key in OURS}


class DatetimeModule:
    """botocore.auth's `datetime`, whose class can be replaced here alone."""

    def __getattr__(self, name):
        return getattr(datetime, name)


def main():
    botocore.auth.datetime = DatetimeModule()
    with tempfile.TemporaryDirectory() as tmp:
        with open(os.path.join(tmp, "cases"), "w") as f:
            json.dump(CASES, f)
        script = os.path.join(tmp, "presign.lua")
        with open(script, "w") as f:
            f.write(SCRIPT % {"dir": tmp, "key": KEY, "secret": SECRET, "token": TOKEN})
        env = dict(os.environ, HOME=tmp, AWS_EC2_METADATA_DISABLED="true")
        subprocess.run([os.environ["HGAUTO"], "test", script], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        with open(os.path.join(tmp, "urls")) as f:
            urls = json.load(f)
    for i, (case, got) in enumerate(zip(CASES, urls), 1):
        ours, theirs = expected(case[0], got)
        good = ours == theirs
        print("%sok %d - %s %s" % ("" if good else "not ", i, case[0], case[1]))
        if not good:
            for key in OURS:
                if ours.get(key) != theirs.get(key):
                    print("# %s: ours %s, theirs %s" % (key, ours.get(key), theirs.get(key)))
            print("# " + got["url"])
    print("1..%d" % len(CASES))


main()
