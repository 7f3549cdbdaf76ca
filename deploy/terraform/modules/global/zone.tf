resource "aws_route53_zone" "this" {
  #checkov:skip=CKV2_AWS_38:DNSSEC is switched on with the registrar in step; a wrong DS record takes every name off the net. docs/deploy.md says how.
  #checkov:skip=CKV2_AWS_39:Query logs cost by the query and hold users' addresses; whoever wants them adds aws_route53_query_log for the zone_id that this module gives out.
  count = var.zone_id == null ? 1 : 0

  name    = var.domain
  comment = "Names moved by Proxima"

  # While records of Proxima's are in it, Route 53 refuses to delete the zone: `proxima dns remove` comes first.
  force_destroy = false
}

resource "aws_route53_record" "peer" {
  #checkov:skip=CKV2_AWS_23:The addresses belong to the regional modules, whichever account or state those are in.
  for_each = var.peers

  zone_id = local.zone_id
  name    = "peer.${each.key}.${var.domain}"
  type    = "A"
  ttl     = 60
  records = each.value
}

resource "aws_route53_record" "alias" {
  #checkov:skip=CKV2_AWS_23:Leads to a record that Proxima makes.
  for_each = var.aliases

  zone_id = local.zone_id
  name    = each.key
  type    = "A"

  alias {
    zone_id                = local.zone_id
    name                   = each.value
    evaluate_target_health = true
  }
}
