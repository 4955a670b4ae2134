"""Driver of aws.sh: a server of EC2-shaped answers, the two clients, ratios."""

import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse

ROUNDS = int(os.environ.get("ROUNDS", "9"))
HGAUTO = os.environ["HGAUTO"]

# About 8 KB an instance, indented as EC2 does it: tags, two disks, two
# interfaces.
TAG = "<item><key>hgauto:key-%d</key><value>value-%d-of-a-usual-length</value></item>"
DISK = (
    "<item><deviceName>/dev/sd%s</deviceName><ebs><volumeId>vol-%017x</volumeId>"
    "<status>attached</status><attachTime>2026-01-01T00:00:00.000Z</attachTime>"
    "<deleteOnTermination>true</deleteOnTermination></ebs></item>"
)
NIC = (
    "<item><networkInterfaceId>eni-%017x</networkInterfaceId><subnetId>subnet-0a</subnetId>"
    "<vpcId>vpc-0a</vpcId><description/><ownerId>123456789012</ownerId><status>in-use</status>"
    "<macAddress>02:00:00:00:00:01</macAddress><privateIpAddress>10.0.0.1</privateIpAddress>"
    "<privateDnsName>ip-10-0-0-1.us-west-2.compute.internal</privateDnsName>"
    "<sourceDestCheck>true</sourceDestCheck><interfaceType>interface</interfaceType>"
    "<groupSet><item><groupId>sg-0a</groupId><groupName>hg-linux</groupName></item></groupSet>"
    "<attachment><attachmentId>eni-attach-0a</attachmentId><deviceIndex>0</deviceIndex>"
    "<status>attached</status><attachTime>2026-01-01T00:00:00.000Z</attachTime>"
    "<deleteOnTermination>true</deleteOnTermination><networkCardIndex>0</networkCardIndex>"
    "</attachment><privateIpAddressesSet><item><privateIpAddress>10.0.0.1</privateIpAddress>"
    "<primary>true</primary></item></privateIpAddressesSet></item>"
)


def indent(text):
    out, depth = [], 2
    for tag, value in re.findall("(<[^>]+>)([^<]*)", text):
        closing = tag.startswith("</")
        if closing:
            depth -= 1
        else:
            out.append("\n" + "    " * depth)
            depth += 0 if tag.endswith("/>") else 1
        out.append(tag + value)
    return "".join(out)


def instance(i):
    text = (
        "<item><reservationId>r-%017x</reservationId><ownerId>123456789012</ownerId><groupSet/>"
        "<instancesSet><item><instanceId>i-%017x</instanceId><imageId>ami-0123456789abcdef0"
        "</imageId><instanceState><code>16</code><name>running</name></instanceState>"
        "<privateDnsName>ip-10-0-0-1.us-west-2.compute.internal</privateDnsName>"
        "<dnsName>ec2-192-0-2-1.us-west-2.compute.amazonaws.com</dnsName><reason/>"
        "<keyName>hg-automation</keyName><amiLaunchIndex>0</amiLaunchIndex><productCodes/>"
        "<instanceType>c5.2xlarge</instanceType><launchTime>2026-01-01T00:00:00.000Z</launchTime>"
        "<placement><availabilityZone>us-west-2a</availabilityZone><groupName/>"
        "<tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring>"
        "<subnetId>subnet-0a</subnetId><vpcId>vpc-0a</vpcId>"
        "<privateIpAddress>10.0.0.1</privateIpAddress><ipAddress>192.0.2.1</ipAddress>"
        "<sourceDestCheck>true</sourceDestCheck><groupSet><item><groupId>sg-0a</groupId>"
        "<groupName>hg-linux</groupName></item></groupSet><architecture>x86_64</architecture>"
        "<rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/sda1</rootDeviceName>"
        "<virtualizationType>hvm</virtualizationType><clientToken>%032x</clientToken>"
        "<hypervisor>xen</hypervisor><ebsOptimized>true</ebsOptimized>"
        "<metadataOptions><state>applied</state><httpTokens>required</httpTokens>"
        "<httpPutResponseHopLimit>1</httpPutResponseHopLimit>"
        "<httpEndpoint>enabled</httpEndpoint></metadataOptions>" % (i, i, i)
    )
    text += "<blockDeviceMapping>" + DISK % ("a", i) + DISK % ("b", i + 1)
    text += "</blockDeviceMapping><networkInterfaceSet>" + NIC % i + NIC % (i + 1)
    text += "</networkInterfaceSet><tagSet>"
    text += "".join(TAG % (k, k) for k in range(10)) + "</tagSet>"
    return indent(text + "</item></instancesSet></item>")


def page(n, token):
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<DescribeInstancesResponse xmlns='
    head += '"http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r-1</requestId><reservationSet>'
    tail = "</reservationSet>" + ("<nextToken>%s</nextToken>" % token if token else "")
    body = "".join(instance(i) for i in range(n))
    return (head + body + tail + "</DescribeInstancesResponse>").encode()


PAGES = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(urllib.parse.parse_qsl(form))
        n, pages = map(int, form["Filter.1.Value.1"].split("x"))
        at = int(form.get("NextToken", "1"))
        key = (n, at + 1 if at < pages else 0)
        if key not in PAGES:
            PAGES[key] = page(n, str(key[1]) if key[1] else "")
        self.send_response(200)
        self.send_header("Content-Type", "text/xml;charset=UTF-8")
        self.send_header("Content-Length", str(len(PAGES[key])))
        self.end_headers()
        self.wfile.write(PAGES[key])

    def log_message(self, *args):
        pass


