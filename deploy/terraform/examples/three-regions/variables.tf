variable "domain" {
  description = "The domain, such as example.com. Everything else but `admins` and `api_cidrs` has a default."
  type        = string
}

variable "zone_id" {
  description = "Its hosted zone, if there is one already. Null: one is made."
  type        = string
  default     = null
}

variable "names" {
  description = "The names that Proxima moves, with their form. Null: { \"www.<domain>\" = \"global\" }."
  type        = map(string)
  default     = null
}

variable "aliases" {
  description = "Names that lead wherever a moved one leads, such as { \"example.com\" = \"www.example.com\" }. Only after `proxima dns bootstrap`."
  type        = map(string)
  default     = {}
}

variable "admins" {
  description = "ARNs of the IAM roles or users that administer the clusters."
  type        = set(string)
}

variable "api_cidrs" {
  description = "Networks from which the clusters' APIs are reached."
  type        = list(string)
}

variable "operators" {
  description = "Who may drain, freeze and override (docs/failover.md). Each one's token is in the Secret proxima-operators, under the name."
  type        = set(string)
  default     = ["alice"]

  validation {
    condition     = alltrue([for name in var.operators : can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$", name))])
    error_message = "operators: names of files and keys of a Secret, of letters, digits, '_', '.' and '-'; such as [\"alice\"]."
  }
}

variable "edges_may_write" {
  description = "Whether edges may change Route 53. Begin with false and dns.mode = \"observe\"; both change together."
  type        = bool
  default     = false
}

variable "edges_read_bucket" {
  description = "Whether edges read their configuration in the bucket: the right to, and configFrom.s3 in the values of the chart."
  type        = bool
  default     = false
}

variable "edges_archive" {
  description = "Whether edges keep a decision journal and an audit log, and store them in the bucket: the right to, [journal], [audit], [archive], and a volume."
  type        = bool
  default     = false
}

variable "nat" {
  description = "\"per_zone\" or \"one\" NAT gateway in all (cheaper)."
  type        = string
  default     = "per_zone"
}

variable "instance_types" {
  description = "Of the nodes."
  type        = list(string)
  default     = ["m7i.large"]
}

variable "nodes" {
  description = "Nodes of each region."
  type        = object({ min = number, max = number, desired = number })
  default     = { min = 3, max = 9, desired = 3 }
}

variable "kubernetes_version" {
  description = "Of all clusters, but for those in `kubernetes_versions`."
  type        = string
  default     = "1.35"
}

variable "kubernetes_versions" {
  description = "By region, where it is another than `kubernetes_version`: an upgrade goes from one region to the next."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.kubernetes_versions), local.regions)) == 0
    error_message = "kubernetes_versions: every key must be one of the regions; such as { us-east-1 = \"1.36\" }."
  }
}
