-- gc, terminate and purge on an api-only local cloud: rows of dead and live
-- runs in each state, other accounts and clouds, lost ledgers, exit codes.
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local hg = require "hg"
local host = require "hgauto.host"
local session = require "hg.session"
local time = require "hgauto.time"
local env = dofile "tests/lib/task_env.lua"

host.setenv("HGAUTO_GC_GRACE", "0.3")
env.state()
local ec2, cloud = env.cloud()
local _d <close> = async.defer(env.stop)
local said = env.listen()
local led = session.ledger
local ami = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId

local function launch(opts, params)
  params = params or {}
  params.ImageId, params.MinCount, params.MaxCount = ami, 1, 1
  local r = ec2:run_instances(params, opts)
  return r.Instances[1].InstanceId, aws.meta(r).op
end

local function state_of(id)
  return ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1].State.Name
end

local function gone(id)
  local s = state_of(id)
  return s == "shutting-down" or s == "terminated"
end

local function gc(args, opts)
  said.clear()
  return hg.gc.main(args or {}, opts or { ["local"] = true })
end

-- A row as it stands when a process dies after writing it.
local function intent(run, more)
  local row = { op = crypto.token(), run = run.id, kind = "instance", cls = "ephemeral",
    place = hg.ledger.place(session), req = "", name = "x" }
  for k, v in pairs(more or {}) do
    row[k] = v
  end
  row.token = row.op
  led:intent(row)
  return row.op
end

t.test("an empty ledger: nothing to remove, 0", function()
  t.is(gc(), 0, "exit 0")
  t.like(said.text(), "nothing to remove", "said")
end)

t.test("a live machine of a dead run is terminated, that of a live run stays", function()
  local dead = env.run()
  local lost, lost_op = launch()
  local alive = env.run()
  local mine, mine_op = launch()
  dead:finish()
  t.is(gc { dry_run = true }, 0, "--dry-run: exit 0")
  t.like(said.text(), lost, "--dry-run names it")
  t.is(led:get(lost_op).state, "live", "and changes nothing")
  t.ok(not gone(lost), "nor asks for it")
  t.is(gc(), 0, "exit 0")
  t.ok(gone(lost), "the dead run's is gone")
  t.is(led:get(lost_op).state, "gone", "and recorded")
  t.ok(not gone(mine), "the live run's is not")
  t.is(led:get(mine_op).state, "live", "nor its row")
  t.is(gc(), 0, "again")
  t.like(said.text(), "nothing to remove", "nothing is left to do")
  alive:finish()
  t.is(gc(), 0, "when it has died, too")
  t.ok(gone(mine), "its machine goes")
end)

t.test("addresses: of a dead run, found by tag after a lost answer, of a live run", function()
  local function all()
    local ids = {}
    for _, a in ipairs(ec2:describe_addresses({}).Addresses) do
      ids[a.AllocationId] = true
    end
    return ids
  end
  local dead = env.run()
  local known = ec2:allocate_address {}
  local op = aws.meta(known).op
  t.is({ led:get(op).state, led:get(op).kind, led:get(op).cls }, { "live", "address",
    "ephemeral" }, "recorded")
  local lost_op = intent(dead, { kind = "address" })
  aws.ledger(nil)
  ec2:allocate_address { TagSpecifications = { { ResourceType = "elastic-ip",
    Tags = { { Key = "hgauto:op", Value = lost_op }, { Key = "hgauto:state",
      Value = session.state.sid } } } } }
  local others = ec2:allocate_address {}
  hg.ledger.attach(session)
  local alive = env.run()
  local mine = ec2:allocate_address {}
  dead:finish()
  t.is(gc(), 0, "exit 0")
  t.is(all(), { [others.AllocationId] = true, [mine.AllocationId] = true },
    "both of the dead run are released, no other")
  t.is({ led:get(op).state, led:get(lost_op).state }, { "gone", "gone" }, "and recorded")
  alive:finish()
  t.is(gc(), 0, "when it has died, too")
  t.is(all(), { [others.AllocationId] = true }, "its address goes")
  -- Somebody released it already.
  local again = env.run()
  local id = ec2:allocate_address({}).AllocationId
  ec2:release_address { AllocationId = id }
  again:finish()
  t.is(gc(), 0, "one that is not there any more is no failure")
  ec2:release_address { AllocationId = others.AllocationId }
end)

t.test("an intent that never left becomes absent", function()
  local run = env.run()
  local op, unknown = intent(run), intent(run)
  led:set(unknown, "unknown", { error = "no answer" })
  run:finish()
  t.is(gc(), 0, "exit 0")
  t.is(led:get(op).state, "absent", "intent")
  t.is(led:get(unknown).state, "absent", "unknown")
end)

