# The local cloud as boto3 sees it (api-only): operations, waiters, paging,
# filters, errors, idempotency, signatures.  Prints TAP.
# HGAUTO_LOCAL_ENDPOINT and AWS_SHARED_CREDENTIALS_FILE: use a running one.

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

try:
    import boto3
    import botocore.session
    from botocore.auth import SigV4Auth, SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.config import Config
    from botocore.credentials import Credentials
    from botocore.exceptions import ClientError
    from botocore.httpsession import URLLib3Session
except ImportError:
    print("1..0 # SKIP boto3 is missing (apt install python3-boto3)")
    sys.exit(0)

count = failed = 0


def ok(cond, name, detail=""):
    global count, failed
    count += 1
    if not cond:
        failed += 1
    print("%sok %d - %s" % ("" if cond else "not ", count, name))
    if not cond and detail:
        print("# " + str(detail).replace("\n", "\n# "))
    sys.stdout.flush()


def is_(got, want, name):
    ok(got == want, name, "got  %.300r\nwant %.300r" % (got, want))


def refused(code, name, fn, status=None, match=None):
    try:
        fn()
    except ClientError as e:
        err = e.response["Error"]
        good = err["Code"] == code
        if status:
            good = good and e.response["ResponseMetadata"]["HTTPStatusCode"] == status
        if match:
            good = good and re.search(match, err["Message"]) is not None
        ok(good, name, e.response)
    else:
        ok(False, name, "nothing was refused")


class Cloud:
    """A daemon of its own in a temporary state directory."""

    def __init__(self, *more):
        self.dir = tempfile.mkdtemp(prefix="hgauto-boto3-")
        self.exe = os.environ.get("HGAUTO", "hgauto")
        self.endpoint = os.environ.get("HGAUTO_LOCAL_ENDPOINT")
        self.own = self.endpoint is None
        if self.own:
            out = self.run("up", "--api-only", "--listen", "127.0.0.1:0", *more)
            self.endpoint = out.strip().split("\n")[-1]
            os.environ["AWS_SHARED_CREDENTIALS_FILE"] = self.dir + "/local/credentials"

    def run(self, *words):
        argv = [self.exe, "--state-path", self.dir, "local", *words]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout

    def client(self, service, **kw):
        session = boto3.Session(profile_name="hgauto-local", region_name="us-west-2")
        config = Config(retries={"max_attempts": 0})
        return session.client(service, endpoint_url=self.endpoint, config=config, **kw)

    def keys(self):
        return boto3.Session(profile_name="hgauto-local").get_credentials()

    def close(self):
        if self.own:
            self.run("down")
        shutil.rmtree(self.dir)


def image(ec2, pattern="debian-13-amd64-*"):
    found = ec2.describe_images(Owners=["136693071363"], Filters=[
        {"Name": "name", "Values": [pattern]}, {"Name": "state", "Values": ["available"]}])
    return found["Images"][0]


def launch(ec2, n=1, **kw):
    kw.setdefault("ImageId", image(ec2)["ImageId"])
    r = ec2.run_instances(MinCount=n, MaxCount=n, **kw)
    return [i["InstanceId"] for i in r["Instances"]]


FAST = {"Delay": 1, "MaxAttempts": 10}


def test_identity(cloud):
    r = cloud.client("sts").get_caller_identity()
    is_(r["Account"], "123456789012", "GetCallerIdentity answers the account")
    ok(r["Arn"].startswith("arn:aws:iam::"), "and an ARN")


def test_images(cloud):
    ec2 = cloud.client("ec2")
    i = image(ec2)
    ok(re.match(r"^debian-13-amd64-\d+-\d+$", i["Name"]), "an image is found by owner and name")
    is_(i["RootDeviceName"], "/dev/xvda", "its root device is named")
    is_(i["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"], True, "and mapped")
    stand_in = image(ec2, "debian-10-*")
    ok(stand_in["Description"].startswith("local stand-in (Debian 12): "), "stand-ins say so")
    is_(len(ec2.describe_images(Owners=["self"])["Images"]), 0, "no image is ours")
    refused("InvalidAMIID.NotFound", "an unknown image id is refused",
            lambda: ec2.describe_images(ImageIds=["ami-00000000000000000"]))
    refused("InvalidAMIID.Malformed", "a bad image id is refused",
            lambda: ec2.describe_images(ImageIds=["ami-nope"]), match='Invalid id: "ami-nope"')
    refused("InvalidParameterValue", "an unknown filter is refused",
            lambda: ec2.describe_images(Filters=[{"Name": "colour", "Values": ["red"]}]),
            match="The filter 'colour' is invalid")


ED25519 = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"
           " someone@example")


def test_keys(cloud):
    ec2 = cloud.client("ec2")
    if shutil.which("ssh-keygen"):
        path = tempfile.mkdtemp() + "/k"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        public = open(path + ".pub").read()
        shutil.rmtree(os.path.dirname(path))
    else:
        public = ED25519
    r = ec2.import_key_pair(KeyName="k1", PublicKeyMaterial=public.encode(), TagSpecifications=[
        {"ResourceType": "key-pair", "Tags": [{"Key": "a", "Value": "1"}]}])
    ok(re.match(r"^key-[0-9a-f]{17}$", r["KeyPairId"]), "an imported key pair has an id")
    is_(r.get("Tags"), [{"Key": "a", "Value": "1"}], "and its tags")
    wait = ec2.get_waiter("key_pair_exists")
    wait.wait(KeyNames=["k1"], WaiterConfig=FAST)
    ok(True, "KeyPairExists ends")
    pair = ec2.describe_key_pairs(KeyNames=["k1"], IncludePublicKey=True)["KeyPairs"][0]
    is_(pair["PublicKey"].split()[1], public.split()[1], "the public key comes back")
    is_(pair["KeyType"], "ed25519", "with its type")
    raw = base64.b64decode(public.split()[1])
    want = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    is_(pair["KeyFingerprint"].rstrip("="), want.rstrip("="), "and its SHA-256 fingerprint")
    refused("InvalidKeyPair.Duplicate", "a second one of that name is refused",
            lambda: ec2.import_key_pair(KeyName="k1", PublicKeyMaterial=public.encode()))
    refused("InvalidKey.Format", "no key is no key",
            lambda: ec2.import_key_pair(KeyName="k2", PublicKeyMaterial=b"hello"))
    refused("InvalidKeyPair.NotFound", "an unknown name is refused",
            lambda: ec2.describe_key_pairs(KeyNames=["k9"]))
    ec2.delete_key_pair(KeyName="k1")
    ec2.delete_key_pair(KeyName="k1")
    is_(ec2.describe_key_pairs()["KeyPairs"], [], "deleting twice succeeds")


