variable "name" {
  description = "Names the cluster and begins the names of everything around it; one for each region, since IAM's names are the account's."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name: 2 to 31 of a-z, 0-9 and '-', a letter first; such as \"proxima-eu-west-1\"."
  }
}

variable "cidr" {
  description = "Addresses of the VPC. Different in each region if they are ever to be joined."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr: an IPv4 network of /16 to /20 (it is cut into eight subnets, and every pod has an address); such as \"10.10.0.0/16\"."
  }
}

variable "zones" {
  description = "In how many availability zones."
  type        = number
  default     = 3

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "zones: 2 or 3. EKS needs two; the subnets are cut for three."
  }
}

variable "nat" {
  description = "\"per_zone\": a NAT gateway in each zone. \"one\": one in all; cheaper, and its zone takes every node's way out with it (probes of other regions and Route 53 among it)."
  type        = string
  default     = "per_zone"

  validation {
    condition     = contains(["per_zone", "one"], var.nat)
    error_message = "nat: \"per_zone\" or \"one\"."
  }
}

variable "kubernetes_version" {
  description = "Of the cluster. Raised one minor version at a time."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.(2[89]|[3-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version: \"1.28\" or newer, without a patch; such as \"1.35\"."
  }
}

variable "api_cidrs" {
  description = "Networks that may reach the cluster's API from outside of the VPC. Empty: nobody, only from within."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.api_cidrs : can(cidrhost(cidr, 0))])
    error_message = "api_cidrs: each a network, such as \"203.0.113.0/24\" or \"203.0.113.7/32\"."
  }

  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0")
    error_message = "api_cidrs: not the whole Internet. Name the networks that you deploy from."
  }
}

variable "admins" {
  description = "ARNs of the IAM roles or users that may do everything in the cluster. Besides them nobody may, not even who made it."
  type        = set(string)

  validation {
    condition     = length(var.admins) > 0
    error_message = "admins: at least one, or nobody can install anything in the cluster."
  }

  validation {
    condition     = alltrue([for arn in var.admins : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "admins: each the ARN of an IAM role or user, such as \"arn:aws:iam::111122223333:role/platform\" (of a role, not of one of its sessions)."
  }
}

variable "instance_types" {
  description = "Of the nodes; all of the same architecture as `ami_type` and as the image."
  type        = list(string)
  default     = ["m7i.large"]

  validation {
    condition     = length(var.instance_types) > 0
    error_message = "instance_types: at least one; such as [\"m7i.large\"]."
  }
}

variable "ami_type" {
  description = "The nodes' system."
  type        = string
  default     = "AL2023_x86_64_STANDARD"

  validation {
    condition     = contains(["AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD", "BOTTLEROCKET_x86_64", "BOTTLEROCKET_ARM_64"], var.ami_type)
    error_message = "ami_type: AL2023_x86_64_STANDARD, AL2023_ARM_64_STANDARD, BOTTLEROCKET_x86_64 or BOTTLEROCKET_ARM_64."
  }
}

variable "nodes" {
  description = "How many nodes: at least, at most, and to begin with. There is one edge on each."
  type = object({
    min     = number
    max     = number
    desired = number
  })
  default = { min = 3, max = 9, desired = 3 }

  validation {
    condition     = var.nodes.min >= 1 && var.nodes.min <= var.nodes.desired && var.nodes.desired <= var.nodes.max
    error_message = "nodes: 1 <= min <= desired <= max."
  }

  validation {
    condition     = var.nodes.min >= var.zones
    error_message = "nodes: min must be at least `zones`, so that an edge is in every zone."
  }
}

variable "addon_versions" {
  description = "Versions of EKS add-ons, where another than EKS's default for the cluster's version is wanted; such as { coredns = \"v1.12.1-eksbuild.2\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for addon in keys(var.addon_versions) : contains(["vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent"], addon)])
    error_message = "addon_versions: of vpc-cni, kube-proxy, coredns and eks-pod-identity-agent."
  }
}

variable "edge_policy_arns" {
  description = "What Proxima's pods may do: policy ARNs by a name of one's own, such as { edge = module.global.policy_arns.edge }."
  type        = map(string)

  validation {
    condition     = length(var.edge_policy_arns) > 0
    error_message = "edge_policy_arns: at least one; such as { read = module.global.policy_arns.read } while dns.mode is \"observe\"."
  }
}

variable "namespace" {
  description = "Where the chart is installed."
  type        = string
  default     = "proxima"
}

variable "service_account" {
  description = "The service account of Proxima's pods."
  type        = string
  default     = "proxima"
}

variable "log_days" {
  description = "How long the control plane's logs are kept, in days."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_days)
    error_message = "log_days: one of CloudWatch's: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}