t.test("an intent whose request arrived is found by its token", function()
  local run = env.run()
  local op = intent(run)
  aws.ledger(nil)
  local id = launch(nil, { ClientToken = op })
  run:finish()
  t.is(gc(), 0, "exit 0")
  t.ok(gone(id), "its machine goes")
  t.is({ led:get(op).state, led:get(op).id }, { "gone", id }, "its row knows")
end)

t.test("an intent too young to decide: 6, said, decided later", function()
  local run = env.run()
  local op = intent(run)
  run:finish()
  host.setenv("HGAUTO_GC_GRACE", "100")
  t.is(gc { no_wait = true }, 6, "exit 6")
  t.like(said.text(), "may still appear, decided after", "said")
  t.is(led:get(op).state, "intent", "still open")
  host.setenv("HGAUTO_GC_GRACE", "0.3")
  t.is(gc(), 0, "later: exit 0")
end)

t.test("a deletion that was not confirmed is repeated", function()
  local run = env.run()
  local id, op = launch()
  led:set(op, "deleting")
  local group = ec2:create_security_group({ GroupName = "g1", Description = "x" }, { keep = true })
  local group_op = led:list({ kinds = { "group" } })[1].op
  led:set(group_op, "deleting")
  run:finish()
  t.is(gc(), 0, "exit 0")
  t.ok(gone(id), "the machine is gone")
  t.is(led:get(group_op).state, "gone", "the half deleted group, too")
  t.raises(function()
    ec2:describe_security_groups { GroupIds = { group.GroupId } }
  end, { code = "InvalidGroup.NotFound" }, "really")
end)

t.test("durable things of dead runs stay", function()
  local run = env.run()
  ec2:create_security_group({ GroupName = "g2", Description = "x" }, { keep = true })
  local op = intent(run, { kind = "group", cls = "durable", name = "g3" })
  run:finish()
  t.is(gc(), 0, "exit 0")
  t.is(#ec2:describe_security_groups({ Filters = { { Name = "group-name",
    Values = { "g2" } } } }).SecurityGroups, 1, "the group is there")
  t.is(led:get(op).state, "absent", "its undecided creation is decided")
end)

t.test("a kept machine stays until its run is named or its time is over", function()
  local run = env.run()
  local a, op_a = launch()
  local b, op_b = launch()
  led:set(op_a, "kept", { keep_until = time.now() + 1000 })
  led:set(op_b, "kept", { keep_until = time.now() - 1 })
  local id = run.id
  run:finish()
  t.is(gc(), 0, "exit 0")
  t.ok(gone(b) and not gone(a), "the one past its time goes")
  t.is(gc { run = id }, 0, "gc RUN")
  t.ok(gone(a), "takes the other")
end)

t.test("gc of one run leaves other dead ones", function()
  local one = env.run()
  local id_one = launch()
  local two = env.run()
  local id_two = launch()
  local name = one.id
  one:finish()
  two:finish()
  t.is(gc { run = name }, 0, "exit 0")
  t.ok(gone(id_one) and not gone(id_two), "only the named one")
  t.is(gc { older = 1000 }, 0, "--older")
  t.ok(not gone(id_two), "leaves young ones")
  t.raises(function()
    gc { run = "19990101-0000-zzzz" }
  end, { kind = "usage" }, "an unknown run is refused")
  gc()
end)

t.test("a machine that is known no more is gone", function()
  local run = env.run()
  local _, op = launch()
  led:set(op, "live", { id = "i-0123456789abcdef0" })
  run:finish()
  t.is(gc(), 0, "exit 0")
  t.is(led:get(op).state, "gone", "recorded")
  gc { by_tag = true }
end)

t.test("things of a wiped local cloud are forgotten, but not by --dry-run", function()
  local run = env.run()
  local place = led:place { partition = "aws", account = "000000000000", region = "us-west-2",
    endpoint = "local:0123456789ab" }
  local op = intent(run, { place = place })
  run:finish()
  gc { dry_run = true }
  t.is(led:get(op).state, "intent", "--dry-run forgets nothing")
  t.is(gc(), 0, "exit 0")
  t.is(led:get(op).state, "gone", "then it is")
end)