# The fingerprints of keys that were made are those of the private half.
def test_created_keys(cloud):
    ec2 = cloud.client("ec2")
    rsa = ec2.create_key_pair(KeyName="made", TagSpecifications=[
        {"ResourceType": "key-pair", "Tags": [{"Key": "a", "Value": "1"}]}])
    ok(rsa["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----\n"), "an RSA key is made")
    is_(rsa["Tags"], [{"Key": "a", "Value": "1"}], "with its tags")
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "key")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(rsa["KeyMaterial"])
        der = subprocess.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", path,
                              "-outform", "DER"], check=True, stdout=subprocess.PIPE).stdout
        is_(rsa["KeyFingerprint"], hashlib.sha1(der).digest().hex(":"), "the SHA-1 of PKCS#8")
        public = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True,
                                stdout=subprocess.PIPE).stdout.decode()
        pair = ec2.describe_key_pairs(KeyNames=["made"], IncludePublicKey=True)["KeyPairs"][0]
        is_(pair["PublicKey"].split()[1], public.split()[1], "its public half is kept")
        is_(pair["KeyType"], "rsa", "and its type")
        other = ec2.create_key_pair(KeyName="made2", KeyType="ed25519")
        with open(path, "w") as f:
            f.write(other["KeyMaterial"])
        public = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True,
                                stdout=subprocess.PIPE).stdout.decode()
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    is_(other["KeyFingerprint"], base64.b64encode(digest).decode(), "an Ed25519 key is made")
    refused("InvalidKeyPair.Duplicate", "a name is used once",
            lambda: ec2.create_key_pair(KeyName="made"))
    refused("UnsupportedOperation", "keys for PuTTY are refused",
            lambda: ec2.create_key_pair(KeyName="made3", KeyFormat="ppk"))
    refused("InvalidParameterValue", "types that EC2 does not know, too",
            lambda: ec2.create_key_pair(KeyName="made3", KeyType="dsa"))
    for name in ("made", "made2"):
        ec2.delete_key_pair(KeyName=name)


def test_groups(cloud):
    ec2 = cloud.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]
    is_(vpc["CidrBlock"], "172.31.0.0/16", "there is a default VPC")
    is_(len(ec2.describe_subnets()["Subnets"]), 3, "with three subnets")
    group = ec2.create_security_group(GroupName="g1", Description="test", VpcId=vpc["VpcId"])
    gid = group["GroupId"]
    ec2.get_waiter("security_group_exists").wait(GroupIds=[gid], WaiterConfig=FAST)
    ok(True, "SecurityGroupExists ends")
    refused("InvalidGroup.Duplicate", "a second group of that name is refused",
            lambda: ec2.create_security_group(GroupName="g1", Description="x"))

    def perm(cidr, a, b, **kw):
        return dict(IpProtocol="tcp", FromPort=a, ToPort=b, IpRanges=[dict(CidrIp=cidr, **kw)])

    r = ec2.authorize_security_group_ingress(GroupId=gid, IpPermissions=[
        perm("127.0.0.1/32", 22, 22, Description="me"), perm("10.1.2.3/8", 80, 90)])
    is_([x["CidrIpv4"] for x in r["SecurityGroupRules"]], ["127.0.0.1/32", "10.0.0.0/8"],
        "rules come back, CIDR blocks masked")
    refused("InvalidPermission.Duplicate", "a rule twice is refused",
            lambda: ec2.authorize_security_group_ingress(
                GroupId=gid, IpPermissions=[perm("127.0.0.1/32", 22, 22)]))
    refused("InvalidParameterValue", "a bad CIDR block is refused",
            lambda: ec2.authorize_security_group_ingress(
                GroupId=gid, IpProtocol="tcp", FromPort=1, ToPort=1, CidrIp="10.0.0.0/99"))
    ec2.authorize_security_group_ingress(GroupId=gid, IpProtocol="tcp", FromPort=443, ToPort=443,
                                         CidrIp="0.0.0.0/0")
    view = ec2.describe_security_groups(Filters=[
        {"Name": "group-name", "Values": ["g?"]},
        {"Name": "ip-permission.from-port", "Values": ["443"]}])["SecurityGroups"]
    is_([g["GroupId"] for g in view], [gid], "groups are found by their rules")
    is_(len(view[0]["IpPermissions"]), 3, "with all permissions")
    is_(view[0]["IpPermissionsEgress"][0]["IpProtocol"], "-1", "everything may go out")
    ec2.revoke_security_group_ingress(GroupId=gid, IpPermissions=[perm("127.0.0.1/32", 22, 22)])
    ec2.revoke_security_group_ingress(
        GroupId=gid, SecurityGroupRuleIds=[r["SecurityGroupRules"][1]["SecurityGroupRuleId"]])
    refused("InvalidPermission.NotFound", "revoking what is not there is refused",
            lambda: ec2.revoke_security_group_ingress(
                GroupId=gid, IpPermissions=[perm("127.0.0.1/32", 22, 22)]))
    left = ec2.describe_security_groups(GroupIds=[gid])["SecurityGroups"][0]["IpPermissions"]
    is_([p["FromPort"] for p in left], [443], "the rest stays")
    other = ec2.create_security_group(GroupName="g2", Description="x")["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[
        dict(IpProtocol="-1", UserIdGroupPairs=[dict(GroupId=gid)])])
    refused("DependencyViolation", "a group that another names cannot go",
            lambda: ec2.delete_security_group(GroupId=gid),
            match="resource %s has a dependent object" % gid)
    ec2.delete_security_group(GroupId=other)
    ids = launch(ec2, SecurityGroupIds=[gid])
    refused("DependencyViolation", "nor one of a living instance",
            lambda: ec2.delete_security_group(GroupId=gid))
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=FAST)
    ec2.delete_security_group(GroupId=gid)
    refused("InvalidGroup.NotFound", "afterwards it is gone",
            lambda: ec2.describe_security_groups(GroupIds=[gid]))
    default = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]
    refused("CannotDelete", "the default group stays",
            lambda: ec2.delete_security_group(GroupId=default["GroupId"]))


