output "name_servers" {
  description = "Enter these at the registrar of the domain."
  value       = module.global.name_servers
}

output "bucket" {
  description = "Configuration, backups, archive."
  value       = module.global.bucket
}

output "policy_arns" {
  description = "IAM policies: read, edge, operate, config, archive."
  value       = module.global.policy_arns
}

output "commands" {
  description = "By region: the context of kubectl, and the AWS Load Balancer Controller."
  value       = { for region, cluster in local.clusters : region => cluster.commands }
}

output "values" {
  description = "By region: values of the chart, as JSON (which is YAML): its load balancer stands at the addresses that DNS leads to."
  value = { for region, cluster in local.clusters : region => jsonencode({
    region  = region
    aws     = { identity = "podIdentity" }
    tls     = [{ secret = "proxima-tls" }]
    service = { eipAllocations = cluster.eip_allocations, subnets = cluster.public_subnet_ids }
  }) }
}

output "configuration" {
  description = "Proxima's configuration: terraform output -raw configuration > proxima.toml"
  value = templatefile("${path.module}/proxima.toml.tftpl", {
    mode     = var.edges_may_write ? "act" : "observe"
    zone_id  = module.global.zone_id
    names    = local.names
    networks = jsonencode([for cluster in values(local.clusters) : cluster.vpc_cidr])
    regions = { for region, cluster in local.clusters : region => {
      peer      = module.global.peers[region]
      addresses = jsonencode(cluster.addresses)
    } }
  })
}
