# Three regions behind one domain. docs/deploy.md goes through it step by step. To add a region: a provider, a
# module block, and a line in `regions` and `clusters`. RUNBOOK.md says what comes around that, and how one is removed.

locals {
  names = coalesce(var.names, { "www.${var.domain}" = "global" })

  # Not keys(local.clusters): the clusters wait for the policies, which wait for this.
  regions = ["eu-west-1", "us-east-1", "ap-northeast-1"]

  kubernetes_versions = { for region in local.regions : region => lookup(var.kubernetes_versions, region, var.kubernetes_version) }

  clusters = {
    eu-west-1      = module.eu_west_1
    us-east-1      = module.us_east_1
    ap-northeast-1 = module.ap_northeast_1
  }

  edge_policy_arns = merge(
    { dns = var.edges_may_write ? module.global.policy_arns["edge"] : module.global.policy_arns["read"] },
    var.edges_read_bucket ? { config = module.global.policy_arns["config"] } : {},
    var.edges_archive ? { archive = module.global.policy_arns["archive"] } : {},
  )
}

module "global" {
  source = "../../modules/global"

  domain  = var.domain
  zone_id = var.zone_id
  names   = local.names
  aliases = var.aliases
  regions = local.regions
  peers   = { for region, cluster in local.clusters : region => cluster.addresses }
}

module "eu_west_1" {
  source = "../../modules/regional"

  name               = "proxima-eu-west-1"
  cidr               = "10.10.0.0/16"
  nat                = var.nat
  nodes              = var.nodes
  instance_types     = var.instance_types
  kubernetes_version = local.kubernetes_versions["eu-west-1"]
  admins             = var.admins
  api_cidrs          = var.api_cidrs
  edge_policy_arns   = local.edge_policy_arns
}

module "us_east_1" {
  source    = "../../modules/regional"
  providers = { aws = aws.us_east_1 }

  name               = "proxima-us-east-1"
  cidr               = "10.20.0.0/16"
  nat                = var.nat
  nodes              = var.nodes
  instance_types     = var.instance_types
  kubernetes_version = local.kubernetes_versions["us-east-1"]
  admins             = var.admins
  api_cidrs          = var.api_cidrs
  edge_policy_arns   = local.edge_policy_arns
}

module "ap_northeast_1" {
  source    = "../../modules/regional"
  providers = { aws = aws.ap_northeast_1 }

  name               = "proxima-ap-northeast-1"
  cidr               = "10.30.0.0/16"
  nat                = var.nat
  nodes              = var.nodes
  instance_types     = var.instance_types
  kubernetes_version = local.kubernetes_versions["ap-northeast-1"]
  admins             = var.admins
  api_cidrs          = var.api_cidrs
  edge_policy_arns   = local.edge_policy_arns
}
