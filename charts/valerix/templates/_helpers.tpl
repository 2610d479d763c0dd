{{/* Name of every object: the release's, with the chart's unless it holds it already. */}}
{{- define "valerix.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "valerix.serviceAccount" -}}
{{ include "valerix.fullname" . }}-operator
{{- end -}}

{{/* Role of the backup runner: the operator may bind this one and no other. */}}
{{- define "valerix.backupRunner" -}}
{{ include "valerix.fullname" . }}-backup-runner
{{- end -}}

{{/* Role of the restoring runner: the operator may bind this one too, and no other. */}}
{{- define "valerix.restoreRunner" -}}
{{ include "valerix.fullname" . }}-restore-runner
{{- end -}}

{{- define "valerix.selector" -}}
app.kubernetes.io/name: valerix-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "valerix.labels" -}}
{{ include "valerix.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: valerix
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "valerix.console.name" -}}
{{ include "valerix.fullname" . }}-console
{{- end -}}

{{- define "valerix.console.selector" -}}
app.kubernetes.io/name: valerix-console
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "valerix.console.labels" -}}
{{ include "valerix.console.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: valerix
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "valerix.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "valerix.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "valerix.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "valerix.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
{{- with .Values.logLevel }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
- name: METRICS_AUTHENTICATION
  value: {{ .Values.metrics.authentication | quote }}
- name: WATCH_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: CHAOS_NAMESPACES
  value: {{ join "," .Values.chaos.namespaces | quote }}
- name: MONITORING_NAMESPACES
  value: {{ join "," .Values.monitoring.namespaces | quote }}
- name: CHAOS_MAX_DURATION
  value: {{ .Values.chaos.maxDuration | quote }}
- name: CHAOS_PROBE_URLS
  value: {{ join "," .Values.chaos.probeUrls | quote }}
- name: BACKUP_IMAGE
  value: {{ .Values.backup.image | default (printf "ghcr.io/valerix/backup:%s" .Chart.AppVersion) | quote }}
- name: GUARD_IMAGE
  value: {{ .Values.guard.image | default (printf "ghcr.io/valerix/guard:%s" .Chart.AppVersion) | quote }}
- name: BACKUP_RUNNER_CLUSTER_ROLE
  value: {{ include "valerix.backupRunner" . | quote }}
- name: RESTORE_RUNNER_CLUSTER_ROLE
  value: {{ include "valerix.restoreRunner" . | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