def test_instance(cloud):
    ec2 = cloud.client("ec2")
    tags = [{"Key": "Name", "Value": "hg-test <&>"}, {"Key": "hgauto:op", "Value": "0123"}]
    specs = [{"ResourceType": t, "Tags": tags}
             for t in ("instance", "volume", "network-interface")]
    token = str(uuid.uuid4())
    kw = dict(ImageId=image(ec2)["ImageId"], MinCount=1, MaxCount=1, InstanceType="t3.large",
              ClientToken=token, TagSpecifications=specs,
              InstanceInitiatedShutdownBehavior="terminate",
              UserData="#cloud-config\n{}\n",
              MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
              BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {
                  "VolumeSize": 16, "VolumeType": "gp3", "Encrypted": True,
                  "DeleteOnTermination": True}}])
    r = ec2.run_instances(**kw)
    i = r["Instances"][0]
    iid = i["InstanceId"]
    ok(re.match(r"^i-[0-9a-f]{17}$", iid), "an instance is launched")
    is_(i["State"], {"Code": 0, "Name": "pending"}, "it is pending")
    is_(i["ClientToken"], token, "it shows its client token")
    is_(i["MetadataOptions"]["HttpTokens"], "required", "and its metadata options")
    ec2.get_waiter("instance_exists").wait(InstanceIds=[iid], WaiterConfig=FAST)
    ec2.get_waiter("instance_running").wait(InstanceIds=[iid],
                                            WaiterConfig={"Delay": 15, "MaxAttempts": 1})
    ok(True, "InstanceRunning ends at the first question")
    ec2.get_waiter("instance_status_ok").wait(InstanceIds=[iid], WaiterConfig=FAST)
    ok(True, "InstanceStatusOk ends")
    i = ec2.describe_instances(InstanceIds=[iid])["Reservations"][0]["Instances"][0]
    ok(i["PublicIpAddress"].startswith("127.77."), "its address is on loopback")
    ok(i["PrivateIpAddress"].startswith("172.31."), "its private one is in the VPC")
    is_(sorted(i["Tags"], key=lambda t: t["Key"]), tags, "it has its tags")
    volume = ec2.describe_volumes(
        VolumeIds=[i["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"][0]
    is_((volume["Size"], volume["VolumeType"], volume["Encrypted"], volume["State"]),
        (16, "gp3", True, "in-use"), "its root volume is as asked")
    refused("VolumeInUse", "which cannot be deleted",
            lambda: ec2.delete_volume(VolumeId=volume["VolumeId"]))
    again = ec2.run_instances(**kw)["Instances"][0]
    is_(again["InstanceId"], iid, "the same token means the same instance")
    is_(again["State"]["Name"], "running", "in its present state")
    refused("IdempotentParameterMismatch", "other parameters under the token are refused",
            lambda: ec2.run_instances(**dict(kw, InstanceType="t3.micro")))
    found = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])
    is_(found["Reservations"][0]["Instances"][0]["InstanceId"], iid, "it is found by its token")
    for name, value, want in (("tag:hgauto:op", "0123", 1), ("tag-key", "hgauto:*", 1),
                              ("instance-state-name", "stopped", 0), ("tag:Name", "HG-*", 0)):
        n = len(ec2.describe_instances(Filters=[{"Name": name, "Values": [value]}])[
            "Reservations"])
        is_(n, want, "filter %s=%s finds %d" % (name, value, want))
    ec2.create_tags(Resources=[iid], Tags=[{"Key": "new", "Value": "ü"}])
    rows = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [iid]},
                                      {"Name": "key", "Values": ["new"]}])["Tags"]
    is_([(t["Value"], t["ResourceType"]) for t in rows], [("ü", "instance")], "tags can be added")
    ec2.delete_tags(Resources=[iid], Tags=[{"Key": "new"}])
    refused("InvalidParameterValue", "aws: tags are refused",
            lambda: ec2.create_tags(Resources=[iid], Tags=[{"Key": "aws:x", "Value": ""}]))
    refused("TagLimitExceeded", "51 tags are refused",
            lambda: ec2.create_tags(Resources=[iid], Tags=[
                {"Key": "k%d" % n, "Value": ""} for n in range(51)]))
    ec2.stop_instances(InstanceIds=[iid])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[iid], WaiterConfig=FAST)
    i = ec2.describe_instances(InstanceIds=[iid])["Reservations"][0]["Instances"][0]
    ok("PublicIpAddress" not in i, "a stopped instance has no public address")
    is_(i["StateReason"]["Code"], "Client.UserInitiatedShutdown", "and says who stopped it")
    ec2.start_instances(InstanceIds=[iid])
    ec2.get_waiter("instance_running").wait(InstanceIds=[iid], WaiterConfig=FAST)
    r = ec2.terminate_instances(InstanceIds=[iid])["TerminatingInstances"][0]
    is_(r["PreviousState"]["Name"], "running", "terminating tells the state before")
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[iid], WaiterConfig=FAST)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume["VolumeId"]], WaiterConfig=FAST)
    ok(True, "its volume goes with it")
    r = ec2.terminate_instances(InstanceIds=[iid])["TerminatingInstances"][0]
    is_(r["CurrentState"]["Name"], "terminated", "terminating twice is harmless")
    i = ec2.describe_instances(InstanceIds=[iid])["Reservations"][0]["Instances"][0]
    ok("PrivateIpAddress" not in i and i["NetworkInterfaces"] == [],
       "a terminated instance has no network")
    is_(ec2.run_instances(**kw)["Instances"][0]["State"]["Name"], "terminated",
        "its token still means this one")
    refused("IncorrectInstanceState", "it cannot be started",
            lambda: ec2.start_instances(InstanceIds=[iid]))
    out = ec2.get_console_output(InstanceId=iid)
    is_(out["InstanceId"], iid, "its console can be asked for")


def test_refusals(cloud):
    ec2 = cloud.client("ec2")
    ami = image(ec2)["ImageId"]

    def run(**kw):
        kw.setdefault("ImageId", ami)
        kw.setdefault("MinCount", 1)
        kw.setdefault("MaxCount", 1)
        return lambda: ec2.run_instances(**kw)

    refused("DryRunOperation", "a dry run says that it would succeed", run(DryRun=True), 412,
            "Request would have succeeded, but DryRun flag is set.")
    is_(ec2.describe_instances(Filters=[
        {"Name": "instance-state-name", "Values": ["pending", "running"]}])["Reservations"], [],
        "and starts nothing")
    refused("InvalidKeyPair.NotFound", "an unknown key is refused", run(KeyName="nope"))
    refused("InvalidGroup.NotFound", "an unknown group is refused",
            run(SecurityGroupIds=["sg-00000000000000000"]))
    refused("InvalidAMIID.NotFound", "an unknown image is refused",
            run(ImageId="ami-00000000000000000"))
    refused("InvalidParameterValue", "an unknown type is refused", run(InstanceType="z9.huge"))
    refused("InvalidParameterValue", "user data of 17 KiB is refused", run(UserData="x" * 17408))
    refused("InvalidBlockDeviceMapping", "a root volume below the image's size is refused",
            run(BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}]))
    refused("UnsupportedOperation", "what is not emulated says so by name",
            run(KernelId="aki-1"),
            match="hgauto local cloud: ec2:RunInstances parameter KernelId is not")
    refused("InvalidParameterValue", "an unknown instance profile is refused",
            run(IamInstanceProfile={"Name": "x"}), match="Invalid IAM Instance Profile name")
    refused("UnsupportedOperation", "operations too",
            lambda: ec2.create_vpc(CidrBlock="10.0.0.0/16"),
            match="hgauto local cloud: ec2:CreateVpc is not emulated")
    refused("UnsupportedOperation", "services too",
            lambda: cloud.client("logs").describe_log_groups())
    refused("UnsupportedOperation", "and operations of others",
            lambda: cloud.client("ssm").list_documents(),
            match="hgauto local cloud: ssm:ListDocuments is not emulated")
    refused("InvalidInstanceID.NotFound", "a missing instance fails the call",
            lambda: ec2.describe_instances(InstanceIds=["i-00000000000000000"]),
            match="The instance ID 'i-00000000000000000' does not exist")
    refused("InvalidInstanceID.Malformed", "so does a bad id",
            lambda: ec2.terminate_instances(InstanceIds=["i-1"]), match='Invalid id: "i-1"')
    ids = launch(ec2)
    refused("InvalidInstanceID.NotFound", "a batch is all or nothing",
            lambda: ec2.terminate_instances(InstanceIds=ids + ["i-00000000000000000"]))
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=FAST)
    ok(True, "the good one still runs")
    ec2.terminate_instances(InstanceIds=ids)
    protected = launch(ec2, DisableApiTermination=True)
    refused("OperationNotPermitted", "protection holds",
            lambda: ec2.terminate_instances(InstanceIds=protected))
    ok(launch(ec2, n=2, InstanceType="t3.nano"), "two at once are launched")
    refused("InstanceLimitExceeded", "21 at once are refused", run(MinCount=21, MaxCount=21))


