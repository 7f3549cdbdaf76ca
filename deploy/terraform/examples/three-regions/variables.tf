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

variable "edges_may_write" {
  description = "Whether edges may change Route 53. Begin with false and dns.mode = \"observe\"; both change together."
  type        = bool
  default     = false
}

variable "edges_read_bucket" {
  description = "Whether edges may read their configuration in the bucket (`proxima run s3://...`, the chart's configFrom)."
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
  description = "Of all clusters."
  type        = string
  default     = "1.35"
}
