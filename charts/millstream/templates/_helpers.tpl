{{/* Names, labels, images, and what several templates ask. */}}

{{- define "millstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "millstream.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "millstream.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "millstream.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "millstream.selectorLabels" -}}
app.kubernetes.io/name: {{ include "millstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "millstream.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "millstream.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: millstream
{{- end }}

{{/* An image: (list <image values> <root>) */}}
{{- define "millstream.image" -}}
{{- $image := index . 0 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default (index . 1).Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "millstream.serviceAccountName" -}}
{{- default (ternary (include "millstream.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{/* What the service accounts of runs are called, where they are made. */}}
{{- define "millstream.runnerName" -}}
{{- default (printf "%s-runner" (include "millstream.fullname" .)) .Values.runner.serviceAccount.name }}
{{- end }}

{{/* What pods of runs name unless their Pipeline names another: only one that exists wherever a Pipeline may be. */}}
{{- define "millstream.runnerServiceAccount" -}}
{{- if .Values.runner.serviceAccount.create -}}
{{- ternary (include "millstream.runnerName" .) "default" (not (empty .Values.watchNamespaces)) }}
{{- else -}}
{{- default "default" .Values.runner.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Where they are made, as a JSON list. */}}
{{- define "millstream.runnerNamespaces" -}}
{{- default .Values.watchNamespaces .Values.runner.namespaces | uniq | toJson }}
{{- end }}

{{/* What the schema cannot say: values that exclude each other. */}}
{{- define "millstream.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection) }}
{{- fail (printf "replicas is %d and leaderElection false: all of them would work at once; set leaderElection true or replicas 1" (int .Values.replicas)) }}
{{- end }}
{{- if eq (int .Values.health.port) (int .Values.metrics.port) }}
{{- fail (printf "health.port and metrics.port are both %d; set two different ports" (int .Values.health.port)) }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled: a ServiceMonitor selects a Service" }}
{{- end }}
{{- if and .Values.watchNamespaces .Values.runner.serviceAccount.create }}
{{- $made := include "millstream.runnerNamespaces" . | fromJsonArray }}
{{- range .Values.watchNamespaces }}
{{- if not (has . $made) }}
{{- fail (printf "runner.namespaces lacks '%s' of watchNamespaces: pods there would name a service account that does not exist; add it, or leave runner.namespaces empty" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
