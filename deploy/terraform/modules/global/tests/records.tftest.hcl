# Terraform and Proxima never write the same record.

mock_provider "aws" {
  source = "../../mocks"
}

variables {
  domain  = "example.com"
  names   = { "www.example.com" = "global", "api.example.com" = "simple" }
  regions = ["eu-west-1", "us-east-1"]
  peers   = { eu-west-1 = ["203.0.113.10"], us-east-1 = ["203.0.113.20"] }
  aliases = { "example.com" = "www.example.com" }
}

run "no_record_of_terraform_is_one_that_proxima_moves" {
  assert {
    condition = length(setintersection(
      output.moved_by_proxima,
      concat([for record in aws_route53_record.peer : record.name], [for record in aws_route53_record.alias : record.name]),
    )) == 0
    error_message = "Terraform would write a record of Proxima's: ${jsonencode(output.moved_by_proxima)}"
  }
  assert {
    condition     = toset([for record in aws_route53_record.peer : record.name]) == toset(["peer.eu-west-1.example.com", "peer.us-east-1.example.com"])
    error_message = "peer listeners have other names than `peer` in the configuration says"
  }
  assert {
    condition     = alltrue([for record in aws_route53_record.alias : record.alias[0].evaluate_target_health])
    error_message = "an alias onto a moved name must follow its health"
  }
}

run "a_zone_that_exists_is_used_and_not_made_again" {
  variables {
    zone_id = "Z0123456789EXISTING"
  }

  assert {
    condition     = length(aws_route53_zone.this) == 0 && output.zone_id == "Z0123456789EXISTING" && length(output.name_servers) == 0
    error_message = "there would be a second zone of the name; its name servers are not those of the registrar"
  }
}

run "the_bucket_is_private_encrypted_versioned_and_kept" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "the bucket could be made public"
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == output.key_arn
    error_message = "the bucket is not encrypted by the key"
  }
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled" && !aws_s3_bucket.this.force_destroy
    error_message = "a version of the configuration could be lost"
  }
  assert {
    condition     = aws_kms_key.this.enable_key_rotation
    error_message = "the key is never rotated"
  }
}

run "a_name_outside_of_the_domain_is_refused" {
  command = plan
  variables {
    names   = { "www.example.org" = "global" }
    aliases = {}
  }
  expect_failures = [var.names]
}

run "a_form_that_proxima_does_not_know_is_refused" {
  command = plan
  variables {
    names   = { "www.example.com" = "weighted" }
    aliases = {}
  }
  expect_failures = [var.names]
}

run "an_alias_at_a_moved_name_is_refused" {
  command = plan
  variables {
    aliases = { "www.example.com" = "api.example.com" }
  }
  expect_failures = [var.aliases]
}

run "an_alias_at_a_set_of_a_moved_name_is_refused" {
  command = plan
  variables {
    aliases = { "eu-west-1.www.example.com" = "api.example.com" }
  }
  expect_failures = [var.aliases]
}

run "a_moved_name_at_a_peer_listener_is_refused" {
  command = plan
  variables {
    names   = { "peer.eu-west-1.example.com" = "simple", "www.example.com" = "global" }
    aliases = {}
  }
  expect_failures = [var.names]
}

run "a_domain_with_a_final_dot_is_refused" {
  command = plan
  variables {
    domain  = "example.com."
    names   = { "www.example.com" = "global" }
    aliases = {}
  }
  expect_failures = [var.domain]
}

run "a_zone_id_with_its_path_is_refused" {
  command = plan
  variables {
    zone_id = "/hostedzone/Z0123456789"
  }
  expect_failures = [var.zone_id]
}

run "peers_of_no_region_are_refused" {
  command = plan
  variables {
    peers = { eu-central-1 = ["203.0.113.10"] }
  }
  expect_failures = [var.peers]
}