t.test("another account: 3, nothing decided, nothing sent", function()
  local run = env.run()
  local place = led:place { partition = "aws", account = "999999999999", region = "us-west-2",
    endpoint = cloud.endpoint_url }
  local op = intent(run, { place = place })
  run:finish()
  session.local_cloud = nil
  t.is(gc({}, { region = "us-west-2" }), 3, "exit 3")
  t.like(said.text(), "belongs to account 999999999999", "said")
  t.is(led:get(op).state, "intent", "undecided")
  t.is(gc({}, { ["local"] = true }), 6, "from the local cloud: exit 6")
  t.like(said.text(), "not in the local cloud", "said")
  led:forget(cloud.endpoint_url)
  session.local_cloud = cloud
end)

t.test("free kinds that cannot be removed: 1", function()
  local run = env.run()
  local op = intent(run, { kind = "keypair", cls = "durable", name = "k" })
  run:finish()
  host.setenv("HGAUTO_GC_GRACE", "100")
  t.is(gc { no_wait = true }, 1, "exit 1")
  host.setenv("HGAUTO_GC_GRACE", "0.3")
  gc()
  t.is(led:get(op).state, "absent", "later it is decided")
end)

t.test("terminate: ours but not a live run's, not others'", function()
  local dead = env.run()
  local lost = launch()
  dead:finish()
  local alive = env.run()
  local theirs = launch()
  local run = env.run()
  said.clear()
  hg.gc.terminate { older = 1000 }
  t.ok(not gone(lost), "--older-than leaves young ones")
  hg.gc.terminate {}
  t.ok(gone(lost), "the dead run's is terminated")
  t.ok(not gone(theirs), "the live run's is not")
  t.raises(function()
    hg.gc.purge {}
  end, { kind = "exists", match = (alive.id:gsub("%-", "%%-")) }, "purge refuses beside a live run")
  alive:finish()
  hg.gc.terminate {}
  t.ok(gone(theirs), "later it goes")
  said.clear()
  hg.gc.terminate {}
  t.like(said.text(), "nothing to terminate", "then there is nothing")
  run:finish()
end)

t.test("purge takes everything of ours and nothing else", function()
  env.run():finish()
  aws.ledger(nil)
  local other = ec2:create_security_group { GroupName = "other", Description = "x" }
  local foreign = launch(nil, { TagSpecifications = { { ResourceType = "instance",
    Tags = { { Key = "hgauto:state", Value = "ffffffffffff" } } } } })
  local run = env.run()
  local id = launch()
  ec2:import_key_pair({ KeyName = "k1",
    PublicKeyMaterial = crypto.keypair("ed25519", "x"):public() }, { keep = true })
  ec2:allocate_address({}, { keep = true })
  hg.gc.purge {}
  t.ok(gone(id), "instances")
  t.is(#ec2:describe_addresses({}).Addresses, 0, "addresses")
  t.is(#ec2:describe_key_pairs({}).KeyPairs, 0, "key pairs")
  local names = {}
  for _, g in ipairs(ec2:describe_security_groups({}).SecurityGroups) do
    names[#names + 1] = g.GroupName
  end
  table.sort(names)
  t.is(names, { "default", "other" }, "groups but those of others")
  t.ok(not gone(foreign), "not another state directory's machine")
  said.clear()
  hg.gc.purge {}
  t.like(said.text(), "nothing to purge", "again: nothing")
  run:finish()
  aws.ledger(nil)
  ec2:terminate_instances { InstanceIds = { foreign } }
  ec2:delete_security_group { GroupId = other.GroupId }
end)

t.test("--by-tag ends expired machines without a ledger", function()
  local run = env.run()
  local old = launch { expires = math.floor(time.now()) - 5 }
  local new = launch { expires = math.floor(time.now()) + 500 }
  run:finish()
  local first = session.state
  env.state()
  led, session.local_cloud, session.run = session.ledger, nil, nil
  local opts = { region = "us-west-2", endpoint_url = cloud.endpoint_url }
  t.is(gc({ by_tag = true, dry_run = true }, opts), 0, "--dry-run")
  t.ok(not gone(old), "ends nothing")
  t.is(gc({ by_tag = true }, opts), 0, "exit 0")
  t.ok(gone(old), "the expired one is gone")
  t.ok(not gone(new), "the other is not")
  session.state, session.ledger, session.local_cloud = first, first:ledger(), cloud
  led = session.ledger
end)

t.test("a refusal: 6, the row is live again", function()
  local run = env.run()
  local id, op = launch(nil, { DisableApiTermination = true })
  run:finish()
  t.is(gc(), 6, "exit 6")
  t.is(led:get(op).state, "live", "live")
  t.like(said.text(), id, "named")
end)

env.stop()
return t.done()
