{{/*
What the operator may do where it serves: exactly the calls of operator/millstream_operator/cluster, verbs by alphabet.
A test runs the operator with these rights and fails on a refusal, another on a right that is not in its table.
*/}}
{{- define "millstream.rules" -}}
# Our kinds. A PipelineRun is made for an adopted Job or a run annotation, and deleted beyond the history.
- apiGroups: [millstream.dev]
  resources: [datasources, pipelineruns, pipelines, retentionpolicies, warehouses]
  verbs: [list, watch]
- apiGroups: [millstream.dev]
  resources: [pipelineruns]
  verbs: [create, delete, patch]
# A run that may start looks at its Pipeline as it is now.
- apiGroups: [millstream.dev]
  resources: [pipelines]
  verbs: [get]
- apiGroups: [millstream.dev]
  resources: [datasources/status, pipelineruns/status, pipelines/status, retentionpolicies/status, warehouses/status]
  verbs: [patch]
# Runs, probes and schedules. Server-side apply is a patch that may create.
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [create, delete, list, patch, watch]
# Plans are ConfigMaps; of others it sees the metadata at most, as its watches select by label.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, delete, list, patch, watch]
# A run's report is its pod's termination message. Pods are made by their Job, never by the operator.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Whether the Secret that a DataSource or Warehouse names is there, and its version; asked for by name, metadata only.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
