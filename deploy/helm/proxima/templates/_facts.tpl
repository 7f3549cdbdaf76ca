{{/*
What the chart reads from the configuration, as JSON: `tcp` (listeners, [peer] last, each with name, port, protocol and proxy),
`admin` (port, loopback, tls), `external` (the load balancer's port by listener), `notice`, `deadline` and `grace` (seconds), `low`
(a port below 1024), `restart` (settings that a reload does not take), `kubernetes` (null without [kubernetes]; namespaces whose
EndpointSlices are read, and the lease), `instance` (whether the zone is left to the instance's metadata; the region is always said), `node`
(whether credentials are). Refuses what cannot work, before anything is applied.
*/}}
{{- define "proxima.facts" -}}
{{- $config := include "proxima.text" . | fromToml -}}
{{- if hasKey $config "Error" -}}{{- fail (printf "%s is not TOML: %s" (.Values.configFrom.s3 | empty | ternary "config" "configFrom.outline") $config.Error) -}}{{- end -}}
{{- $region := required "region: say which of [regions] this cluster is in" .Values.region -}}
{{- if not (hasKey (default dict $config.regions) $region) -}}
{{- fail (printf "region: %q is none of [regions] of the configuration: %s" $region (keys (default dict $config.regions) | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $tcp := list -}}
{{- range $config.listeners -}}
{{- if not (hasPrefix "unix:" .address) -}}
{{- $tcp = append $tcp (dict "name" .name "port" (include "proxima.port" .address | atoi) "protocol" (default "http" .protocol) "proxy" (default false .proxy_protocol)) -}}
{{- end -}}
{{- end -}}
{{- if not $tcp -}}{{- fail "config: no [[listeners]] that listens at a port" -}}{{- end -}}
{{- with $config.peer -}}
{{- $tcp = append $tcp (dict "name" "peer" "port" (include "proxima.port" .address | atoi) "protocol" "peer" "proxy" false) -}}
{{- end -}}
{{- $address := default "127.0.0.1:9901" (default dict $config.admin).address -}}
{{- $admin := dict "port" (include "proxima.port" $address | atoi) "loopback" (regexMatch "^(127\\.|\\[::1\\])" $address) "tls" (hasKey (default dict $config.admin) "tls") -}}
{{- if and $admin.loopback (ne .Values.network "hostNetwork") -}}
{{- fail (printf "config: admin.address is %q, where the kubelet's probes cannot reach it; set [admin] address = \"0.0.0.0:%d\" (the NetworkPolicy keeps others out)" $address (int $admin.port)) -}}
{{- end -}}
{{- if and (eq .Values.network "hostNetwork") (not $admin.loopback) -}}
{{- fail (printf "config: admin.address is %q, and with `network: hostNetwork` no NetworkPolicy holds: set [admin] address = \"127.0.0.1:%d\"" $address (int $admin.port)) -}}
{{- end -}}
{{- $low := false -}}
{{- range append $tcp $admin -}}{{- if lt (int .port) 1024 -}}{{- $low = true -}}{{- end -}}{{- end -}}
{{- if and $low (eq .Values.network "hostNetwork") -}}
{{- fail "config: a listener's port is below 1024, which `network: hostNetwork` would need NET_BIND_SERVICE and root for; listen at 8080 and let the load balancer or `network: hostPort` give it 80" -}}
{{- end -}}
{{- $notice := include "proxima.seconds" (dict "text" (default dict $config.edge).drain_notice "default" "5s") | atoi -}}
{{- $deadline := include "proxima.seconds" (dict "text" (default dict $config.edge).drain_deadline "default" "20s") | atoi -}}
{{- $sum := add $notice $deadline -}}
{{- $grace := add $sum 10 -}}
{{- if not (kindIs "invalid" .Values.terminationGracePeriodSeconds) -}}
{{- $grace = int .Values.terminationGracePeriodSeconds -}}
{{- if le (int $grace) (int $sum) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is not above edge.drain_notice + edge.drain_deadline (%d s + %d s): requests would be cut off; leave it out, or set %d" (int $grace) $notice $deadline (add $sum 10)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.service.enabled (lt $notice (int .Values.service.noticeSeconds)) -}}
{{- fail (printf "config: edge.drain_notice is %d s, but the load balancer sends new connections for up to service.noticeSeconds (%d s) to a pod that is leaving: set drain_notice = \"%ds\"" $notice (int .Values.service.noticeSeconds) (int .Values.service.noticeSeconds)) -}}
{{- end -}}
{{- $outside := dict -}}
{{- range .Values.extraEnv -}}{{- $_ := set $outside (toString .name) (toString (default "" .value)) -}}{{- end -}}
{{- $node := eq (default (toString (default dict $config.aws).credentials) $outside.PROXIMA_AWS_CREDENTIALS) "node" -}}
{{- if eq .Values.aws.identity "none" -}}
{{- /* The bucket is read before its text can say anything. */ -}}
{{- if and .Values.configFrom.s3 (ne (default "" $outside.PROXIMA_AWS_CREDENTIALS) "node") -}}
{{- fail "aws.identity: the configuration is in a bucket, which needs credentials: podIdentity, irsa or secret (or PROXIMA_AWS_CREDENTIALS=node in extraEnv, if the node's own role is meant)" -}}
{{- end -}}
{{- range list "dns" "archive" -}}
{{- if and (hasKey $config .) (not $node) -}}
{{- fail (printf "aws.identity: the configuration has [%s], which needs credentials: podIdentity, irsa or secret (or credentials = \"node\" in [aws], if the node's own role is meant)" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $facts := dict "tcp" $tcp "admin" $admin "low" $low "notice" $notice "deadline" $deadline "grace" $grace -}}
{{- $_ := set $facts "external" (include "proxima.external" (dict "tcp" $tcp "ports" .Values.service.ports) | fromJson) -}}
{{- $fixed := list -}}
{{- range $config.listeners -}}{{- $fixed = append $fixed (pick . "name" "address" "protocol") -}}{{- end -}}
{{- $_ := set $facts "restart" (dict "listeners" $fixed "peer" (default dict $config.peer).address "admin" $address "journal" $config.journal) -}}
{{- $_ := set $facts "kubernetes" (include "proxima.kubernetes" (dict "config" $config "release" .Release.Namespace) | fromJson).is -}}
{{- $_ := set $facts "instance" (eq (default (toString (default dict $config.edge).zone) $outside.PROXIMA_ZONE) "imds") -}}
{{- $_ := set $facts "node" $node -}}
{{- toJson $facts -}}
{{- end }}

{{/*
The text that the facts are read from. With `configFrom.s3` the pods run what is in the bucket, which no template can read: the chart
then goes by `configFrom.outline`, and what only a text in the chart can do is refused.
*/}}
{{- define "proxima.text" -}}
{{- $from := .Values.configFrom -}}
{{- if $from.s3 -}}
{{- if .Values.config -}}{{- fail "config: the pods run either this text or what is at configFrom.s3; leave one of the two out (as configFrom.outline the chart reads the text, and no pod runs it)" -}}{{- end -}}
{{- if eq .Values.onConfigChange "restart" -}}{{- fail "onConfigChange: what is at configFrom.s3 changes without Helm, and edges follow it by themselves: leave it at reload" -}}{{- end -}}
{{- required "configFrom.outline: give the text that is at configFrom.s3, by --set-file configFrom.outline=proxima.toml; the chart reads ports, drain times and rights from it" $from.outline -}}
{{- else -}}
{{- if $from.outline -}}{{- fail "configFrom.outline: only with configFrom.s3; the text that the pods run is `config`" -}}{{- end -}}
{{- if .Values.stateDir.hostPath -}}{{- fail "stateDir.hostPath: only with configFrom.s3; there is no last good configuration to keep otherwise" -}}{{- end -}}
{{- required "config: give the text of proxima.toml, by --set-file config=proxima.toml, or say where it is by configFrom.s3" .Values.config -}}
{{- end -}}
{{- end }}

{{/* What is asked of the API server: (dict "config" … "release" its namespace) -> { is: null, or namespaces and lease }. */}}
{{- define "proxima.kubernetes" -}}
{{- $is := "" -}}
{{- if hasKey .config "kubernetes" -}}
{{- $section := .config.kubernetes -}}
{{- if $section.kubeconfig -}}{{- fail "config: kubernetes.kubeconfig: in a pod the service account is the way to the API; leave it out" -}}{{- end -}}
{{- if ne (default .release $section.namespace) .release -}}
{{- fail (printf "config: kubernetes.namespace is %q, but the pods are in %q; leave it out" $section.namespace .release) -}}
{{- end -}}
{{- $namespaces := list -}}
{{- range $_, $service := .config.services -}}
{{- with $service.kubernetes -}}{{- $namespaces = append $namespaces (splitList "/" . | first) -}}{{- end -}}
{{- end -}}
{{- $is = dict "namespaces" ($namespaces | uniq | sortAlpha) "lease" $section.lease -}}
{{- end -}}
{{- dict "is" $is | toJson -}}
{{- end }}

{{/* The port of "0.0.0.0:8080" or "[::]:8080". */}}
{{- define "proxima.port" -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
{{- if not $port -}}{{- fail (printf "config: %q has no port" .) -}}{{- end -}}
{{- $port -}}
{{- end }}

{{/* The load balancer's port by the listener's name. */}}
{{- define "proxima.external" -}}
{{- $external := dict -}}
{{- $names := list -}}
{{- range .tcp -}}{{- $names = append $names .name -}}{{- end -}}
{{- range $name, $port := .ports -}}
{{- if not (has $name $names) -}}{{- fail (printf "service.ports: %q is no listener of the configuration that has a port: %s" $name (join ", " $names)) -}}{{- end -}}
{{- $_ := set $external $name $port -}}
{{- end -}}
{{- if not .ports -}}
{{- $taken := list -}}
{{- range .tcp -}}
{{- $port := get (dict "http" 80 "https" 443 "peer" .port) .protocol -}}
{{- if not (has (int $port) $taken) -}}{{- $taken = append $taken (int $port) -}}{{- $_ := set $external .name (int $port) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $external -}}
{{- end }}
