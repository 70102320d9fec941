{{/* Labels and annotations of the pods, and what runs in them. (dict "root" ROOT "args" LIST "service" BOOLEAN) */}}
{{- define "gmsa.podSpec" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $windows := eq $values.mode "windows" -}}
{{- $secrets := include "gmsa.certificateSecrets" $root | fromJson -}}
{{- $mount := "/etc/gmsa-account-provider" -}}
serviceAccountName: {{ include "gmsa.serviceAccount" $root | toYaml }}
automountServiceAccountToken: {{ include "gmsa.needsToken" $root }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- include "gmsa.placement" $root | nindent 0 }}
{{- if $windows }}
hostNetwork: true
securityContext:
  windowsOptions:
    {{- toYaml $values.securityContext.windowsOptions | nindent 4 }}
{{- else }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- end }}
{{- if and $windows .service }}
{{- $ca := printf "%s/tls/ca/ca.crt" $mount }}
initContainers:
  {{- if not $values.certificates.allowUnconstrainedCa }}
  # The node takes the word of this CA for every server, unless its certificate says for which.
  - name: judge-ca
    image: {{ include "gmsa.image" $root | toYaml }}
    imagePullPolicy: {{ include "gmsa.pullPolicy" $root }}
    args: [check, --node-ca, {{ $ca }}]
    resources:
      {{- toYaml $values.resources | nindent 6 }}
    volumeMounts:
      - { name: ca, mountPath: {{ $mount }}/tls/ca, readOnly: true }
  {{- end }}
  - name: trust-ca
    image: {{ include "gmsa.image" $root | toYaml }}
    imagePullPolicy: {{ include "gmsa.pullPolicy" $root }}
    command:
      {{- include "gmsa.trustCa" (list $root $ca) | nindent 6 }}
    resources:
      {{- toYaml $values.resources | nindent 6 }}
    volumeMounts:
      - { name: ca, mountPath: {{ $mount }}/tls/ca, readOnly: true }
{{- end }}
containers:
  - name: gmsa-account-provider
    image: {{ include "gmsa.image" $root | toYaml }}
    imagePullPolicy: {{ include "gmsa.pullPolicy" $root }}
    args:
      {{- toYaml .args | nindent 6 }}
    env:
      - name: POD_IP
        valueFrom: { fieldRef: { fieldPath: status.podIP } }
      # Probes come from the node, metrics are read from elsewhere: not from loopback.
      - { name: GMSA_PROVIDER_ADMIN__HOST, value: $(POD_IP) }
      {{- if not $windows }}
      - { name: GMSA_PROVIDER_LISTEN__HOSTS, value: '["127.0.0.1", "$(POD_IP)"]' }
      {{- end }}
      {{- with $values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- if .service }}
    ports:
      {{- if not $windows }}
      - { name: data, containerPort: {{ $values.port | default 8443 }} }
      {{- end }}
      - { name: admin, containerPort: {{ include "gmsa.adminPort" $root }} }
    startupProbe:
      httpGet: { path: /livez, port: admin }
      periodSeconds: 2
      failureThreshold: 30
    livenessProbe:
      httpGet: { path: /livez, port: admin }
      timeoutSeconds: 5
    readinessProbe:
      httpGet: { path: /readyz, port: admin }
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    {{- if not $windows }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: { drop: [ALL] }
    {{- end }}
    resources:
      {{- toYaml $values.resources | nindent 6 }}
    volumeMounts:
      - { name: config, mountPath: {{ $mount }}/config, readOnly: true }
      {{- range $folder := keys $secrets | sortAlpha }}
      - { name: {{ $folder }}, mountPath: {{ $mount }}/tls/{{ $folder }}, readOnly: true }
      {{- end }}
      {{- with $values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: config
    configMap: { name: {{ include "gmsa.fullname" $root | toYaml }} }
  {{- range $folder, $secret := $secrets }}
  - name: {{ $folder }}
    secret:
      secretName: {{ $secret | toYaml }}
      defaultMode: 0440
      {{- if eq $folder "ca" }}
      # The private key of the CA stays out of the pod.
      items: [{ key: ca.crt, path: ca.crt }]
      {{- end }}
  {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Which nodes, with which priority, pulled how. */}}
{{- define "gmsa.placement" -}}
{{- $os := ternary "windows" "linux" (eq .Values.mode "windows") -}}
os: { name: {{ $os }} }
nodeSelector:
  {{- toYaml (merge (dict "kubernetes.io/os" $os) .Values.nodeSelector) | nindent 2 }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | toYaml }}
{{- end }}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "gmsa.pullPolicy" -}}
{{- .Values.image.imagePullPolicy | default .Values.image.pullPolicy -}}
{{- end }}

{{/* Why a host-process pod runs as it does, for those who review what runs on their nodes. */}}
{{- define "gmsa.whySystem" -}}
gmsa-account-provider/why-host-process: >-
  The CCG plug-in reads its files from the node and trusts the node's root certificates: only a host process with
  these rights can write the one and change the other.
{{- end }}

{{/*
Makes the node trust the CA of this release, and no longer those before it, by the script of the image. Without a CA:
only the latter. Not tried on Windows. (list ROOT FILE)
*/}}
{{- define "gmsa.trustCa" -}}
{{- $root := index . 0 -}}
- powershell.exe
- -NoProfile
- -NonInteractive
- -ExecutionPolicy
- Bypass
- -File
- C:/hpc/app/deploy/windows/Import-GmsaProviderCa.ps1
- -Namespace
- {{ include "gmsa.hostNamespace" $root | toYaml }}
{{- with index . 1 }}
- -Path
- {{ . }}
{{- else }}
- -Remove
{{- end }}
{{- if $root.Values.certificates.allowUnconstrainedCa }}
- -AllowUnconstrained
{{- end }}
{{- end }}
