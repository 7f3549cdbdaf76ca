# What the AWS Load Balancer Controller needs for Services of type LoadBalancer, and no more: nothing of
# Ingress, WAF, Shield, Cognito and ACM. What exists it may change only where it carries this cluster's tag.

locals {
  balancers = "arn:${local.partition}:elasticloadbalancing:${local.region}:${local.account}"
  groups    = "arn:${local.partition}:ec2:${local.region}:${local.account}:security-group/*"
  own_tag   = "elbv2.k8s.aws/cluster"
}

data "aws_iam_policy_document" "balancer" {
  #checkov:skip=CKV_AWS_356:Only the statement "Look" has no resource: Describe actions of EC2 and Elastic Load Balancing take none.
  #checkov:skip=CKV_AWS_111:Writes are bound to this cluster's tag; a security group's VPC and CreateSecurityGroup know no tag yet.
  statement {
    sid = "Look"
    actions = [
      "ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeAvailabilityZones",
      "ec2:DescribeInstances", "ec2:DescribeInternetGateways", "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeTags",
      "ec2:DescribeVpcs", "ec2:DescribeVpcPeeringConnections",
      "elasticloadbalancing:DescribeCapacityReservation", "elasticloadbalancing:DescribeListenerAttributes",
      "elasticloadbalancing:DescribeListenerCertificates", "elasticloadbalancing:DescribeListeners",
      "elasticloadbalancing:DescribeLoadBalancerAttributes", "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeSSLPolicies",
      "elasticloadbalancing:DescribeTags", "elasticloadbalancing:DescribeTargetGroupAttributes",
      "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "ServiceRole"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/elasticloadbalancing.amazonaws.com/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["elasticloadbalancing.amazonaws.com"]
    }
  }

  statement {
    sid       = "MakeGroups"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = [local.groups, aws_vpc.this.arn]
  }

  statement {
    sid       = "TagNewGroups"
    actions   = ["ec2:CreateTags"]
    resources = [local.groups]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateSecurityGroup"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.own_tag}"
      values   = [var.name]
    }
  }

  statement {
    sid = "ChangeOwnGroups"
    actions = [
      "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags", "ec2:DeleteSecurityGroup", "ec2:DeleteTags",
      "ec2:RevokeSecurityGroupIngress",
    ]
    resources = [local.groups]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.own_tag}"
      values   = [var.name]
    }
  }

  # The nodes' group is EKS's: the controller opens it to its load balancers.
  statement {
    sid       = "OpenNodes"
    actions   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
    resources = [local.groups]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/aws:eks:cluster-name"
      values   = [var.name]
    }
  }

  statement {
    sid       = "MakeBalancers"
    actions   = ["elasticloadbalancing:AddTags", "elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"]
    resources = ["${local.balancers}:loadbalancer/net/*", "${local.balancers}:targetgroup/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.own_tag}"
      values   = [var.name]
    }
  }

  statement {
    sid = "ChangeOwnBalancers"
    actions = [
      "elasticloadbalancing:AddTags", "elasticloadbalancing:CreateListener", "elasticloadbalancing:DeleteListener",
      "elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteTargetGroup",
      "elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:ModifyListener",
      "elasticloadbalancing:ModifyListenerAttributes", "elasticloadbalancing:ModifyLoadBalancerAttributes",
      "elasticloadbalancing:ModifyTargetGroup", "elasticloadbalancing:ModifyTargetGroupAttributes",
      "elasticloadbalancing:RegisterTargets", "elasticloadbalancing:RemoveTags",
      "elasticloadbalancing:SetIpAddressType", "elasticloadbalancing:SetSecurityGroups",
      "elasticloadbalancing:SetSubnets",
    ]
    resources = ["${local.balancers}:loadbalancer/net/*", "${local.balancers}:targetgroup/*", "${local.balancers}:listener/net/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.own_tag}"
      values   = [var.name]
    }
  }

  # A listener's tags come with it.
  statement {
    sid       = "TagNewListeners"
    actions   = ["elasticloadbalancing:AddTags"]
    resources = ["${local.balancers}:listener/net/*"]

    condition {
      test     = "StringEquals"
      variable = "elasticloadbalancing:CreateAction"
      values   = ["CreateListener"]
    }
  }
}
