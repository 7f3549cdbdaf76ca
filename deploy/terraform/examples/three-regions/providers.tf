# Credentials come by AWS's usual chain (AWS_PROFILE, …). One provider a region: Terraform wants them by name.

locals {
  tags = { application = "proxima", made-by = "deploy/terraform" }
}

provider "aws" {
  region = "eu-west-1"

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "ap_northeast_1"
  region = "ap-northeast-1"

  default_tags {
    tags = local.tags
  }
}
