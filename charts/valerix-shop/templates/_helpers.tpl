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

{{/* The Secret of the key that two services share: call with (list "order" "payment"). */}}
{{- define "shop.callKey" -}}
call-{{ index . 0 }}-{{ index . 1 }}
{{- end -}}

{{/* The variable that holds such a key in a pod: call with the other service's name. */}}
{{- define "shop.callKeyVariable" -}}
CALL_KEY_{{ . | upper | replace "-" "_" }}
{{- end -}}

{{/* Environment that follows from a service's row in services.yaml: call with (list $ "order"). */}}
{{- define "shop.env" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
{{- $services := $root.Files.Get "services.yaml" | fromYaml -}}
{{- $facts := index $services $service -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: LOG_FORMAT
  value: json
- name: RUST_LOG
  value: {{ $root.Values.logLevel | quote }}
{{- with $root.Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $root.Values.tracing.sample | quote }}
{{- end }}
- name: AUTH_URL
  value: http://auth.{{ $root.Release.Namespace }}.svc
{{- if $facts.database }}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ $service }}-database, key: url}}
{{- end }}
{{- if $facts.bus }}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: redis, key: url}}
- name: REDIS_STREAM_MAX_ENTRIES
  value: {{ $root.Values.redis.streamMaxEntries | int | quote }}
{{- end }}
{{- with $facts.calls }}
{{- $pairs := list }}
{{- range . }}
- name: {{ include "shop.callKeyVariable" . }}
  valueFrom: {secretKeyRef: {name: {{ include "shop.callKey" (list $service .) }}, key: key}}
{{- $pairs = append $pairs (printf "%s=$(%s)" . (include "shop.callKeyVariable" .)) }}
{{- end }}
- name: CALL_KEYS
  value: {{ join "," $pairs }}
{{- end }}
{{- $callers := list }}
{{- range $caller, $row := $services }}
{{- if has $service ($row.calls | default list) }}
- name: {{ include "shop.callKeyVariable" $caller }}
  valueFrom: {secretKeyRef: {name: {{ include "shop.callKey" (list $caller $service) }}, key: key}}
{{- $callers = append $callers (printf "%s=$(%s)" $caller (include "shop.callKeyVariable" $caller)) }}
{{- end }}
{{- end }}
{{- with $callers }}
- name: CALLER_KEYS
  value: {{ join "," . }}
{{- end }}
{{- end -}}

{{/* The target auth, whose keys every service reads; the gateway has its own words for it. It is asked so seldom that one
answer has to close its circuit. */}}
{{- define "shop.authTarget" -}}
- name: auth
  url: http://auth.{{ .Release.Namespace }}.svc
  timeout: {request: 2s, attempt: 1s, connect: 250ms}
  circuitBreaker: {consecutiveFailures: 5, openDuration: 5s, maxOpenDuration: 10s, halfOpenPermits: 1}
{{- end -}}

