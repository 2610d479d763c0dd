{{/*
Generated from the tables in operator/src/rights.rs; change those and run `make generate`.
Every verb stands here because a line of the operator uses it.
No wildcard, no Secrets, no write to a pod but its nudge annotation.
*/}}
{{/* Granted to the operator, in every namespace that it works in. */}}
{{- define "valerix.rules" -}}
# the caches of the kinds
- apiGroups: [resilience.valerix.io]
  resources: [resilientservices, chaosexperiments, backuppolicies, backups, restores]
  verbs: [get, list, watch]
# chaos_experiment: the finalizer from intent to recovery
- apiGroups: [resilience.valerix.io]
  resources: [chaosexperiments]
  verbs: [patch]
# backup_policy/apply: the finalizer of one whose archives go with it; drain takes it away
- apiGroups: [resilience.valerix.io]
  resources: [backuppolicies]
  verbs: [patch]
# backup_policy/apply: the record of a slot, ahead of its run; an unused one of an earlier policy of the name makes room; one whose archive was removed goes with it
- apiGroups: [resilience.valerix.io]
  resources: [backups]
  verbs: [create, delete]
# runtime/publish
- apiGroups: [resilience.valerix.io]
  resources: [resilientservices/status, chaosexperiments/status, backuppolicies/status, backups/status, restores/status]
  verbs: [get, patch]
# owner references with blockOwnerDeletion, where the API server enforces the permission
- apiGroups: [resilience.valerix.io]
  resources: [resilientservices/finalizers, backuppolicies/finalizers, restores/finalizers]
  verbs: [update]
# resilient_service/apply: children; chaos_experiment: the key faults.json
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/apply: the workload
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/apply: who decides how many pods there are
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/apply: how many pods may be evicted at a time
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/apply: who may talk to the pods; backup_policy/apply: whom a trial restore may talk to
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/apply: who scrapes the pods, where the cluster knows the kind
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/rollout: which template is the current one
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
# backup_policy/apply: one per policy
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
# backup_policy: a run by hand, the day's run after one that failed, and the end of the archives of a deleted policy; restore/apply: one per Restore, and one that drops what it replaced
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# backup_policy: a Job by hand is owned by the CronJob
- apiGroups: [batch]
  resources: [cronjobs/finalizers]
  verbs: [update]
# backup_policy/apply and restore/apply: the runner reports into its record or its Restore
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# resilient_service/rollout: why one does not start; chaos_experiment: age and state of targets
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# resilient_service/nudge: one annotation, fenced by the chart's ValidatingAdmissionPolicy
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
# resilient_service/dereference: ready pods and their addresses
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# backup_policy/apply and restore/apply: a Job says in its events only why it has no pod; resilient_service/mounts: a pod, what its volumes lack
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# runtime/events: a repeated event is patched
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{/* Granted to the operator, in its own namespace beside those of a watched one. */}}
{{- define "valerix.rules.own" -}}
# runtime/leader: taken and renewed by update, watched by a standby
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [valerix-operator]
  verbs: [get, list, watch, update]
# runtime/leader: the first one; what does not exist yet has no name to be restricted to
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# chaos_experiment: the switch that stops every experiment is read; drain writes and lifts it
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [valerix-safety]
  verbs: [get, patch, delete]
# drain: the switch, where there is none
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
# drain: waits for the operator's last pod
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# drain: the labels of the operator's pods
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [{{ include "valerix.serviceAccount" . }}]
  verbs: [get]
# drain: the operator ends before its rights are removed
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [{{ include "valerix.serviceAccount" . }}]
  verbs: [patch]
{{- end }}
{{/* Granted to the operator, in the namespaces that are listed for experiments. */}}
{{- define "valerix.rules.chaos" -}}
# chaos_experiment: podKill evicts, here and nowhere else
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# chaos_experiment: podKill with method Delete, here and nowhere else
- apiGroups: [""]
  resources: [pods]
  verbs: [delete]
{{- end }}
{{/* Granted to the operator, cluster-wide in both forms, because a Role cannot grant it. */}}
{{- define "valerix.rules.cluster" -}}
# runtime/definition: whether the cluster knows ServiceMonitors, which the Prometheus operator brings
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [servicemonitors.monitoring.coreos.com]
  verbs: [get, list, watch]
# backup_policy/going: a finalizer goes in a namespace whose Role is deleted with it, and where the operator does not work any more
- apiGroups: [resilience.valerix.io]
  resources: [backuppolicies]
  verbs: [get, list, watch, patch]
# backup_policy/going: whether a refusal is that of a namespace that is being deleted
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# backup_policy/apply: handed on to the Job of a backup
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: [{{ include "valerix.backupRunner" . }}]
  verbs: [bind]
# restore/apply: handed on to the Job of a Restore
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: [{{ include "valerix.restoreRunner" . }}]
  verbs: [bind]
{{- end }}
{{/* Granted to the operator, cluster-wide, where metrics.authentication is true. */}}
{{- define "valerix.rules.scrapers" -}}
# runtime/scrapers: whose token it is that asks for the metrics
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
# runtime/scrapers: whether that one may read them
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end }}
{{/* Granted to the Job of a backup, not to the operator. */}}
{{- define "valerix.rules.backupRunner" -}}
# the runner reads its record
- apiGroups: [resilience.valerix.io]
  resources: [backups]
  verbs: [get]
# the runner takes the fence and reports
- apiGroups: [resilience.valerix.io]
  resources: [backups/status]
  verbs: [get, patch]
{{- end }}
{{/* Granted to the Job of a Restore, not to the operator. */}}
{{- define "valerix.rules.restoreRunner" -}}
# the runner reads its Restore
- apiGroups: [resilience.valerix.io]
  resources: [restores]
  verbs: [get]
# the runner takes the Restore over and reports
- apiGroups: [resilience.valerix.io]
  resources: [restores/status]
  verbs: [get, patch]
{{- end }}
