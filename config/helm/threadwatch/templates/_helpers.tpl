{{- define "threadwatch.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "threadwatch.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "threadwatch.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "threadwatch.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "threadwatch.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "threadwatch.selector" -}}
app.kubernetes.io/name: {{ include "threadwatch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "threadwatch.labels" -}}
{{ include "threadwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: {{ include "threadwatch.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "threadwatch.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "threadwatch.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "threadwatch.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "threadwatch.priorityClass" -}}
{{- .Values.priorityClassName | default (ternary (include "threadwatch.fullname" .) "" .Values.priorityClass.create) }}
{{- end }}

{{- /* An endpoint of a PodMonitor or a ServiceMonitor: how it is asked, and what its series are called. */ -}}
{{- define "threadwatch.endpoint" -}}
- port: {{ .portName }}
  {{- with .monitor.scheme }}
  scheme: {{ . }}
  {{- end }}
  {{- with .monitor.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .monitor.scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with .monitor.basicAuth }}
  basicAuth:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .monitor.tlsConfig }}
  tlsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  relabelings:
    # The node's name is the instance, so series go on when the daemon's pod is replaced.
    - action: replace
      sourceLabels: [__meta_kubernetes_pod_node_name]
      targetLabel: instance
    # The job that alerts and dashboards expect.
    - action: replace
      targetLabel: job
      replacement: threadwatch
    # These would be the daemon's own, and new with each of its pods.
    - action: labeldrop
      regex: namespace|pod|container|endpoint|service
    {{- with .monitor.relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .monitor.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* What PodMonitor and ServiceMonitor share besides. */ -}}
{{- define "threadwatch.monitored" -}}
selector:
  matchLabels:
    {{- include "threadwatch.selector" .root | nindent 4 }}
namespaceSelector:
  matchNames: [{{ include "threadwatch.namespace" .root }}]
{{- with .monitor.attachMetadata }}
attachMetadata:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.podTargetLabels }}
podTargetLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.sampleLimit }}
sampleLimit: {{ . | int64 }}
{{- end }}
{{- end }}
