# Roles of pods, by Pod Identity. Each can be assumed by one service account of this cluster alone: an
# association that somebody makes elsewhere in the account gets nothing.

locals {
  pods = {
    vpc-cni  = { namespace = "kube-system", service_account = "aws-node" }
    balancer = { namespace = "kube-system", service_account = "aws-load-balancer-controller" }
    edge     = { namespace = var.namespace, service_account = var.service_account }
  }
}

resource "aws_iam_role" "pod" {
  for_each = local.pods

  name = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Principal = { Service = "pods.eks.amazonaws.com" }
      Condition = {
        StringEquals = {
          "aws:SourceAccount"                         = local.account
          "aws:RequestTag/eks-cluster-name"           = var.name
          "aws:RequestTag/kubernetes-namespace"       = each.value.namespace
          "aws:RequestTag/kubernetes-service-account" = each.value.service_account
        }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "cni" {
  role       = aws_iam_role.pod["vpc-cni"].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonEKS_CNI_Policy"
}

resource "aws_iam_role_policy_attachment" "edge" {
  for_each = var.edge_policy_arns

  role       = aws_iam_role.pod["edge"].name
  policy_arn = each.value
}

resource "aws_iam_role_policy" "balancer" {
  name   = "balancer"
  role   = aws_iam_role.pod["balancer"].name
  policy = data.aws_iam_policy_document.balancer.json
}

# The add-on makes the association of the network plugin itself.
resource "aws_eks_pod_identity_association" "this" {
  for_each = { for pod, account in local.pods : pod => account if pod != "vpc-cni" }

  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.pod[each.key].arn
}
