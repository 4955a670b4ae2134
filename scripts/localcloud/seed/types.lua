-- Instance types that may be asked for: name, vCPUs, memory in MiB, and the
-- size in GB of NVMe instance storage where the type has it.  Only labels: all
-- instances share the host.

return {
  { "t2.micro", 1, 1024 },
  { "t2.small", 1, 2048 },
  { "t2.medium", 2, 4096 },
  { "t3.nano", 2, 512 },
  { "t3.micro", 2, 1024 },
  { "t3.small", 2, 2048 },
  { "t3.medium", 2, 4096 },
  { "t3.large", 2, 8192 },
  { "t3.xlarge", 4, 16384 },
  { "t3.2xlarge", 8, 32768 },
  { "m5.large", 2, 8192 },
  { "m5.xlarge", 4, 16384 },
  { "m5.2xlarge", 8, 32768 },
  { "m5d.large", 2, 8192, 75 },
  { "m5d.xlarge", 4, 16384, 150 },
  { "m6i.large", 2, 8192 },
  { "m6i.xlarge", 4, 16384 },
  { "c5.large", 2, 4096 },
  { "c5.xlarge", 4, 8192 },
  { "c5.9xlarge", 36, 73728 },
  { "c5d.9xlarge", 36, 73728, 900 },
  { "c6i.xlarge", 4, 8192 },
  { "c6id.9xlarge", 36, 73728, 2048 },
  { "r5.large", 2, 16384 },
}
