{{/* The configuration file: the values' sections, and what only the chart can know. */}}
{{- define "gmsa.config" -}}
{{- $tls := "/etc/gmsa-account-provider/tls" -}}
{{- $accounts := deepCopy (.Values.config.accounts | default dict) -}}
{{- $secrets := .Values.secretNames -}}
{{- if not (or $secrets $accounts) }}{{ $secrets = list (printf "%s-creds" .Release.Name) }}{{ end -}}
{{- range $secrets }}{{ $_ := set $accounts . (dict "provider" "cluster") }}{{ end -}}
{{- $providers := deepCopy (.Values.config.providers | default dict) -}}
{{- $refersToCluster := contains `"provider":"cluster"` (toJson (list $accounts $providers)) -}}
{{- if and $refersToCluster (not (hasKey $providers "cluster")) -}}
{{- $_ := set $providers "cluster" (dict "type" "kubernetes" "namespace" (include "gmsa.namespace" .)) -}}
{{- end -}}
{{- $own := dict
  "listen" (dict "port" (.Values.port | default (ternary 0 8443 (eq .Values.mode "windows")) | int))
  "admin" (dict "port" (include "gmsa.adminPort" . | int))
  "tls" (dict
    "certificate" (printf "%s/server/tls.crt" $tls)
    "key" (printf "%s/server/tls.key" $tls)
    "clientCa" (printf "%s/ca/ca.crt" $tls))
  "providers" $providers
  "accounts" $accounts -}}
{{- if eq .Values.mode "windows" -}}
{{- $client := dict "certificate" (printf "%s/client/tls.crt" $tls) "key" (printf "%s/client/tls.key" $tls) -}}
{{- $_ := set $own "ccg" (dict
  "directory" "/var/lib/rancher/gmsa"
  "namespace" (include "gmsa.hostNamespace" .)
  "client" $client) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) -}}
{{- end }}

{{/*
The Secrets that the configuration has read with the pod's own identity, by namespace, as JSON: those of its accounts,
and those that its providers log on with.
*/}}
{{- define "gmsa.secrets" -}}
{{- $config := include "gmsa.config" . | fromYaml -}}
{{- $reads := list -}}
{{- range $name, $account := $config.accounts -}}
{{- $reads = append $reads (dict "provider" $account.provider "secret" ($account.secret | default $name)) -}}
{{- end -}}
{{- range $options := $config.providers -}}
{{- range $option := $options -}}
{{- if and (kindIs "map" $option) (hasKey (default dict $option) "account") -}}
{{- $entry := get $config.accounts $option.account | default dict -}}
{{- $secret := ternary $entry.secret "" (eq ($entry.provider | default "") $option.provider) | default $option.account -}}
{{- $reads = append $reads (dict "provider" $option.provider "secret" $secret) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $secrets := dict -}}
{{- range $reads -}}
{{- $provider := get $config.providers .provider | default dict -}}
{{- if and (eq ($provider.type | default "") "kubernetes") (not $provider.kubeconfig) -}}
{{- $known := get $secrets $provider.namespace | default list -}}
{{- $_ := set $secrets $provider.namespace (append $known .secret | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end }}

{{/* "true" where the pods need a token of their service account: for Secrets, or to log on to Vault. */}}
{{- define "gmsa.needsToken" -}}
{{- $vault := contains `"method":"kubernetes"` (.Values.config.providers | default dict | toJson) -}}
{{- if or $vault (ne (include "gmsa.secrets" .) "{}") }}true{{ else }}false{{ end -}}
{{- end }}
