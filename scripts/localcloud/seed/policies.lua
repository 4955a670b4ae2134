-- AWS-managed policies that can be attached.  Their documents are not kept:
-- what the local cloud grants depends on the name only.

return {
  "AdministratorAccess", "PowerUserAccess", "ReadOnlyAccess", "AmazonEC2FullAccess",
  "AmazonEC2ReadOnlyAccess", "AmazonS3FullAccess", "AmazonS3ReadOnlyAccess",
  "AmazonSSMFullAccess", "AmazonSSMManagedInstanceCore", "AmazonSSMReadOnlyAccess",
  "CloudWatchAgentServerPolicy", "IAMFullAccess", "IAMReadOnlyAccess",
  "service-role/AmazonEC2RoleforSSM", "service-role/AWSLambdaBasicExecutionRole",
}
