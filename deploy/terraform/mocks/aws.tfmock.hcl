# What the mocked provider of `terraform test` answers where random words would not do: ids and ARNs that
# the provider itself checks, and those that deploy/iam/*.json names.

mock_data "aws_iam_policy_document" {
  defaults = { json = "{}" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_region" {
  defaults = { name = "eu-west-1" }
}

mock_data "aws_availability_zones" {
  defaults = { names = ["eu-west-1c", "eu-west-1a", "eu-west-1b"] }
}

mock_resource "aws_route53_zone" {
  defaults = { zone_id = "Z0000000000000EXAMPLE", name_servers = ["ns-1.awsdns-1.org"] }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::proxima-111122223333", id = "proxima-111122223333" }
}

mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000" }
}

mock_resource "aws_iam_policy" {
  defaults = { arn = "arn:aws:iam::111122223333:policy/mocked" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::111122223333:role/mocked" }
}

mock_resource "aws_launch_template" {
  defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
}

mock_resource "aws_vpc" {
  defaults = { arn = "arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef0" }
}
