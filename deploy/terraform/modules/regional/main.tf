# One region: a VPC, an EKS cluster with nodes in every zone, the add-ons, the addresses that DNS leads to,
# and the roles of the pods. The load balancer itself is made by the AWS Load Balancer Controller out of
# the chart's Service, at the addresses that are held here.

data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_availability_zones" "available" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  region    = data.aws_region.current.name
  partition = data.aws_partition.current.partition
  account   = data.aws_caller_identity.current.account_id

  zones = slice(sort(data.aws_availability_zones.available.names), 0, var.zones)
  # By number: a zone that AWS adds later must not move the others' subnets.
  slots = { for index, zone in local.zones : tostring(index) => zone }
}
