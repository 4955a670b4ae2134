-- Prices per hour in USD of instance types, Linux and Windows on demand in
-- us-west-2 and us-east-1.  A static table: right in its order of magnitude,
-- not a price list.  The answer's product says so.

return {
  ["t2.micro"] = 0.0116, ["t2.small"] = 0.023, ["t2.medium"] = 0.0464, ["t3.nano"] = 0.0052,
  ["t3.micro"] = 0.0104, ["t3.small"] = 0.0208, ["t3.medium"] = 0.0416, ["t3.large"] = 0.0832,
  ["t3.xlarge"] = 0.1664, ["t3.2xlarge"] = 0.3328, ["m5.large"] = 0.096, ["m5.xlarge"] = 0.192,
  ["m5.2xlarge"] = 0.384, ["m5d.large"] = 0.113, ["m5d.xlarge"] = 0.226, ["m6i.large"] = 0.096,
  ["m6i.xlarge"] = 0.192, ["c5.large"] = 0.085, ["c5.xlarge"] = 0.17, ["c5.9xlarge"] = 1.53,
  ["c5d.9xlarge"] = 1.728, ["c6i.xlarge"] = 0.17, ["c6id.9xlarge"] = 1.8144,
  ["r5.large"] = 0.126,
}