def test_empty(cloud):
    ec2 = cloud.client("ec2")
    is_(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"], [], "there are no snapshots")
    is_(ec2.describe_addresses()["Addresses"], [], "nor addresses")
    regions = [r["RegionName"] for r in ec2.describe_regions()["Regions"]]
    ok("us-west-2" in regions and "eu-central-1" in regions, "regions are listed")
    zones = [z["ZoneName"] for z in ec2.describe_availability_zones()["AvailabilityZones"]]
    is_(zones, ["us-west-2a", "us-west-2b", "us-west-2c"], "zones too")
    types = [t for page in ec2.get_paginator("describe_instance_types").paginate(
        PaginationConfig={"PageSize": 5}) for t in page["InstanceTypes"]]
    is_(len(types), 24, "24 instance types in pages of five")


def test_paging(cloud):
    ec2 = cloud.client("ec2")
    ids = [i for _ in range(7) for i in launch(ec2, InstanceType="t2.micro")]
    filters = [{"Name": "instance-type", "Values": ["t2.micro"]}]
    pages = list(ec2.get_paginator("describe_instances").paginate(
        Filters=filters, PaginationConfig={"PageSize": 5}))
    got = [r["Instances"][0]["InstanceId"] for p in pages for r in p["Reservations"]]
    is_(got, ids, "all pages together are all instances, oldest first")
    is_([len(p["Reservations"]) for p in pages], [5, 2], "in pages of five")
    token = pages[0]["NextToken"]
    refused("InvalidNextToken", "a token belongs to its question",
            lambda: ec2.describe_instances(MaxResults=5, NextToken=token))
    refused("InvalidNextToken", "an altered one is refused",
            lambda: ec2.describe_instances(Filters=filters, MaxResults=5,
                                           NextToken=("B" if token[0] == "A" else "A")
                                           + token[1:]))
    refused("InvalidParameterValue", "pages of four are refused",
            lambda: ec2.describe_instances(MaxResults=4))
    refused("InvalidParameterCombination", "ids and pages do not mix",
            lambda: ec2.describe_instances(InstanceIds=ids[:1], MaxResults=5))
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=FAST)
    ok(True, "seven waited for at once")


def send(request):
    return URLLib3Session().send(request.prepare())


def test_signatures(cloud):
    body = "Action=DescribeRegions&Version=2016-11-15"
    good = cloud.keys()

    def signed(keys, service="ec2", auth=SigV4Auth, method="POST", **kw):
        url = cloud.endpoint + "/"
        if method == "GET":
            request = AWSRequest("GET", url + "?" + body)
        else:
            request = AWSRequest("POST", url, data=body.encode(), headers={
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
        auth(keys, service, "us-west-2", **kw).add_auth(request)
        return request

    is_(send(signed(good)).status_code, 200, "a signed request is accepted")
    r = signed(good)
    r.data = body.replace("Regions", "Vpcs").encode()
    answer = send(r)
    is_(answer.status_code, 401, "a changed body is refused")
    ok(b"<Code>AuthFailure</Code>" in answer.content, "as EC2 does")
    is_(send(signed(Credentials(good.access_key, "x" * 40))).status_code, 401,
        "a wrong secret is refused")
    is_(send(signed(Credentials("AKIAAAAAAAAAAAAAAAAA", "x" * 40))).status_code, 401,
        "an unknown key is refused")
    is_(send(AWSRequest("POST", cloud.endpoint + "/", data=body.encode())).status_code, 400,
        "an unsigned request is refused")
    is_(send(signed(good, auth=SigV4QueryAuth, method="GET", expires=60)).status_code, 200,
        "a presigned URL is accepted")
    r = signed(good, auth=SigV4QueryAuth, method="GET", expires=60)
    r.url = r.url.replace("DescribeRegions", "DescribeVpcs")
    is_(send(r).status_code, 401, "a changed one is refused")
    answer = send(AWSRequest("POST", cloud.endpoint + "/", data=(
        b"Action=GetCallerIdentity&Version=2011-06-15")))
    is_(answer.status_code, 403, "STS refuses in its own way")
    ok(b"<Code>MissingAuthenticationToken</Code>" in answer.content, "with its own code")
    r = signed(good)
    r.headers["Host"] = "example.com"
    ok(send(r).status_code >= 400, "another Host is refused")


TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"},
     "Action": "sts:AssumeRole"}]}
SSM_POLICY = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"


def make_profile(cloud, name, policy=SSM_POLICY):
    iam = cloud.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return iam


