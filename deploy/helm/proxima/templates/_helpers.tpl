{{- define "proxima.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "proxima.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "proxima.labels" -}}
{{ include "proxima.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "proxima.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "proxima.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: with `create: false`, name one that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "proxima.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end }}

{{/* Where the configuration is, as `proxima run` and every other command take it. */}}
{{- define "proxima.place" -}}
{{- default "/etc/proxima/proxima.toml" .Values.configFrom.s3 -}}
{{- end }}

{{/* Where a process is. */}}
{{- define "proxima.placeEnv" -}}
- { name: PROXIMA_REGION, value: {{ .Values.region | quote }} }
{{- with .Values.zone.fromLabel }}
{{- range $.Values.extraEnv }}
{{- if eq (toString .name) "PROXIMA_ZONE" }}{{- fail "zone.fromLabel: extraEnv has PROXIMA_ZONE, too; leave one of the two out" }}{{- end }}
{{- end }}
# Empty where the pod has no such label, which counts as not set.
- { name: PROXIMA_ZONE, valueFrom: { fieldRef: { fieldPath: {{ printf "metadata.labels['%s']" . | quote }} } } }
{{- end }}
{{- end }}

{{/* Where AWS is asked, and as whom. */}}
{{- define "proxima.awsEnv" -}}
{{- $facts := include "proxima.facts" . | fromJson -}}
- { name: AWS_REGION, value: {{ .Values.region | quote }} }
- { name: AWS_STS_REGIONAL_ENDPOINTS, value: regional }
{{- if not (or $facts.instance $facts.node) }}
# Nothing is left to the instance, neither the zone nor credentials, so nothing may ask it.
- { name: AWS_EC2_METADATA_DISABLED, value: "true" }
{{- end }}
{{- if eq .Values.aws.identity "secret" }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: { secretKeyRef: { name: {{ required "aws.secretName: say which secret holds the keys" $.Values.aws.secretName }}, key: {{ . }} } }
{{- end }}
{{- end }}
{{- end }}

{{/* The volume of `tls`: (list root optional). Where it is optional a secret that is not there leaves its files out. */}}
{{- define "proxima.tlsVolume" -}}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      {{- range (index . 0).Values.tls }}
      - secret:
          name: {{ .secret }}
          {{- if index $ 1 }}
          optional: true
          {{- end }}
          {{- with .files }}
          items:
            {{- range $key, $path := . }}
            - { key: {{ $key | quote }}, path: {{ $path | quote }} }
            {{- end }}
          {{- end }}
      {{- end }}
{{- end }}

{{/* Of every container: nothing but the process itself. */}}
{{- define "proxima.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: { drop: ["ALL"] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* Seconds of a duration such as "5s" or "2m"; the default where there is none. (dict "text" … "default" …) */}}
{{- define "proxima.seconds" -}}
{{- $text := default .default .text -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h)$" $text) -}}
{{- fail (printf "config: %q is no duration; write a whole number and a unit, such as \"20s\"" $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" $text | atoi -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- if eq $unit "ms" -}}{{- div (add $number 999) 1000 -}}
{{- else -}}{{- mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit) -}}
{{- end -}}
{{- end }}

{{/* Port names are 15 characters at most; listeners' names are not. */}}
{{- define "proxima.portName" -}}
{{- if regexMatch "^[a-z]([a-z0-9-]{0,13}[a-z0-9])?$" .name -}}{{ .name }}{{- else -}}{{ printf "listener-%d" .index }}{{- end -}}
{{- end }}

{{- define "proxima.probe" -}}
{{- $facts := index . 0 -}}
path: {{ index . 1 }}
port: admin
{{- if $facts.admin.tls }}
scheme: HTTPS
{{- end }}
{{- if $facts.admin.loopback }}
host: 127.0.0.1
{{- end }}
{{- end }}
