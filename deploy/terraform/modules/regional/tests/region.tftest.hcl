# What a user of a region relies on.

mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name             = "proxima-eu-west-1"
  api_cidrs        = ["203.0.113.0/24"]
  admins           = ["arn:aws:iam::111122223333:role/platform"]
  edge_policy_arns = { edge = "arn:aws:iam::111122223333:policy/proxima-edge" }
}

run "a_region_stands_in_three_zones_and_loses_one_without_losing_the_way_out" {
  assert {
    condition     = toset([for subnet in aws_subnet.private : subnet.availability_zone]) == toset(["eu-west-1a", "eu-west-1b", "eu-west-1c"])
    error_message = "nodes are not in three zones"
  }
  assert {
    condition = alltrue([for slot, table in aws_route_table.private :
    one(table.route).nat_gateway_id == aws_nat_gateway.this[slot].id])
    error_message = "a zone's way out leads through another zone"
  }
  assert {
    condition     = length(output.addresses) == 3 && length(output.eip_allocations) == 3 && length(output.public_subnet_ids) == 3
    error_message = "the load balancer needs an address and a subnet in each zone"
  }
  assert {
    condition     = length(setunion([for subnet in aws_subnet.public : subnet.cidr_block], [for subnet in aws_subnet.private : subnet.cidr_block])) == 6
    error_message = "subnets overlap"
  }
}

run "one_nat_gateway_serves_all_zones_when_it_is_asked_for" {
  variables {
    nat = "one"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route_table.private) == 3 && length(output.egress_addresses) == 1
    error_message = "nat = \"one\" makes another number of gateways, or leaves a zone without a way out"
  }
}

run "only_proximas_service_account_of_this_cluster_gets_its_role" {
  assert {
    condition = jsondecode(aws_iam_role.pod["edge"].assume_role_policy).Statement[0].Condition.StringEquals == {
      "aws:SourceAccount"                         = "111122223333"
      "aws:RequestTag/eks-cluster-name"           = "proxima-eu-west-1"
      "aws:RequestTag/kubernetes-namespace"       = "proxima"
      "aws:RequestTag/kubernetes-service-account" = "proxima"
    }
    error_message = "other pods could take the role of the edges"
  }
  assert {
    condition     = aws_eks_pod_identity_association.this["edge"].namespace == "proxima" && aws_eks_pod_identity_association.this["edge"].service_account == "proxima"
    error_message = "the chart's service account gets no role"
  }
  assert {
    condition     = [for attachment in aws_iam_role_policy_attachment.edge : attachment.policy_arn] == ["arn:aws:iam::111122223333:policy/proxima-edge"]
    error_message = "edges get more than `edge_policy_arns`"
  }
}

run "a_cluster_has_what_the_chart_takes_for_granted" {
  assert {
    condition = toset(concat([aws_eks_addon.identity.addon_name, aws_eks_addon.coredns.addon_name],
    [for addon in aws_eks_addon.first : addon.addon_name])) == toset(["eks-pod-identity-agent", "kube-proxy", "vpc-cni", "coredns"])
    error_message = "pods get no roles, no network or no names"
  }
  assert {
    condition     = jsondecode(aws_eks_addon.first["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "nobody enforces the chart's NetworkPolicy"
  }
  assert {
    condition = (aws_eks_pod_identity_association.this["balancer"].namespace == "kube-system"
    && aws_eks_pod_identity_association.this["balancer"].service_account == "aws-load-balancer-controller")
    error_message = "the load balancer's controller gets no role"
  }
}

run "the_load_balancers_controller_changes_only_what_carries_this_clusters_tag" {
  assert {
    # What is new carries no tag yet; reading takes none.
    condition = alltrue([for statement in data.aws_iam_policy_document.balancer.statement :
      anytrue([for condition in statement.condition : condition.values == tolist(["proxima-eu-west-1"])])
    if !contains(["Look", "ServiceRole", "MakeGroups", "TagNewListeners"], statement.sid)])
    error_message = "it could change load balancers or security groups of others"
  }
  assert {
    condition = alltrue(flatten([for statement in data.aws_iam_policy_document.balancer.statement :
    [for action in statement.actions : strcontains(action, ":Describe")] if statement.sid == "Look"]))
    error_message = "more than reading is allowed everywhere"
  }
}

run "nodes_have_no_rights_that_a_pod_could_borrow" {
  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "pods reach the node's role by the metadata service"
  }
  assert {
    condition     = toset([for attachment in aws_iam_role_policy_attachment.node : split("/", attachment.policy_arn)[1]]) == toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])
    error_message = "nodes may do more than join and pull images"
  }
}

run "the_cluster_is_open_to_the_named_networks_and_admins_alone" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    error_message = "the API is open to others than `api_cidrs`"
  }
  assert {
    condition     = !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions && toset(keys(aws_eks_access_entry.admin)) == toset(["arn:aws:iam::111122223333:role/platform"])
    error_message = "others than `admins` administer the cluster"
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.this.arn
    error_message = "secrets are not encrypted by the own key"
  }
}

run "without_networks_the_api_is_closed_to_the_internet" {
  variables {
    api_cidrs = []
  }

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "the API can be reached from the Internet"
  }
}

run "the_whole_internet_is_no_network_to_deploy_from" {
  command = plan
  variables {
    api_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_cidrs]
}

run "a_session_is_no_admin" {
  command = plan
  variables {
    admins = ["arn:aws:sts::111122223333:assumed-role/platform/alice"]
  }
  expect_failures = [var.admins]
}

run "fewer_nodes_than_zones_are_refused" {
  command = plan
  variables {
    nodes = { min = 2, max = 9, desired = 3 }
  }
  expect_failures = [var.nodes]
}

run "a_network_too_small_for_pods_is_refused" {
  command = plan
  variables {
    cidr = "10.0.0.0/24"
  }
  expect_failures = [var.cidr]
}

run "an_old_kubernetes_is_refused" {
  command = plan
  variables {
    kubernetes_version = "1.27"
  }
  expect_failures = [var.kubernetes_version]
}

run "an_add_on_that_is_not_installed_has_no_version" {
  command = plan
  variables {
    addon_versions = { ebs = "v1" }
  }
  expect_failures = [var.addon_versions]
}
