-- A task that asks for many machines at once and keeps them until a file appears.
local hg = require "hg"

return hg.task {
  help = "Hold many machines until a file is there.",
  args = {
    hg.arg.string { name = "file", required = true, help = "what is waited for" },
    hg.arg.integer { name = "count", default = 100, help = "how many machines" },
  },
  run = function(_, args)
    local fs = require "hgauto.fs"
    local aws = require "hgauto.aws"
    local ec2 = aws.client "ec2"
    local image = ec2:describe_images({ Owners = { "136693071363" }, Filters = {
      { Name = "name", Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId
    for _ = 1, args.count do
      ec2:run_instances { ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.micro" }
    end
    fs.write(args.file .. ".machines", "")
    hg.wait { what = args.file, every = 0.05, timeout = 120, poll = function()
      return fs.exists(args.file)
    end }
  end,
}
