-- Regions the local cloud knows, with the letters of their three zones that are
-- used here and the prefix of their zone ids.

return {
  { "us-east-1", "use1" },
  { "us-east-2", "use2" },
  { "us-west-1", "usw1" },
  { "us-west-2", "usw2" },
  { "ca-central-1", "cac1" },
  { "eu-central-1", "euc1" },
  { "eu-north-1", "eun1" },
  { "eu-west-1", "euw1" },
  { "eu-west-2", "euw2" },
  { "eu-west-3", "euw3" },
  { "ap-northeast-1", "apne1" },
  { "ap-northeast-2", "apne2" },
  { "ap-northeast-3", "apne3" },
  { "ap-south-1", "aps1" },
  { "ap-southeast-1", "apse1" },
  { "ap-southeast-2", "apse2" },
  { "sa-east-1", "sae1" },
}
