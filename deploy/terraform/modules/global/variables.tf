variable "name" {
  description = "Begins the names of everything that is made here: the bucket, the key's alias, the IAM policies."
  type        = string
  default     = "proxima"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,25}$", var.name))
    error_message = "name: 2 to 26 of a-z, 0-9 and '-', a letter first (bucket names are made of it); such as \"proxima\"."
  }
}

variable "domain" {
  description = "The DNS name of the hosted zone, such as example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", var.domain))
    error_message = "domain: a DNS name in lower case with two labels or more and no final dot; such as \"example.com\"."
  }
}

variable "zone_id" {
  description = "The hosted zone of `domain`, if there is one already. Null: a new public zone is made."
  type        = string
  default     = null

  validation {
    condition     = var.zone_id == null || can(regex("^Z[A-Z0-9]{1,31}$", var.zone_id))
    error_message = "zone_id: as Route 53 shows it, without /hostedzone/; such as \"Z0123456789ABCDEFGHIJ\"."
  }
}

variable "names" {
  description = "The DNS names that Proxima moves, each with its form ([names] of its configuration): { \"www.example.com\" = \"global\" }. Nothing here ever makes their records: this decides what IAM lets Proxima write."
  type        = map(string)

  validation {
    condition     = length(var.names) > 0
    error_message = "names: at least one; such as { \"www.example.com\" = \"global\" }."
  }

  validation {
    condition     = alltrue([for form in values(var.names) : contains(["global", "simple"], form)])
    error_message = "names: every value must be \"global\" or \"simple\", as `form` of that name in Proxima's configuration."
  }

  validation {
    condition     = alltrue([for name in keys(var.names) : name == var.domain || endswith(name, ".${var.domain}")])
    error_message = "names: each must be the domain or below it. Names of another zone need a module of their own, with that zone's `domain`."
  }

  validation {
    condition     = alltrue([for name in keys(var.names) : can(regex("^[a-z0-9_.-]+$", name))])
    error_message = "names: lower case, of a-z, 0-9, '-', '_' and '.'; IAM compares names in that spelling."
  }

  validation {
    condition     = length(setintersection(keys(var.names), [for region in var.regions : "peer.${region}.${var.domain}"])) == 0
    error_message = "names: peer.<region>.<domain> is taken by the peer listeners; Proxima cannot move it as well."
  }
}

variable "regions" {
  description = "The regions as Proxima's configuration calls them ([regions.X]): each has a set <region>.<name> under every name."
  type        = set(string)

  validation {
    condition     = length(var.regions) > 0
    error_message = "regions: at least one; such as [\"eu-west-1\"]."
  }

  validation {
    condition     = alltrue([for region in var.regions : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", region))])
    error_message = "regions: each a DNS label in lower case, since it is one in <region>.<name>; such as \"eu-west-1\"."
  }
}

variable "peers" {
  description = "Addresses of the peer listener of each region: peer.<region>.<domain> leads to them. Proxima does not move these."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue([for region in keys(var.peers) : contains(var.regions, region)])
    error_message = "peers: every key must be one of `regions`."
  }
}

variable "aliases" {
  description = "Further names that shall lead wherever a moved name leads, such as { \"example.com\" = \"www.example.com\" }. Route 53 takes an alias only once its target is there: set this after `proxima dns bootstrap`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for target in values(var.aliases) : contains(keys(var.names), target)])
    error_message = "aliases: every value must be one of `names`."
  }

  validation {
    condition = length(setintersection(keys(var.aliases), setunion(
      keys(var.names),
      flatten([for name in keys(var.names) : [for region in var.regions : "${region}.${name}"]]),
      [for region in var.regions : "peer.${region}.${var.domain}"],
    ))) == 0
    error_message = "aliases: no key may be a name that Proxima moves, one of its sets (<region>.<name>) or a peer listener: two would write one record."
  }

  validation {
    condition     = alltrue([for name in keys(var.aliases) : name == var.domain || endswith(name, ".${var.domain}")])
    error_message = "aliases: every key must be the domain or below it."
  }
}

variable "archive_days" {
  description = "Days after which what lies under archive/ in the bucket is deleted."
  type        = number
  default     = 90

  validation {
    condition     = var.archive_days >= 1 && var.archive_days == floor(var.archive_days)
    error_message = "archive_days: a whole number of days, 1 or more."
  }
}

variable "bucket_force_destroy" {
  description = "Whether `terraform destroy` deletes the bucket with everything in it. Leave it false outside of trials."
  type        = bool
  default     = false
}