{{/* Who may reach a service's pods, as peers of a NetworkPolicy: whoever calls it or passes requests on to it, whoever reads
its keys or its metrics. Call with (list $ "order"). */}}
{{- define "shop.admitted" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
{{- range $caller, $row := $root.Files.Get "services.yaml" | fromYaml }}
{{- if and (ne $caller $service) (or (eq $service "auth") (has $service (concat ($row.calls | default list) ($row.forwards | default list)))) }}
{{ include "shop.pods" $caller }}
{{- end }}
{{- end }}
{{- if $root.Values.monitoring.prometheus.enabled }}
- podSelector: {matchLabels: {app.kubernetes.io/name: prometheus, app.kubernetes.io/instance: {{ $root.Release.Name }}}}
{{- end }}
{{- with $root.Values.networkPolicies.scrapers }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A service's pods as a peer of a NetworkPolicy. */}}
{{- define "shop.pods" -}}
- podSelector: {matchLabels: {resilience.valerix.io/service: {{ . }}}}
{{- end -}}

{{/* A ResilientService: call with (list $ "order" "<more environment>" "<resilience: inbound, targets>"), the last two as
text of YAML. */}}
{{- define "shop.service" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
{{- $resilience := index . 3 | fromYaml -}}
{{- $targets := concat ($resilience.targets | default list) (has $service (list "auth" "gateway") | ternary list (include "shop.authTarget" $root | fromYamlArray)) -}}
apiVersion: resilience.valerix.io/v1alpha1
kind: ResilientService
metadata:
  name: {{ $service }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "shop.labels" $root | nindent 4 }}
spec:
  image: {{ include "shop.image" (list $root $service) }}
  imagePullPolicy: {{ $root.Values.imagePullPolicy }}
  replicas: {{ (index $root.Values $service).replicas }}
  ports: [{name: http, containerPort: {{ include "shop.port" (list $root $service) }}, servicePort: 80}]
  probes:
    startup: {path: /health}
    readiness: {path: /ready}
    liveness: {path: /health}
  resources: {{- toYaml $root.Values.resources | nindent 4 }}
  chaos: {admission: {{ $root.Values.chaos.admission }}}
  {{- /* The gateway has none: it is there for everybody. */}}
  {{- if and $root.Values.networkPolicies.enabled (ne $service "gateway") }}
  networkPolicy:
    ingressFrom: {{- include "shop.admitted" (list $root $service) | trim | nindent 6 }}
  {{- end }}
  # The chart's PodMonitor asks all of them.
  monitoring: {mode: None}
  podAnnotations: {prometheus.io/scrape: "true", prometheus.io/port: "9090", prometheus.io/path: /metrics}
  env:
    {{- include "shop.env" (list $root $service) | nindent 4 }}
    {{- with index . 2 }}
    {{- . | trim | nindent 4 }}
    {{- end }}
  {{- if or $resilience.inbound $targets }}
  resilience:
    {{- with $resilience.inbound }}
    inbound: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $targets }}
    targets: {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Full, Redis refuses what is new and goes on handing out what it has. Half of the container's memory is left for the copy
that is made while the log is written anew, which begins at the latest when it has doubled. */}}
{{- define "shop.redisArguments" -}}
[--dir, /data, --appendonly, "yes", --auto-aof-rewrite-percentage, "100", --maxmemory, 128mb, --maxmemory-policy, noeviction, --requirepass, $(REDIS_PASSWORD)]
{{- end -}}

{{/* Refuses a server that would begin beside the data of the one before it: call with (list $ "redis"). Claims that are on
their way out hold nothing any more: they go with the server that still uses them. */}}
{{- define "shop.sameServer" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
{{- $values := index $root.Values $name -}}
{{- $namespace := $root.Release.Namespace -}}
{{- $bare := printf "data-%s-0" $name -}}
{{- $wanted := ternary $name $bare $values.guarded -}}
{{- $other := ternary $bare $name $values.guarded -}}
{{- if $values.enabled -}}
{{- $found := list -}}
{{- range (lookup "v1" "PersistentVolumeClaim" $namespace "").items -}}
{{- if not .metadata.deletionTimestamp -}}{{- $found = append $found .metadata.name -}}{{- end -}}
{{- end -}}
{{- if has $other $found -}}
{{- $standing := lookup (ternary "apps/v1" "resilience.valerix.io/v1alpha1" $values.guarded) (ternary "StatefulSet" "ResilientService" $values.guarded) $namespace $name -}}
{{- if or $standing (not (has $wanted $found)) -}}
{{- fail (printf "%s.guarded=%t would leave the data behind: what is there lies on the claim %s of namespace %s, and is not moved. Set %s.guarded=%t, or delete that claim with all that it holds" $name $values.guarded $other $namespace $name (not $values.guarded)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a guarded Redis or PostgreSQL keeps: call with (list $ "redis"). */}}
{{- define "shop.claim" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "shop.labels" $root | nindent 4 }}
  # As the claim of a StatefulSet: data goes when somebody says so, and not with a value that was forgotten.
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: {{ (index $root.Values $name).storage }}}}
{{- end -}}

{{/* The beginning of a Redis or PostgreSQL as a ResilientService, which experiments take away by its guard: call with
(list $ "redis" 6379). */}}
{{- define "shop.foundation" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
apiVersion: resilience.valerix.io/v1alpha1
kind: ResilientService
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "shop.labels" $root | nindent 4 }}
spec:
  image: {{ include "shop.image" (list $root $name) }}
  imagePullPolicy: {{ $root.Values.imagePullPolicy }}
  replicas: 1
  # Two would write to one volume.
  strategy: {type: Recreate}
  ports: [{name: {{ $name }}, containerPort: {{ index . 2 }}}]
  guard: {mode: Sidecar, inbound: {ports: [{name: {{ $name }}, protocol: TCP}]}}
  chaos: {admission: {{ $root.Values.chaos.admission }}}
  monitoring: {mode: None}
  securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999}
  terminationGracePeriodSeconds: 30
  lifecycle: {preStopSleep: 0s}
  {{- if $root.Values.networkPolicies.enabled }}
  networkPolicy:
    ingressFrom: {{- include (printf "shop.%sUsers" $name) $root | trim | nindent 6 }}
  {{- end }}
{{- end -}}

{{/* Who may reach Redis, as peers of a NetworkPolicy. The gateway keeps the limits there that its replicas share. */}}
{{- define "shop.redisUsers" -}}
{{- range $service, $facts := .Files.Get "services.yaml" | fromYaml }}
{{- if or $facts.bus (eq $service "gateway") }}
{{ include "shop.pods" $service }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Who may reach PostgreSQL, as peers of a NetworkPolicy. */}}
{{- define "shop.postgresUsers" -}}
{{- range $service, $facts := .Files.Get "services.yaml" | fromYaml }}
{{- if $facts.database }}
{{ include "shop.pods" $service }}
{{- end }}
{{- end }}
# Makes the databases at each install and upgrade.
- podSelector: {matchLabels: {app.kubernetes.io/name: databases, app.kubernetes.io/instance: {{ .Release.Name }}}}
# Backups and restores; a trial restore asks no database.
- podSelector:
    matchExpressions:
      - {key: resilience.valerix.io/policy, operator: Exists}
      - {key: app.kubernetes.io/component, operator: NotIn, values: [trial-restore]}
- podSelector: {matchExpressions: [{key: resilience.valerix.io/restore, operator: Exists}]}
{{- end -}}
