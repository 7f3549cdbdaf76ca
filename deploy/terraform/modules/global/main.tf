# What all regions share: the hosted zone, the key and the bucket of configuration and archive,
# and the IAM policies. The records that Proxima moves (the names, their sets, the control record)
# and the health checks are made by `proxima dns bootstrap`, never here.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  zone_id   = var.zone_id == null ? aws_route53_zone.this[0].zone_id : var.zone_id
  zone_arn  = "arn:${local.partition}:route53:::hostedzone/${local.zone_id}"
}