def test_iam(cloud):
    iam = cloud.client("iam")
    r = iam.create_role(RoleName="r1", AssumeRolePolicyDocument=json.dumps(TRUST), Path="/hg/",
                        Description="a role", Tags=[{"Key": "a", "Value": "1"}])["Role"]
    is_(r["Arn"], "arn:aws:iam::123456789012:role/hg/r1", "a role has its ARN")
    ok(re.match(r"^AROA[A-Z2-7]{17}$", r["RoleId"]), "and an id", r["RoleId"])
    is_(r["AssumeRolePolicyDocument"], TRUST, "its trust policy comes back")
    iam.get_waiter("role_exists").wait(RoleName="r1", WaiterConfig=FAST)
    ok(True, "RoleExists ends")
    r = iam.get_role(RoleName="r1")["Role"]
    is_((r["Tags"], r["Description"], r["MaxSessionDuration"]),
        ([{"Key": "a", "Value": "1"}], "a role", 3600), "GetRole shows all of it")
    refused("EntityAlreadyExists", "names are unique whatever their case",
            lambda: iam.create_role(RoleName="R1", AssumeRolePolicyDocument=json.dumps(TRUST)), 409)
    refused("MalformedPolicyDocument", "no policy is no policy",
            lambda: iam.create_role(RoleName="r2", AssumeRolePolicyDocument="{}"), 400)
    refused("NoSuchEntity", "an unknown role is refused",
            lambda: iam.get_role(RoleName="nope"), 404, "The role with name nope cannot be found")
    iam.attach_role_policy(RoleName="r1", PolicyArn=SSM_POLICY)
    refused("NoSuchEntity", "an unknown policy is refused", lambda: iam.attach_role_policy(
        RoleName="r1", PolicyArn="arn:aws:iam::aws:policy/Nope"))
    is_(iam.list_attached_role_policies(RoleName="r1")["AttachedPolicies"],
        [{"PolicyName": "AmazonSSMManagedInstanceCore", "PolicyArn": SSM_POLICY}],
        "attached policies are listed")
    inline = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="r1", PolicyName="p", PolicyDocument=json.dumps(inline))
    is_(iam.list_role_policies(RoleName="r1")["PolicyNames"], ["p"], "inline ones too")
    is_(iam.get_role_policy(RoleName="r1", PolicyName="p")["PolicyDocument"], inline,
        "with their documents")
    iam.create_instance_profile(InstanceProfileName="p1")
    iam.get_waiter("instance_profile_exists").wait(InstanceProfileName="p1", WaiterConfig=FAST)
    ok(True, "InstanceProfileExists ends")
    iam.add_role_to_instance_profile(InstanceProfileName="p1", RoleName="r1")
    refused("LimitExceeded", "a profile has one role", lambda: iam.add_role_to_instance_profile(
        InstanceProfileName="p1", RoleName="r1"), 409)
    is_(iam.get_instance_profile(InstanceProfileName="p1")["InstanceProfile"]["Roles"][0][
        "RoleName"], "r1", "which it shows")
    is_([p["InstanceProfileName"] for p in iam.list_instance_profiles_for_role(RoleName="r1")[
        "InstanceProfiles"]], ["p1"], "and the role knows the profile")
    for name, what in (("delete_role", dict(RoleName="r1")),
                       ("delete_instance_profile", dict(InstanceProfileName="p1"))):
        refused("DeleteConflict", name + " is refused while something is attached",
                lambda: getattr(iam, name)(**what), 409)
    for n in range(5):
        iam.create_role(RoleName="page%d" % n, AssumeRolePolicyDocument=json.dumps(TRUST),
                        Path="/page/")
    pages = list(iam.get_paginator("list_roles").paginate(
        PathPrefix="/page/", PaginationConfig={"PageSize": 2}))
    is_([[r["RoleName"] for r in p["Roles"]] for p in pages],
        [["page0", "page1"], ["page2", "page3"], ["page4"]], "roles come in pages")
    iam.tag_role(RoleName="page0", Tags=[{"Key": "k", "Value": "v"}])
    is_(iam.list_role_tags(RoleName="page0")["Tags"], [{"Key": "k", "Value": "v"}],
        "roles can be tagged")
    for n in range(5):
        iam.delete_role(RoleName="page%d" % n)
    iam.remove_role_from_instance_profile(InstanceProfileName="p1", RoleName="r1")
    iam.delete_instance_profile(InstanceProfileName="p1")
    iam.detach_role_policy(RoleName="r1", PolicyArn=SSM_POLICY)
    iam.delete_role_policy(RoleName="r1", PolicyName="p")
    iam.delete_role(RoleName="r1")
    is_(iam.list_roles()["Roles"] + iam.list_instance_profiles()["InstanceProfiles"], [],
        "all of it can be deleted")


def test_profile(cloud):
    ec2, ssm = cloud.client("ec2"), cloud.client("ssm")
    make_profile(cloud, "managed")
    make_profile(cloud, "other", "arn:aws:iam::aws:policy/ReadOnlyAccess")
    with_ssm = launch(ec2, IamInstanceProfile={"Name": "managed"})[0]
    without = launch(ec2, IamInstanceProfile={"Name": "other"})[0]
    ids = [with_ssm, without]
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=FAST)
    arn = "arn:aws:iam::123456789012:instance-profile/managed"
    found = ec2.describe_instances(Filters=[{"Name": "iam-instance-profile.arn",
                                             "Values": [arn]}])["Reservations"]
    is_([r["Instances"][0]["InstanceId"] for r in found], [with_ssm],
        "an instance is found by its profile")
    is_(found[0]["Instances"][0]["IamInstanceProfile"]["Arn"], arn, "and shows it")
    info = ssm.describe_instance_information()["InstanceInformationList"]
    is_([(i["InstanceId"], i["PingStatus"]) for i in info], [(with_ssm, "Online")],
        "SSM knows the instance whose role lets it")
    ok(hasattr(info[0]["LastPingDateTime"], "year"), "its last ping is a time")
    is_(ssm.describe_instance_information(Filters=[{"Key": "PingStatus", "Values": [
        "ConnectionLost"]}])["InstanceInformationList"], [], "filters work")
    send = dict(DocumentName="AWS-RunShellScript", Parameters={"commands": ["true"]})
    refused("InvalidInstanceId", "a command to another one is refused",
            lambda: ssm.send_command(InstanceIds=[without], **send))
    refused("InvalidDocument", "an unknown document is refused",
            lambda: ssm.send_command(InstanceIds=[with_ssm], DocumentName="Nope"))
    command = ssm.send_command(InstanceIds=[with_ssm], Comment="c", **send)["Command"]
    is_((command["Status"], command["Comment"]), ("Pending", "c"), "a command begins as pending")

    def status():
        try:
            return ssm.get_command_invocation(CommandId=command["CommandId"], InstanceId=with_ssm)
        except ClientError as e:
            if e.response["Error"]["Code"] != "InvocationDoesNotExist":
                raise
            return None
    for _ in range(100):
        r = status()
        if r and r["Status"] == "Failed":
            break
        time.sleep(0.05)
    ok(r["Status"] == "Failed" and "api-only" in r["StandardErrorContent"],
       "without machines no command succeeds", r)
    ec2.stop_instances(InstanceIds=[with_ssm])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[with_ssm], WaiterConfig=FAST)
    info = ssm.describe_instance_information(InstanceInformationFilterList=[
        {"key": "InstanceIds", "valueSet": ids}])["InstanceInformationList"]
    is_([i["PingStatus"] for i in info], ["ConnectionLost"], "a stopped one has lost connection")
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=FAST)


