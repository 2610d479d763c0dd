{{- define "shop.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: valerix-shop
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The image of a role: call with (list $ "order"). */}}
{{- define "shop.image" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}
{{- index $root.Values.images $role | default (printf "ghcr.io/valerix/%s:%s" $role $root.Chart.AppVersion) -}}
{{- end -}}

{{/* The port of a service: call with (list $ "order"). */}}
{{- define "shop.port" -}}
{{- (index ((index . 0).Files.Get "services.yaml" | fromYaml) (index . 1)).port -}}
{{- end -}}

{{/* A password: the one that stands in the cluster, else a new one. Call with (list $ secretName key). */}}
{{- define "shop.password" -}}
{{- $root := index . 0 -}}
{{- $secret := lookup "v1" "Secret" $root.Release.Namespace (index . 1) -}}
{{- if and $secret $secret.data (index $secret.data (index . 2)) -}}
{{- index $secret.data (index . 2) | b64dec -}}
{{- else -}}
{{- randAlphaNum 32 -}}
{{- end -}}
{{- end -}}

{{/* A password inside a URL. A space is %20 there, and + is itself. */}}
{{- define "shop.inUrl" -}}
{{- . | urlquery | replace "+" "%20" -}}
{{- end -}}

{{/* The variable that holds a database's password. A name of a variable has no hyphen. */}}
{{- define "shop.passwordVariable" -}}
{{- . | upper | replace "-" "_" -}}_PASSWORD
{{- end -}}

{{- define "shop.podSecurity" -}}
runAsNonRoot: true
runAsUser: 999
runAsGroup: 999
fsGroup: 999
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "shop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Probes of every service of the shop. */}}
{{- define "shop.probes" -}}
startup: {path: /health}
readiness: {path: /ready}
liveness: {path: /health}
{{- end -}}

{{/* Environment that every service shares: call with (list $ "order"). */}}
{{- define "shop.env" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ $service }}-database, key: url}}
- name: LOG_FORMAT
  value: json
- name: RUST_LOG
  value: {{ $root.Values.logLevel | quote }}
{{- end -}}

{{- define "shop.redisEnv" -}}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: redis, key: url}}
- name: REDIS_STREAM_MAX_ENTRIES
  value: {{ .Values.redis.streamMaxEntries | int | quote }}
{{- end -}}
