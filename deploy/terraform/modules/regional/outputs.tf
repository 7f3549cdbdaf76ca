output "addresses" {
  description = "What DNS leads to: `addresses` of [regions.X] in Proxima's configuration."
  value       = [for slot in sort(keys(local.slots)) : aws_eip.edge[slot].public_ip]
}

output "eip_allocations" {
  description = "For the chart's Service: the annotation aws-load-balancer-eip-allocations."
  value       = [for slot in sort(keys(local.slots)) : aws_eip.edge[slot].allocation_id]
}

output "egress_addresses" {
  description = "Where this region's probes and forwarded requests come from, for other regions' firewalls."
  value       = [for slot in sort(keys(local.nat_slots)) : aws_eip.nat[slot].public_ip]
}

output "public_subnet_ids" {
  description = "For the chart's Service: the annotation aws-load-balancer-subnets, in the order of the addresses."
  value       = [for slot in sort(keys(local.slots)) : aws_subnet.public[slot].id]
}

output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "vpc_cidr" {
  description = "Where PROXY headers of the load balancer come from: `trusted` of the listeners."
  value       = aws_vpc.this.cidr_block
}

output "cluster_name" {
  description = "The cluster."
  value       = aws_eks_cluster.this.name
}

output "edge_role_arn" {
  description = "The role of Proxima's pods, associated with their service account."
  value       = aws_iam_role.pod["edge"].arn
}

output "commands" {
  description = "What comes next in this region: the context of kubectl, and the AWS Load Balancer Controller."
  value       = <<-SH
    aws eks update-kubeconfig --region ${local.region} --name ${aws_eks_cluster.this.name} --alias ${aws_eks_cluster.this.name}
    helm upgrade --install aws-load-balancer-controller aws-load-balancer-controller --repo https://aws.github.io/eks-charts --version 1.17.1 \
      --kube-context ${aws_eks_cluster.this.name} --namespace kube-system --wait \
      --set clusterName=${aws_eks_cluster.this.name} --set region=${local.region} --set vpcId=${aws_vpc.this.id} \
      --set serviceAccount.name=aws-load-balancer-controller \
      --set enableShield=false --set enableWaf=false --set enableWafv2=false
  SH
}