def test_volumes(cloud):
    ec2 = cloud.client("ec2")
    iid = launch(ec2, BlockDeviceMappings=[
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 2, "DeleteOnTermination": False}}])[0]
    ec2.get_waiter("instance_running").wait(InstanceIds=[iid], WaiterConfig=FAST)
    i = ec2.describe_instances(InstanceIds=[iid])["Reservations"][0]["Instances"][0]
    is_([m["DeviceName"] for m in i["BlockDeviceMappings"]], ["/dev/xvda", "/dev/sdf"],
        "an instance has the volumes asked for")
    kept = i["BlockDeviceMappings"][1]["Ebs"]["VolumeId"]
    az = i["Placement"]["AvailabilityZone"]
    token = str(uuid.uuid4())
    kw = dict(AvailabilityZone=az, Size=3, VolumeType="gp2", ClientToken=token)
    vid = ec2.create_volume(**kw)["VolumeId"]
    is_(ec2.create_volume(**kw)["VolumeId"], vid, "a volume's token finds it again")
    refused("IdempotentParameterMismatch", "with equal parameters only",
            lambda: ec2.create_volume(**dict(kw, Size=4)))
    ec2.get_waiter("volume_available").wait(VolumeIds=[vid], WaiterConfig=FAST)
    ok(True, "VolumeAvailable ends")
    refused("InvalidParameterValue", "a device has a name", lambda: ec2.attach_volume(
        VolumeId=vid, InstanceId=iid, Device="../x"))
    is_(ec2.attach_volume(VolumeId=vid, InstanceId=iid, Device="/dev/sdg")["State"], "attaching",
        "it is attached")
    ec2.get_waiter("volume_in_use").wait(VolumeIds=[vid], WaiterConfig=FAST)
    v = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [iid]},
                                      {"Name": "attachment.device", "Values": ["/dev/sdg"]}])
    is_([(a["VolumeId"], a["State"]) for a in v["Volumes"][0]["Attachments"]],
        [(vid, "attached")], "VolumeInUse ends, and it is found by its attachment")
    refused("VolumeInUse", "an attached volume stays", lambda: ec2.delete_volume(VolumeId=vid))
    refused("OperationNotPermitted", "the root volume cannot be detached",
            lambda: ec2.detach_volume(VolumeId=i["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]))
    ec2.detach_volume(VolumeId=vid)
    ec2.get_waiter("volume_available").wait(VolumeIds=[vid], WaiterConfig=FAST)
    sid = ec2.create_snapshot(VolumeId=vid, Description="d", TagSpecifications=[
        {"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "1"}]}])["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[sid], WaiterConfig=FAST)
    ok(True, "SnapshotCompleted ends")
    s = ec2.describe_snapshots(OwnerIds=["self"], Filters=[
        {"Name": "tag:a", "Values": ["1"]}])["Snapshots"]
    is_([(x["SnapshotId"], x["VolumeSize"], x["Progress"]) for x in s], [(sid, 3, "100%")],
        "a snapshot shows its volume")
    refused("InvalidBlockDeviceMapping", "a volume below its snapshot's size is refused",
            lambda: ec2.create_volume(AvailabilityZone=az, SnapshotId=sid, Size=1))
    ec2.delete_volume(VolumeId=vid)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[vid], WaiterConfig=FAST)
    ok(True, "VolumeDeleted ends")
    ec2.delete_snapshot(SnapshotId=sid)
    refused("InvalidSnapshot.NotFound", "a deleted snapshot is gone",
            lambda: ec2.delete_snapshot(SnapshotId=sid))
    ec2.terminate_instances(InstanceIds=[iid])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[iid], WaiterConfig=FAST)
    is_([v["VolumeId"] for v in ec2.describe_volumes()["Volumes"]
         if v["State"] == "available"], [kept], "what shall stay after termination stays")
    ec2.delete_volume(VolumeId=kept)


def test_create_image(cloud):
    ec2 = cloud.client("ec2")
    iid = launch(ec2)[0]
    ec2.get_waiter("instance_running").wait(InstanceIds=[iid], WaiterConfig=FAST)
    ec2.stop_instances(InstanceIds=[iid])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[iid], WaiterConfig=FAST)
    specs = [{"ResourceType": t, "Tags": [{"Key": "of", "Value": t}]}
             for t in ("image", "snapshot")]
    kw = dict(InstanceId=iid, Name="made here", Description="d", TagSpecifications=specs)
    refused("InvalidAMIName.Malformed", "a name has letters and digits",
            lambda: ec2.create_image(InstanceId=iid, Name="a$b"))
    ami = ec2.create_image(**kw)["ImageId"]
    ec2.get_waiter("image_exists").wait(ImageIds=[ami], WaiterConfig=FAST)
    ec2.get_waiter("image_available").wait(ImageIds=[ami], WaiterConfig=FAST)
    ok(True, "ImageExists and ImageAvailable end")
    refused("InvalidAMIName.Duplicate", "its name is taken", lambda: ec2.create_image(**kw),
            match=ami)
    i = ec2.describe_images(Owners=["self"], Filters=[
        {"Name": "tag:of", "Values": ["image"]}])["Images"][0]
    is_((i["ImageId"], i["Name"], i["Public"], i["OwnerId"], i["RootDeviceName"]),
        (ami, "made here", False, "123456789012", "/dev/xvda"), "an image is ours")
    sid = i["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    s = ec2.describe_snapshots(SnapshotIds=[sid])["Snapshots"][0]
    is_((s["State"], s["Tags"]), ("completed", [{"Key": "of", "Value": "snapshot"}]),
        "with a snapshot")
    refused("InvalidSnapshot.InUse", "which it needs", lambda: ec2.delete_snapshot(SnapshotId=sid),
            match=ami)
    copy = ec2.copy_image(Name="copy", SourceImageId=ami, SourceRegion="us-west-2")["ImageId"]
    is_(ec2.describe_images(ImageIds=[copy])["Images"][0]["State"], "available", "it is copied")
    again = ec2.register_image(Name="registered", RootDeviceName="/dev/xvda", Architecture="x86_64",
                               BlockDeviceMappings=[{"DeviceName": "/dev/xvda",
                                                     "Ebs": {"SnapshotId": sid}}])["ImageId"]
    more = launch(ec2, ImageId=again)
    ec2.get_waiter("instance_running").wait(InstanceIds=more, WaiterConfig=FAST)
    ok(True, "an image registered of its snapshot can be launched")
    ec2.modify_image_attribute(ImageId=ami, Description={"Value": "new"})
    is_(ec2.describe_image_attribute(ImageId=ami, Attribute="description")["Description"],
        {"Value": "new"}, "its description can be changed")
    refused("AuthFailure", "a public image cannot be deregistered",
            lambda: ec2.deregister_image(ImageId=image(ec2)["ImageId"]))
    for x in (ami, copy, again):
        ec2.deregister_image(ImageId=x)
    refused("InvalidAMIID.Unavailable", "twice is refused",
            lambda: ec2.deregister_image(ImageId=ami))
    refused("InvalidAMIID.NotFound", "it is not shown any more",
            lambda: ec2.describe_images(ImageIds=[ami]))
    is_(ec2.describe_instances(InstanceIds=more)["Reservations"][0]["Instances"][0]["ImageId"],
        again, "instances outlive their image")
    for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
        ec2.delete_snapshot(SnapshotId=s["SnapshotId"])
    is_(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"], [], "snapshots can go then")
    ec2.terminate_instances(InstanceIds=more + [iid])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=more + [iid], WaiterConfig=FAST)


def test_attributes(cloud):
    ec2 = cloud.client("ec2")
    iid = launch(ec2, UserData="#!/bin/sh\n")[0]
    ec2.get_waiter("instance_running").wait(InstanceIds=[iid], WaiterConfig=FAST)

    def get(name, member):
        return ec2.describe_instance_attribute(InstanceId=iid, Attribute=name)[member]
    is_(base64.b64decode(get("userData", "UserData")["Value"]), b"#!/bin/sh\n", "user data")
    is_(get("rootDeviceName", "RootDeviceName")["Value"], "/dev/xvda", "root device")
    is_(get("blockDeviceMapping", "BlockDeviceMappings")[0]["DeviceName"], "/dev/xvda", "volumes")
    is_(get("groupSet", "Groups")[0]["GroupName"], "default", "groups")
    refused("IncorrectInstanceState", "a running one keeps its type",
            lambda: ec2.modify_instance_attribute(InstanceId=iid,
                                                  InstanceType={"Value": "m5.large"}))
    ec2.modify_instance_attribute(InstanceId=iid, DisableApiTermination={"Value": True})
    refused("OperationNotPermitted", "protection can be set",
            lambda: ec2.terminate_instances(InstanceIds=[iid]))
    ec2.modify_instance_attribute(InstanceId=iid, DisableApiTermination={"Value": False})
    ec2.modify_instance_attribute(InstanceId=iid, Attribute="instanceInitiatedShutdownBehavior",
                                  Value="terminate")
    is_(get("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior")["Value"],
        "terminate", "the old form works too")
    ec2.modify_instance_attribute(InstanceId=iid, BlockDeviceMappings=[
        {"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": True}}])
    ec2.reboot_instances(InstanceIds=[iid])
    ec2.stop_instances(InstanceIds=[iid])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[iid], WaiterConfig=FAST)
    refused("IncorrectInstanceState", "a stopped one cannot be rebooted",
            lambda: ec2.reboot_instances(InstanceIds=[iid]))
    ec2.modify_instance_attribute(InstanceId=iid, InstanceType={"Value": "m5.large"})
    is_(get("instanceType", "InstanceType")["Value"], "m5.large", "a stopped one gets another type")
    refused("InvalidParameterCombination", "nothing to change is refused",
            lambda: ec2.modify_instance_attribute(InstanceId=iid))
    ec2.terminate_instances(InstanceIds=[iid])


def test_offers(cloud):
    ec2 = cloud.client("ec2")
    r = ec2.describe_account_attributes(AttributeNames=["default-vpc"])["AccountAttributes"]
    is_(r[0]["AttributeValues"][0]["AttributeValue"], ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
        "the account has a default VPC")
    r = ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=[
        {"Name": "instance-type", "Values": ["t3.large"]}])["InstanceTypeOfferings"]
    is_(len(r), 3, "a type is offered in each zone")
    r = ec2.describe_spot_price_history(InstanceTypes=["t3.large"], MaxResults=2,
                                        ProductDescriptions=["Linux/UNIX"])
    ok(len(r["SpotPriceHistory"]) == 2 and 0 < float(r["SpotPriceHistory"][0]["SpotPrice"]) < 0.0832
       and r["NextToken"], "spot prices come in pages", r)
    iid = launch(ec2)[0]
    r = ec2.describe_network_interfaces(Filters=[
        {"Name": "attachment.instance-id", "Values": [iid]}])["NetworkInterfaces"]
    is_(r[0]["Attachment"]["InstanceId"], iid, "an interface knows its instance")
    refused("InvalidNetworkInterfaceID.NotFound", "an unknown one is refused",
            lambda: ec2.describe_network_interfaces(NetworkInterfaceIds=["eni-00000000000000000"]))
    gid = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    r = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [gid]}])[
        "SecurityGroupRules"]
    is_(sorted(x["IsEgress"] for x in r), [False, True], "the default group has two rules")
    is_(ec2.get_password_data(InstanceId=iid)["PasswordData"], "", "Linux has no password")
    r = ec2.modify_instance_metadata_options(InstanceId=iid, HttpTokens="required")
    is_(r["InstanceMetadataOptions"]["HttpTokens"], "required", "metadata options can be changed")
    ec2.terminate_instances(InstanceIds=[iid])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[iid], WaiterConfig=FAST)


