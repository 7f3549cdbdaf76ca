# The example, as a person applies it who has set a domain, an administrator and a network.

mock_provider "aws" {
  source = "../../mocks"
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "../../mocks"
}

mock_provider "aws" {
  alias  = "ap_northeast_1"
  source = "../../mocks"
}

variables {
  domain    = "example.com"
  admins    = ["arn:aws:iam::111122223333:role/platform"]
  api_cidrs = ["203.0.113.0/24"]
}

run "three_regions_from_a_domain_alone" {
  assert {
    condition     = toset(keys(output.commands)) == toset(["ap-northeast-1", "eu-west-1", "us-east-1"])
    error_message = "a region is missing"
  }
  assert {
    condition     = strcontains(output.configuration, "zone_id = \"Z0000000000000EXAMPLE\"") && strcontains(output.configuration, "[names.\"www.example.com\"]")
    error_message = "the configuration does not fit what was made:\n${output.configuration}"
  }
  assert {
    condition     = alltrue([for region in keys(output.commands) : strcontains(output.configuration, "peer = \"peer.${region}.example.com:8443\"")])
    error_message = "a region has no peer in the configuration:\n${output.configuration}"
  }
}

run "edges_begin_without_the_right_to_write" {
  assert {
    condition     = keys(local.edge_policy_arns) == ["dns"] && strcontains(output.configuration, "mode = \"observe\"") && local.edge_policy_arns.dns == module.global.policy_arns["read"]
    error_message = "edges could write before anyone has watched them"
  }
}

run "somebody_may_act_and_the_token_is_where_the_configuration_looks_for_it" {
  assert {
    condition     = strcontains(output.configuration, "name = \"alice\"\ntoken_file = \"/etc/proxima-tls/operators/alice\"")
    error_message = "no operator could freeze or drain:\n${output.configuration}"
  }
  assert {
    condition = alltrue([for values in values(output.values) :
    contains(jsondecode(values).tls, { secret = "proxima-operators", files = { alice = "operators/alice" } })])
    error_message = "the operator's token is not mounted:\n${output.values["eu-west-1"]}"
  }
}

run "without_operators_no_secret_of_theirs_is_mounted" {
  variables {
    operators = []
  }

  assert {
    condition     = !strcontains(output.configuration, "[[admin.operators]]") && length(jsondecode(output.values["eu-west-1"]).tls) == 1
    error_message = "pods would wait for a Secret that nobody makes"
  }
}

run "a_name_that_is_no_key_of_a_secret_is_no_operator" {
  command = plan
  variables {
    operators = ["alice@example.com"]
  }
  expect_failures = [var.operators]
}

run "edges_read_the_bucket_only_when_asked_to" {
  variables {
    edges_read_bucket = true
  }

  assert {
    condition     = local.edge_policy_arns.config == module.global.policy_arns["config"]
    error_message = "edges that shall read their configuration there may not"
  }
  assert {
    condition     = alltrue([for values in values(output.values) : jsondecode(values).configFrom.s3 == "s3://${output.bucket}/config/proxima.toml"])
    error_message = "edges that may read their configuration there do not:\n${output.values["eu-west-1"]}"
  }
}

run "edges_archive_only_when_asked_to_and_then_have_the_right_and_a_place_to_write" {
  variables {
    edges_archive = true
  }

  assert {
    condition     = local.edge_policy_arns.archive == module.global.policy_arns["archive"] && strcontains(output.configuration, "s3 = \"s3://${output.bucket}/archive\"")
    error_message = "edges that shall archive may not, or are not told to:\n${output.configuration}"
  }
  assert {
    condition = alltrue([for values in values(output.values) :
    startswith(regex("path = \"([^\"]*)\"", output.configuration)[0], "${jsondecode(values).extraVolumeMounts[0].mountPath}/")])
    error_message = "the journal has no place where the pods may write"
  }
}

run "kubernetes_is_upgraded_from_one_region_to_the_next" {
  variables {
    kubernetes_version  = "1.35"
    kubernetes_versions = { us-east-1 = "1.36" }
  }

  assert {
    condition     = local.kubernetes_versions == { eu-west-1 = "1.35", us-east-1 = "1.36", ap-northeast-1 = "1.35" }
    error_message = "another region than the one that was named would be upgraded: ${jsonencode(local.kubernetes_versions)}"
  }
}

run "mode_and_right_to_write_change_together" {
  variables {
    edges_may_write = true
  }

  assert {
    condition     = strcontains(output.configuration, "mode = \"act\"") && local.edge_policy_arns.dns == module.global.policy_arns["edge"]
    error_message = "edges that shall act may not, or the other way round"
  }
}
