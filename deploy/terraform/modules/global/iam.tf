# The policies of deploy/iam, for this zone, these names and these regions: tests/policies.tftest.hcl
# fails when the two say different things.

locals {
  all     = sort(keys(var.names))
  simple  = [for name in local.all : name if var.names[name] == "simple"]
  regions = sort(tolist(var.regions))

  control = [for name in local.all : "_proxima.${name}"]
  sets    = flatten([for name in local.all : [for region in local.regions : "${region}.${name}"] if var.names[name] == "global"])

  # An edge changes weights: in the global form those of the sets below a name, in the simple form those at
  # the name. `proxima dns` also makes the latency aliases at the name.
  written = {
    edge    = concat(local.control, local.simple, local.sets)
    operate = concat(local.control, local.all, local.sets)
  }

  look = [
    {
      Sid      = "LookAtRecords"
      Effect   = "Allow"
      Action   = ["route53:GetHostedZone", "route53:ListResourceRecordSets"]
      Resource = local.zone_arn
    },
    {
      Sid      = "FollowChanges"
      Effect   = "Allow"
      Action   = "route53:GetChange"
      Resource = "arn:${local.partition}:route53:::change/*"
    },
    # This action takes no resource.
    {
      Sid      = "ListChecks"
      Effect   = "Allow"
      Action   = "route53:ListHealthChecks"
      Resource = "*"
    },
    {
      Sid      = "AskWitnesses"
      Effect   = "Allow"
      Action   = "route53:GetHealthCheckStatus"
      Resource = "arn:${local.partition}:route53:::healthcheck/*"
    },
  ]

  # Every change is a batch of DELETE and CREATE: UPSERT would overwrite what somebody else wrote.
  # "Null", since ForAllValues alone also allows a request in which the key is missing.
  write = {
    for role, names in local.written : role => {
      Sid      = "WriteRecords"
      Effect   = "Allow"
      Action   = "route53:ChangeResourceRecordSets"
      Resource = local.zone_arn
      Condition = {
        "ForAllValues:StringEquals" = {
          "route53:ChangeResourceRecordSetsActions"               = ["CREATE", "DELETE"]
          "route53:ChangeResourceRecordSetsNormalizedRecordNames" = names
          "route53:ChangeResourceRecordSetsRecordTypes"           = ["A", "AAAA", "CNAME", "TXT"]
        }
        Null = {
          "route53:ChangeResourceRecordSetsActions"               = "false"
          "route53:ChangeResourceRecordSetsNormalizedRecordNames" = "false"
          "route53:ChangeResourceRecordSetsRecordTypes"           = "false"
        }
      }
    }
  }

  # A check that is yet to be made has no name.
  checks = [
    {
      Sid      = "MakeChecks"
      Effect   = "Allow"
      Action   = "route53:CreateHealthCheck"
      Resource = "*"
    },
    {
      Sid      = "MendChecks"
      Effect   = "Allow"
      Action   = ["route53:UpdateHealthCheck", "route53:DeleteHealthCheck"]
      Resource = "arn:${local.partition}:route53:::healthcheck/*"
    },
  ]

  policies = {
    read    = { says = "Looks at Proxima's records and changes nothing: `proxima dns plan`, `show`, `verify`; edges in mode observe", statements = local.look }
    edge    = { says = "An edge in mode act: moves weights", statements = concat(local.look, [local.write.edge]) }
    operate = { says = "`proxima dns bootstrap`, `apply`, `adopt`, `remove`", statements = concat(local.look, [local.write.operate], local.checks) }
    config = {
      says = "Reads the configuration in the bucket"
      statements = [
        {
          Sid      = "ReadConfiguration"
          Effect   = "Allow"
          Action   = "s3:GetObject"
          Resource = "${aws_s3_bucket.this.arn}/config/*"
        },
        {
          Sid      = "DecryptConfiguration"
          Effect   = "Allow"
          Action   = "kms:Decrypt"
          Resource = aws_kms_key.this.arn
        },
      ]
    }
    archive = {
      says = "Stores journals and audit logs in the bucket"
      statements = [
        {
          Sid      = "WriteArchive"
          Effect   = "Allow"
          Action   = "s3:PutObject"
          Resource = "${aws_s3_bucket.this.arn}/archive/*"
        },
        {
          Sid      = "EncryptArchive"
          Effect   = "Allow"
          Action   = "kms:GenerateDataKey"
          Resource = aws_kms_key.this.arn
        },
      ]
    }
  }
}

resource "aws_iam_policy" "this" {
  #checkov:skip=CKV_AWS_289:CreateHealthCheck and ListHealthChecks take no resource; everything else names one.
  #checkov:skip=CKV_AWS_290:Writes without a bound: CreateHealthCheck alone, which IAM gives no resource; records are bound by zone, name, type and action.
  #checkov:skip=CKV_AWS_355:Any resource: the two actions above, for which IAM knows none.
  for_each = local.policies

  name        = "${var.name}-${each.key}"
  description = replace(each.value.says, "`", "'")
  policy      = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}