def test_spot(cloud):
    ec2 = cloud.client("ec2")
    ami = image(ec2)["ImageId"]
    spec = {"ImageId": ami, "InstanceType": "t3.large"}
    price = float(ec2.describe_spot_price_history(
        InstanceTypes=["t3.large"])["SpotPriceHistory"][0]["SpotPrice"])
    args = {"LaunchSpecification": spec, "ClientToken": "spot-1", "TagSpecifications": [
        {"ResourceType": "spot-instances-request", "Tags": [{"Key": "a", "Value": "b"}]}]}
    first = ec2.request_spot_instances(**args)["SpotInstanceRequests"]
    is_((len(first), first[0]["State"], first[0]["Status"]["Code"], first[0]["Type"]),
        (1, "open", "pending-fulfillment", "one-time"), "a request is open")
    sir = first[0]["SpotInstanceRequestId"]
    is_(ec2.request_spot_instances(**args)["SpotInstanceRequests"][0]["SpotInstanceRequestId"], sir,
        "the same token: the same request")
    refused("IdempotentParameterMismatch", "other parameters are refused",
            lambda: ec2.request_spot_instances(**dict(args, InstanceCount=2)))
    ec2.get_waiter("spot_instance_request_fulfilled").wait(SpotInstanceRequestIds=[sir])
    r = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[sir])["SpotInstanceRequests"][0]
    is_((r["State"], r["Status"]["Code"], r["Tags"], r["LaunchSpecification"]["ImageId"]),
        ("active", "fulfilled", [{"Key": "a", "Value": "b"}], ami), "it is fulfilled")
    machine = r["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[machine])
    i = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
    is_((i["InstanceLifecycle"], i["SpotInstanceRequestId"]), ("spot", sir), "by a spot machine")
    found = ec2.describe_instances(Filters=[{"Name": "instance-lifecycle", "Values": ["spot"]}])
    is_([x["InstanceId"] for y in found["Reservations"] for x in y["Instances"]], [machine],
        "which a filter finds")
    refused("UnsupportedOperation", "it cannot be stopped",
            lambda: ec2.stop_instances(InstanceIds=[machine]), 400, "one-time Spot")
    is_(ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[sir])[
        "CancelledSpotInstanceRequests"], [{"SpotInstanceRequestId": sir, "State": "cancelled"}],
        "the request is cancelled")
    is_(ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[sir])["SpotInstanceRequests"][0][
        "Status"]["Code"], "request-canceled-and-instance-running", "its machine runs on")
    ec2.terminate_instances(InstanceIds=[machine])
    low = ec2.request_spot_instances(LaunchSpecification=spec, SpotPrice=str(price / 2),
                                     InstanceCount=2)["SpotInstanceRequests"]
    ids = [x["SpotInstanceRequestId"] for x in low]
    is_([(x["State"], x["Status"]["Code"]) for x in ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=ids)["SpotInstanceRequests"]], [("open", "price-too-low")] * 2,
        "a low bid waits")
    ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=ids)
    is_(sorted(x["Status"]["Code"] for x in ec2.describe_spot_instance_requests(Filters=[
        {"Name": "state", "Values": ["cancelled"]}])["SpotInstanceRequests"]),
        ["canceled-before-fulfillment"] * 2 + ["request-canceled-and-instance-running"],
        "until it is cancelled")
    refused("InvalidSpotInstanceRequestID.NotFound", "an unknown request", lambda:
            ec2.describe_spot_instance_requests(SpotInstanceRequestIds=["sir-00000000000000000"]))
    refused("InvalidSpotInstanceRequestID.Malformed", "an id that is none", lambda:
            ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=["sir-x"]))
    refused("InvalidAMIID.NotFound", "a wrong image is refused at once", lambda:
            ec2.request_spot_instances(LaunchSpecification={"ImageId": "ami-00000000000000000"}))

    def on_market(**spot):
        return ec2.run_instances(ImageId=ami, MinCount=1, MaxCount=1, InstanceType="t3.large",
                                 InstanceMarketOptions={"MarketType": "spot", "SpotOptions": spot})
    i = on_market(MaxPrice=str(price * 2), SpotInstanceType="one-time",
                  InstanceInterruptionBehavior="terminate")["Instances"][0]
    is_(i["InstanceLifecycle"], "spot", "RunInstances takes market options")
    r = ec2.describe_spot_instance_requests(Filters=[
        {"Name": "instance-id", "Values": [i["InstanceId"]]}])["SpotInstanceRequests"]
    is_([(x["SpotInstanceRequestId"], x["State"]) for x in r],
        [(i["SpotInstanceRequestId"], "active")], "and makes a request of it")
    ec2.terminate_instances(InstanceIds=[i["InstanceId"]])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[i["InstanceId"]])
    r = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[
        i["SpotInstanceRequestId"]])["SpotInstanceRequests"][0]
    is_((r["State"], r["Status"]["Code"]), ("closed", "instance-terminated-by-user"),
        "which closes with its machine")
    refused("SpotMaxPriceTooLow", "a bid that is too low", lambda: on_market(MaxPrice="0.0001"))
    refused("InvalidParameterCombination", "stopping needs persistent ones", lambda: on_market(
        InstanceInterruptionBehavior="stop"))
    refused("UnsupportedOperation", "which are not emulated", lambda: on_market(
        SpotInstanceType="persistent", InstanceInterruptionBehavior="stop"))


