resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:Flow logs cost by the gigabyte of an edge's traffic; the access log tells more of it. Whoever must have them adds aws_flow_log for the vpc_id that this module gives out.
  cidr_block           = var.cidr
  enable_dns_hostnames = true
  enable_dns_support   = true

  tags = { Name = var.name }
}

# Nothing uses it; without rules nothing can by mistake.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

# Load balancers and NAT gateways. Nothing gets a public address by itself.
resource "aws_subnet" "public" {
  for_each = local.slots

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.value
  cidr_block              = cidrsubnet(var.cidr, 3, tonumber(each.key))
  map_public_ip_on_launch = false

  # The AWS Load Balancer Controller finds its subnets by this tag.
  tags = { Name = "${var.name}-public-${each.value}", "kubernetes.io/role/elb" = "1" }
}

# Nodes and pods.
resource "aws_subnet" "private" {
  for_each = local.slots

  vpc_id            = aws_vpc.this.id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.cidr, 3, 4 + tonumber(each.key))

  tags = { Name = "${var.name}-private-${each.value}", "kubernetes.io/role/internal-elb" = "1" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this.id
  }

  tags = { Name = "${var.name}-public" }
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

locals {
  nat_slots = var.nat == "per_zone" ? local.slots : { "0" = local.slots["0"] }
}

resource "aws_eip" "nat" {
  #checkov:skip=CKV2_AWS_19:Held by the NAT gateway below; the check only knows instances.
  for_each = local.nat_slots

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.value}" }
}

resource "aws_nat_gateway" "this" {
  for_each = local.nat_slots

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.value}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route_table" "private" {
  for_each = local.slots

  vpc_id = aws_vpc.this.id

  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.this[var.nat == "per_zone" ? each.key : "0"].id
  }

  tags = { Name = "${var.name}-private-${each.value}" }
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[each.key].id
}

# Images come from S3 through ECR: not by the NAT gateways, which cost by the gigabyte.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]

  tags = { Name = "${var.name}-s3" }
}

# What DNS leads to: one address a zone. They are held here, so that they outlive the load balancer,
# the cluster and every reinstallation: no record has to follow.
resource "aws_eip" "edge" {
  #checkov:skip=CKV2_AWS_19:Held by the load balancer that the chart's Service makes (aws-load-balancer-eip-allocations).
  for_each = local.slots

  domain = "vpc"

  tags = { Name = "${var.name}-edge-${each.value}" }
}
