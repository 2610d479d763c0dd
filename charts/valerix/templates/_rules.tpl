{{/*
What the operator may do in the namespaces that it works in: every verb stands here because a line of the operator uses it.
No wildcard, no Secrets, no write to a pod but its nudge annotation.
*/}}
{{- define "valerix.rules" -}}
# The kinds themselves: read and followed; never created, changed or deleted but where named below.
- apiGroups: [resilience.valerix.io]
  resources: [resilientservices, chaosexperiments, backuppolicies, backups]
  verbs: [get, list, watch]
# The finalizer of an experiment stands from the recorded intent until its fault is read back as gone.
- apiGroups: [resilience.valerix.io]
  resources: [chaosexperiments]
  verbs: [patch]
# The record of a day's slot is created ahead of its run; one that an earlier policy of the name left unused makes room.
- apiGroups: [resilience.valerix.io]
  resources: [backups]
  verbs: [create, delete]
# Status is the operator's to write.
- apiGroups: [resilience.valerix.io]
  resources: [resilientservices/status, chaosexperiments/status, backuppolicies/status, backups/status]
  verbs: [get, patch]
# Owner references with blockOwnerDeletion, where the API server enforces the permission.
- apiGroups: [resilience.valerix.io]
  resources: [resilientservices/finalizers, backuppolicies/finalizers]
  verbs: [update]
# Children of a service and of a backup: applied (create, patch), pruned (delete), watched for drift.
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
# A backup by hand is a Job from the CronJob's template; a failed one of the same day is removed first.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [batch]
  resources: [cronjobs/finalizers]
  verbs: [update]
# The runner's right to report into its record.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# Pods are read for their state and age, and for why one does not start.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# The nudge annotation only; the ValidatingAdmissionPolicy of this chart refuses anything else.
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
# Ready pods and their addresses.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# Events: created, and patched when they repeat.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
