output "zone_id" {
  description = "For zone_id in [dns] of Proxima's configuration."
  value       = local.zone_id
}

output "name_servers" {
  description = "To be entered at the registrar of the domain. Empty when the zone was there before."
  value       = var.zone_id == null ? aws_route53_zone.this[0].name_servers : []
}

output "bucket" {
  description = "Configuration under config/, backups under backups/, journals and audit logs under archive/."
  value       = aws_s3_bucket.this.bucket
}

output "key_arn" {
  description = "The key that encrypts the bucket."
  value       = aws_kms_key.this.arn
}

output "policy_arns" {
  description = "IAM policies: read, edge, operate, config, archive (deploy/iam/README.md says who needs which)."
  value       = { for role, policy in aws_iam_policy.this : role => policy.arn }
}

output "policies" {
  description = "The same as documents."
  value       = { for role, policy in aws_iam_policy.this : role => policy.policy }
}

output "peers" {
  description = "Name and port for `peer` of [regions.X], by region."
  value       = { for region in local.regions : region => "peer.${region}.${var.domain}:8443" }
}

output "moved_by_proxima" {
  description = "Names of records that only Proxima writes. Nothing else may: not this module, not ExternalDNS."
  value       = local.written.operate
}
