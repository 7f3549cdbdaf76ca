# The policies as files (deploy/iam) and as this module makes them are the same.

mock_provider "aws" {
  source = "../../mocks"
}

variables {
  domain  = "example.com"
  names   = { "www.example.com" = "global" }
  regions = ["us-east-1", "eu-west-1", "ap-northeast-1"]
}

run "the_module_makes_the_policies_of_deploy_iam" {
  assert {
    condition     = jsondecode(output.policies["read"]) == jsondecode(file("../../../iam/read.json"))
    error_message = "deploy/iam/read.json and the module differ:\n${output.policies["read"]}"
  }
  assert {
    condition     = jsondecode(output.policies["edge"]) == jsondecode(file("../../../iam/edge.json"))
    error_message = "deploy/iam/edge.json and the module differ:\n${output.policies["edge"]}"
  }
  assert {
    condition     = jsondecode(output.policies["operate"]) == jsondecode(file("../../../iam/operate.json"))
    error_message = "deploy/iam/operate.json and the module differ:\n${output.policies["operate"]}"
  }
  assert {
    condition     = jsondecode(output.policies["config"]) == jsondecode(file("../../../iam/config.json"))
    error_message = "deploy/iam/config.json and the module differ:\n${output.policies["config"]}"
  }
  assert {
    condition     = jsondecode(output.policies["archive"]) == jsondecode(file("../../../iam/archive.json"))
    error_message = "deploy/iam/archive.json and the module differ:\n${output.policies["archive"]}"
  }
}

run "an_edge_of_the_simple_form_writes_at_the_name_and_one_of_the_global_form_only_below_it" {
  variables {
    names = { "api.example.com" = "simple", "www.example.com" = "global" }
  }

  assert {
    condition = toset(flatten([for statement in jsondecode(output.policies["edge"]).Statement :
      statement.Condition["ForAllValues:StringEquals"]["route53:ChangeResourceRecordSetsNormalizedRecordNames"]
      if statement.Sid == "WriteRecords"])) == toset([
      "_proxima.api.example.com", "_proxima.www.example.com", "api.example.com",
      "ap-northeast-1.www.example.com", "eu-west-1.www.example.com", "us-east-1.www.example.com",
    ])
    error_message = "edges may write at other names than those that they move:\n${output.policies["edge"]}"
  }
}

run "nobody_may_upsert_and_only_the_zone_can_be_written" {
  assert {
    condition = alltrue(flatten([for policy in values(output.policies) : [for statement in jsondecode(policy).Statement :
      statement.Resource == "arn:aws:route53:::hostedzone/Z0000000000000EXAMPLE" &&
      statement.Condition["ForAllValues:StringEquals"]["route53:ChangeResourceRecordSetsActions"] == ["CREATE", "DELETE"]
    if contains(flatten([statement.Action]), "route53:ChangeResourceRecordSets")]]))
    error_message = "a policy lets records be overwritten, or those of another zone be changed"
  }
}
