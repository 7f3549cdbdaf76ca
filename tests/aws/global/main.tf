# The module that all regions share, applied to the stand-in for AWS by tests/aws/test_global.py.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

variable "endpoint" {
  type = string
}

variable "aliases" {
  type    = map(string)
  default = {}
}

provider "aws" {
  region                      = "eu-west-1"
  s3_use_path_style           = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  skip_credentials_validation = true

  endpoints {
    iam     = var.endpoint
    kms     = var.endpoint
    route53 = var.endpoint
    s3      = var.endpoint
    sts     = var.endpoint
  }
}

module "global" {
  source = "../../../deploy/terraform/modules/global"

  domain  = "example.com"
  names   = { "www.example.com" = "global" }
  regions = ["eu-west-1", "us-east-1"]
  peers   = { eu-west-1 = ["203.0.113.10"], us-east-1 = ["203.0.113.20"] }
  aliases = var.aliases

  bucket_force_destroy = true
}

output "zone_id" {
  value = module.global.zone_id
}

output "bucket" {
  value = module.global.bucket
}

output "policies" {
  value = module.global.policies
}