LUA = """
local aws = require "hgauto.aws"
local ec2 = aws.client("ec2", { region = "us-west-2", endpoint_url = "%s",
  credentials = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "secretsecret" } })
local r = ec2:describe_instances { Filters = { { Name = "n", Values = { "%s" } } } }
local n = 0
for _, x in ipairs(r.Reservations) do n = n + #x.Instances end
print(n, io.open("/proc/self/status"):read("a"):match("VmHWM:%%s*(%%d+)"))
return true
"""

PYTHON = """
import boto3
ec2 = boto3.client("ec2", region_name="us-west-2", endpoint_url="%s",
    aws_access_key_id="AKIDEXAMPLE00001", aws_secret_access_key="secretsecret")
f = [{"Name": "n", "Values": ["%s"]}]
r = ec2.get_paginator("describe_instances").paginate(Filters=f).build_full_result()
n = sum(len(x["Instances"]) for x in r["Reservations"])
print(n, open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


BOTO_SIGN = """
import time
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
a = SigV4Auth(Credentials("AKIDEXAMPLE00001", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "T" * 300), "ec2", "us-west-2")
body = b"Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0"
n = %d
start = time.process_time()
for _ in range(n):
    r = AWSRequest("POST", "https://ec2.us-west-2.amazonaws.com/", data=body, headers={
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    a.add_auth(r)
print(time.process_time() - start, len(r.headers["Authorization"]))
"""

CLI_ENV = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE00001", "AWS_SECRET_ACCESS_KEY": "secretsecret",
    "AWS_DEFAULT_REGION": "us-west-2", "AWS_EC2_METADATA_DISABLED": "true",
}
missed = []


def wait_for(argv, **more):
    child = subprocess.Popen(argv, stdout=subprocess.PIPE,
                             env=dict(os.environ, HOME=tmp, **more))
    out = child.stdout.read().decode()
    _, status, use = os.wait4(child.pid, 0)
    child.returncode = status
    child.stdout.close()
    if status:
        sys.exit("bench aws: %s failed: %s" % (argv[0], out))
    return out, use.ru_utime + use.ru_stime


def measure(argv, want):
    out, cpu = wait_for(argv)
    got = re.match(r"(\d+)\s+(\d+)\s*$", out)
    if not got or int(got[1]) != want:
        sys.exit("bench aws: %s answered: %s" % (argv[0], out))
    # The peak by the child's own word: rusage also counts us, before exec.
    return cpu, int(got[2]) / 1024


def verdict(name, text, good):
    if not good:
        missed.append(name)
    print("%-16s %s %s" % (name, text, "met" if good else "MISSED"), flush=True)


def job(name, spec, bars):
    want = int(spec.split("x")[0]) * int(spec.split("x")[1])
    files = [os.path.join(tmp, "a.lua"), os.path.join(tmp, "a.py")]
    for path, text in zip(files, (LUA, PYTHON)):
        with open(path, "w") as f:
            f.write(text % (url, spec))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(measure([HGAUTO, "test", files[0]], want))
        theirs.append(measure([sys.executable, files[1]], want))
    a, b = [[min(x[i] for x in v) for i in (0, 1)] for v in (ours, theirs)]
    cpu, rss = a[0] / b[0], a[1] / b[1]
    verdict(
        name,
        "hgauto %6.0f ms %5.1f MiB | boto3 %6.0f ms %5.1f MiB | CPU 1/%.1f RSS 1/%.1f"
        " | bars 1/%d 1/%d"
        % (a[0] * 1000, a[1], b[0] * 1000, b[1], 1 / cpu, 1 / rss, *bars),
        cpu <= 1 / bars[0] and rss <= 1 / bars[1],
    )
    return a[0]


# What the loader alone takes for libcurl and what comes with it: no first call
# can be below it, and it differs from machine to machine.
def libraries():
    if shutil.which("curl"):
        cpu = min(wait_for(["curl", "--version"])[1] for _ in range(ROUNDS))
        print("%-16s curl --version %.0f ms" % ("libraries alone", cpu * 1000), flush=True)


# No bar: what people type today.
def against_cli(ours):
    cli = os.environ.get("AWS_CLI", "/usr/bin/aws")
    if not shutil.which(cli):
        print("# SKIP bench aws: awscli is not installed")
        return
    argv = [cli, "ec2", "describe-instances", "--endpoint-url", url, "--filters",
            "Name=n,Values=3x1", "--query", "length(Reservations)"]
    cpu = []
    for _ in range(ROUNDS):
        out, used = wait_for(argv, **CLI_ENV)
        if out.strip() != "3":
            sys.exit("bench aws: %s answered: %s" % (cli, out))
        cpu.append(used)
    print("%-16s hgauto %6.0f ms | awscli %6.0f ms | CPU 1/%.1f"
          % ("first call, CLI", ours * 1000, min(cpu) * 1000, min(cpu) / ours), flush=True)


def signatures():
    n, theirs_n = 20000, 2000
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(float(wait_for([os.environ["SIGN"], str(n)])[0].split()[0]))
        out, _ = wait_for([sys.executable, "-c", BOTO_SIGN % theirs_n])
        theirs.append(float(out.split()[0]))
    a, b = n / min(ours), theirs_n / min(theirs)
    verdict("signatures",
            "hgauto %d /CPU-s | boto3 %d /CPU-s | %.1f x | bar 5 x" % (a, b, a / b),
            a >= 5 * b)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
url = "http://127.0.0.1:%d" % server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as tmp:
    print("# %d bytes an instance, %d rounds, minimum" % (len(instance(1)), ROUNDS))
    libraries()
    first = job("first call (3)", "3x1", (15, 3))
    against_cli(first)
    job("1,000 instances", "1000x1", (10, 5))
    job("10,000 in pages", "1000x10", (7, 2))
    signatures()
server.shutdown()
sys.exit(1 if missed else 0)
