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
    condition     = !contains(keys(local.edge_policy_arns), "config") && strcontains(output.configuration, "mode = \"observe\"") && local.edge_policy_arns.dns == module.global.policy_arns["read"]
    error_message = "edges could write before anyone has watched them"
  }
}

run "edges_read_the_bucket_only_when_asked_to" {
  variables {
    edges_read_bucket = true
  }

  assert {
    condition     = local.edge_policy_arns.config == module.global.policy_arns["config"]
    error_message = "edges that shall read their configuration there may not"
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
