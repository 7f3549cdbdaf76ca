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
    region = region
    aws    = { identity = "podIdentity" }
    # Files that edges read at each use: a certificate or a token that changes needs no restart.
    tls = concat([{ secret = "proxima-tls" }], [
      for secret in ["proxima-operators"] : { secret = secret, files = { for name in var.operators : name => "operators/${name}" } }
      if length(var.operators) > 0
    ])
    service    = { eipAllocations = cluster.eip_allocations, subnets = cluster.public_subnet_ids }
    configFrom = { s3 = var.edges_read_bucket ? "s3://${module.global.bucket}/config/proxima.toml" : "" }
    # Twice what [journal] may fill. It goes with its pod: after a drain edges wait until the archive has what is in it.
    extraVolumes      = [for name in ["journal"] : { name = name, emptyDir = { sizeLimit = "2Gi" } } if var.edges_archive]
    extraVolumeMounts = [for name in ["journal"] : { name = name, mountPath = "/var/lib/proxima-journal" } if var.edges_archive]
  }) }
}

output "configuration" {
  description = "Proxima's configuration: terraform output -raw configuration > proxima.toml"
  value = templatefile("${path.module}/proxima.toml.tftpl", {
    mode      = var.edges_may_write ? "act" : "observe"
    zone_id   = module.global.zone_id
    names     = local.names
    networks  = jsonencode([for cluster in values(local.clusters) : cluster.vpc_cidr])
    operators = var.operators
    archive   = var.edges_archive ? "s3://${module.global.bucket}/archive" : ""
    regions = { for region, cluster in local.clusters : region => {
      peer      = module.global.peers[region]
      addresses = jsonencode(cluster.addresses)
    } }
  })
}