def test_parameters(cloud):
    ssm = cloud.client("ssm")
    name = "/aws/service/debian/release/13/latest/amd64"
    is_(ssm.get_parameter(Name=name)["Parameter"]["Value"],
        image(cloud.client("ec2"))["ImageId"], "a public parameter names the image")
    r = ssm.get_parameters(Names=[name, "/nope"])
    is_((len(r["Parameters"]), r["InvalidParameters"]), (1, ["/nope"]), "several at once")
    refused("ParameterNotFound", "an unknown one is refused",
            lambda: ssm.get_parameter(Name="/nope"))


def test_pricing(cloud):
    r = cloud.client("pricing").get_products(ServiceCode="AmazonEC2", Filters=[
        {"Type": "TERM_MATCH", "Field": f, "Value": v} for f, v in (
            ("instanceType", "t3.large"), ("regionCode", "us-west-2"),
            ("operatingSystem", "Linux"))])
    is_(len(r["PriceList"]), 1, "one product has that type, region and system")
    product = json.loads(r["PriceList"][0])
    term = list(product["terms"]["OnDemand"].values())[0]
    price = list(term["priceDimensions"].values())[0]["pricePerUnit"]["USD"]
    is_(float(price), 0.0832, "with its price")
    ok("static" in product["product"]["attributes"]["servicename"], "which says what it is")


def test_lambda(cloud):
    client = cloud.client("lambda")
    event = dict(bundle=base64.b64encode(b"HG20....").decode(), node="0" * 40, branch="b",
                 user="u", message="m")
    r = client.invoke(FunctionName="ci-try-server-upload", Payload=json.dumps(event).encode())
    ok(r["StatusCode"] == 200 and "FunctionError" not in r, "the try server is called", r)
    ok("node " + "0" * 40 in json.loads(r["Payload"].read()), "and tells what it got")
    del event["branch"]
    r = client.invoke(FunctionName="ci-try-server-upload", Payload=json.dumps(event).encode())
    is_(r.get("FunctionError"), "Unhandled", "a request that lacks something fails")
    is_(json.loads(r["Payload"].read())["errorType"], "KeyError", "with a reason")
    refused("ResourceNotFoundException", "there is no other function",
            lambda: client.invoke(FunctionName="nope"), 404)


def test_sts(cloud):
    sts, iam = cloud.client("sts"), cloud.client("iam")
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
         "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName="assumed", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    r = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="session")
    keys = r["Credentials"]
    ok(keys["AccessKeyId"].startswith("ASIA"), "a role gives temporary keys")

    def with_keys(service, token=keys["SessionToken"]):
        return boto3.client(service, endpoint_url=cloud.endpoint, region_name="us-west-2",
                            aws_access_key_id=keys["AccessKeyId"],
                            aws_secret_access_key=keys["SecretAccessKey"],
                            aws_session_token=token,
                            config=Config(retries={"max_attempts": 0}))
    is_(with_keys("sts").get_caller_identity()["Arn"],
        "arn:aws:sts::123456789012:assumed-role/assumed/session", "which are the role's")
    ok(with_keys("ec2").describe_regions()["Regions"], "and accepted by EC2")
    for service, code in (("ec2", "AuthFailure"), ("sts", "InvalidClientTokenId"),
                          ("ssm", "UnrecognizedClientException")):
        call = {"ec2": "describe_regions", "sts": "get_caller_identity",
                "ssm": "list_commands"}[service]
        refused(code, service + " refuses another token",
                lambda: getattr(with_keys(service, "x"), call)())
        refused(code, service + " refuses them without their token",
                lambda: getattr(with_keys(service, None), call)())
    refused("AccessDenied", "a role that trusts others is not for us", lambda: sts.assume_role(
        RoleArn="arn:aws:iam::123456789012:role/nope", RoleSessionName="session"), 403)
    ok(sts.get_session_token()["Credentials"]["SessionToken"], "GetSessionToken answers keys")
    refused("InvalidAuthorizationMessageException", "no message is no message",
            lambda: sts.decode_authorization_message(EncodedMessage="xxxx"))
    iam.delete_role(RoleName="assumed")


def main():
    cloud = Cloud()
    try:
        for test in (test_identity, test_images, test_keys, test_created_keys, test_groups,
                     test_instance, test_refusals, test_empty, test_paging, test_signatures, test_iam, test_profile,
                     test_volumes, test_create_image, test_attributes, test_offers, test_spot,
                     test_parameters, test_pricing, test_lambda, test_sts):
            try:
                test(cloud)
            except Exception as e:  # a test that breaks off is a failure
                ok(False, test.__name__, repr(e))
    finally:
        cloud.close()
    print("1..%d" % count)
    return 1 if failed else 0


sys.exit(main())
