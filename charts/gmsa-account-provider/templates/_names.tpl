{{/* A name cut to a length, with a hash where something was cut off: two long names stay two. (list NAME LENGTH) */}}
{{- define "gmsa.fit" -}}
{{- $name := index . 0 | replace "." "-" -}}
{{- $length := index . 1 -}}
{{- if gt (len $name) $length -}}
{{- $name = printf "%s-%s" ($name | trunc (sub $length 9 | int) | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{- define "gmsa.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end }}

{{/* The name of the release's objects, of 50 characters at most: it gets suffixes. */}}
{{- define "gmsa.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- include "gmsa.fit" (list (.Values.fullnameOverride | default $full) 50) -}}
{{- end }}

{{/* Never `default`, unless it is named: every other pod of the namespace would read the Secrets too. */}}
{{- define "gmsa.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}{{ include "gmsa.fullname" . }}
{{- else }}{{ fail "serviceAccount.name is needed where serviceAccount.create is false: one that no other pod runs as" }}
{{- end -}}
{{- end }}

{{/* (list ROOT COMPONENT). The name is the chart's, whatever nameOverride says: alerts know the job by it. */}}
{{- define "gmsa.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name | toYaml }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "gmsa.labels" -}}
{{- $root := index . 0 -}}
{{ include "gmsa.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name, namespace and labels of an object. (list ROOT COMPONENT SUFFIX) */}}
{{- define "gmsa.metadata" -}}
{{- $root := index . 0 -}}
name: {{ printf "%s%s" (include "gmsa.fullname" $root) (index . 2) | toYaml }}
namespace: {{ include "gmsa.namespace" $root | toYaml }}
labels:
  {{- include "gmsa.labels" (list $root (index . 1)) | nindent 2 }}
{{- end }}

{{- define "gmsa.registry" -}}
{{- with .Values.global.cattle.systemDefaultRegistry }}{{ . }}/{{ end -}}
{{- end }}

{{/* Rancher's image is another program: its values file means ours. */}}
{{- define "gmsa.image" -}}
{{- $image := .Values.image -}}
{{- if eq $image.repository "rancher/gmsa-account-provider" }}{{ $image = dict "repository" .Chart.Name }}{{ end -}}
{{- include "gmsa.registry" . }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{/* Secrets of certificates by the folder they are mounted in, as JSON. */}}
{{- define "gmsa.certificateSecrets" -}}
{{- $given := .Values.certificates -}}
{{- $name := include "gmsa.fullname" . -}}
{{- $secrets := dict
  "ca" ($given.caSecretName | default (printf "%s-ca" $name))
  "server" ($given.serverSecretName | default (printf "%s-server" $name)) -}}
{{- if eq .Values.mode "windows" -}}
{{- $_ := set $secrets "client" ($given.clientSecretName | default (printf "%s-client" $name)) -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end }}

{{/* Two releases share a node in windows mode: each gets an admin port of its own. */}}
{{- define "gmsa.adminPort" -}}
{{- $own := 9464 -}}
{{- if eq .Values.mode "windows" -}}
{{- $own = add 20000 (mod (printf "%s/%s" (include "gmsa.namespace" .) .Release.Name | adler32sum | int64) 10000) -}}
{{- end -}}
{{- .Values.adminPort | default $own -}}
{{- end }}

{{/* The folder of the host files, and the first part of PluginInput. */}}
{{- define "gmsa.hostNamespace" -}}
{{- $own := printf "%s-%s" (include "gmsa.namespace" .) .Release.Name -}}
{{- .Values.ccg.namespace | default (include "gmsa.fit" (list $own 63)) -}}
{{- end }}
