{{- define "vidgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "vidgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "vidgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "vidgate.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vidgate.selector" -}}
app.kubernetes.io/name: {{ include "vidgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vidgate.labels" -}}
{{ include "vidgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "vidgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "vidgate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "vidgate.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "vidgate.secretName" -}}
{{ .Values.secret.existingSecret | default (include "vidgate.fullname" .) }}
{{- end -}}

{{- define "vidgate.scales" -}}
{{- if or (gt (int .Values.replicaCount) 1) .Values.autoscaling.enabled .Values.autoscaling.keda.enabled -}}true{{- end -}}
{{- end -}}

{{- define "vidgate.volume" -}}
{{- if and .Values.persistence.enabled (or (eq .Values.database.kind "sqlite") (not .Values.artifacts.url)) -}}true{{- end -}}
{{- end -}}

{{- /* The most replicas there can be: what the gateway has to know is whether it is alone. */ -}}
{{- define "vidgate.replicasMax" -}}
{{- if or .Values.autoscaling.enabled .Values.autoscaling.keda.enabled -}}
{{ max (int .Values.autoscaling.maxReplicas) (int .Values.replicaCount) }}
{{- else -}}
{{ int .Values.replicaCount }}
{{- end -}}
{{- end -}}

{{- define "vidgate.simulators" -}}
{{ printf "%s-simulators" (include "vidgate.fullname" .) }}
{{- end -}}

{{- /* The configuration file: what the chart derives from its values, under what .Values.config says. */ -}}
{{- define "vidgate.config" -}}
{{- $replicas := include "vidgate.replicasMax" . | int -}}
{{- $server := dict "host" "0.0.0.0" "port" 8080 "replicas" $replicas "drain_s" .Values.drainSeconds -}}
{{- if .Values.publicBaseUrl -}}
{{- $_ := set $server "public_base_url" .Values.publicBaseUrl -}}
{{- end -}}
{{- $store := ternary (printf "${%s}" .Values.database.urlKey) "sqlite:////var/lib/vidgate/vidgate.db" (eq .Values.database.kind "postgresql") -}}
{{- $artifacts := .Values.artifacts.url | default "/var/lib/vidgate/artifacts" -}}
{{- $derived := dict "server" $server "store" (dict "url" $store) "artifacts" (dict "url" $artifacts) "security" (dict "signing_secret" "${VIDGATE_SIGNING_SECRET}") -}}
{{- if .Values.redis.enabled -}}
{{- $_ := set $derived "bus" (dict "url" (printf "${%s}" .Values.redis.urlKey)) -}}
{{- end -}}
{{- if .Values.metrics.tokenKey -}}
{{- $_ := set $derived "telemetry" (dict "metrics_token" (printf "${%s}" .Values.metrics.tokenKey)) -}}
{{- end -}}
{{- if .Values.priceBook -}}
{{- $_ := set $derived "money" (dict "price_book" "/etc/vidgate/prices.yaml") -}}
{{- end -}}
{{- if .Values.simulators.enabled -}}
{{- $host := include "vidgate.simulators" . -}}
{{- $simulated := tpl (.Files.Get "files/simulated-providers.yaml") (dict "host" $host "Template" $.Template) | fromYaml -}}
{{- $derived = mustMergeOverwrite $derived $simulated -}}
{{- end -}}
{{- with include "vidgate.gpu.workers" . -}}
{{- $local := dict "workers" (fromYamlArray .) "token" (printf "${%s}" $.Values.gpuWorker.tokenKey) -}}
{{- $derived = mustMergeOverwrite $derived (dict "providers" (dict "local" $local)) -}}
{{- end -}}
{{- mustMergeOverwrite $derived (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{- /* The files of /etc/vidgate, for a configuration. */ -}}
{{- define "vidgate.files" -}}
vidgate.yaml: |
  {{- .config | nindent 2 }}
{{- with .root.Values.priceBook }}
prices.yaml: |
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What a series of this release has, by the labels that the Prometheus operator gives: the job is the service's name
by a ServiceMonitor, the namespace and the name by a PodMonitor. */ -}}
{{- define "vidgate.series" -}}
namespace="{{ .Release.Namespace }}",job=~"({{ .Release.Namespace }}/)?{{ include "vidgate.fullname" . }}"
{{- end -}}

{{- define "vidgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "vidgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* What every container of the gateway's image has: configuration, secrets, and places to write. */ -}}
{{- define "vidgate.containerBase" -}}
image: {{ include "vidgate.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "vidgate.containerSecurity" . | nindent 2 }}
env:
  - {name: VIDGATE_CONFIG, value: /etc/vidgate/vidgate.yaml}
  - {name: HOME, value: /tmp}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
envFrom:
  - secretRef: {name: {{ include "vidgate.secretName" . }}}
volumeMounts:
  - {name: config, mountPath: /etc/vidgate, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if include "vidgate.volume" . }}
  - {name: data, mountPath: /var/lib/vidgate}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* Where any pod of the chart may run. */ -}}
{{- define "vidgate.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "vidgate.volumes" -}}
- name: config
  configMap: {name: {{ include "vidgate.fullname" . }}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if include "vidgate.volume" . }}
- name: data
  persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim | default (include "vidgate.fullname" .) }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What cannot work is refused here, with the sentence that mends it. */ -}}
{{- define "vidgate.checks" -}}
{{- if and (include "vidgate.scales" .) (ne .Values.database.kind "postgresql") -}}
{{- fail "more than one replica needs PostgreSQL: set database.kind to postgresql, or replicaCount to 1 without autoscaling" -}}
{{- end -}}
{{- if and (include "vidgate.scales" .) (not .Values.redis.enabled) -}}
{{- fail "more than one replica needs Redis: set redis.enabled, or replicaCount to 1 without autoscaling" -}}
{{- end -}}
{{- if and (include "vidgate.scales" .) (not .Values.artifacts.url) -}}
{{- fail "more than one replica needs an object store for pictures and videos: set artifacts.url" -}}
{{- end -}}
{{- /* Looked for in the whole configuration, for .Values.config may say where they are. */ -}}
{{- $config := include "vidgate.config" . | fromYaml -}}
{{- if and (not .Values.persistence.enabled) (hasPrefix "sqlite" $config.store.url) -}}
{{- fail "SQLite is a file on a volume, and there is none: set persistence.enabled, or database.kind to postgresql" -}}
{{- end -}}
{{- if and (not .Values.persistence.enabled) (not (regexMatch "^([a-z0-9]+://|[$])" $config.artifacts.url)) -}}
{{- fail "pictures and videos have no place: set persistence.enabled, or artifacts.url to an object store" -}}
{{- end -}}
{{- if and (not .Values.secret.existingSecret) (not .Values.secret.externalSecret.enabled) -}}
{{- fail "vidgate has no default secrets: name one with secret.existingSecret (VIDGATE_SIGNING_SECRET and the vendors' keys), or enable secret.externalSecret" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "an HTTPRoute attaches to a gateway: name it with httpRoute.parentRefs" -}}
{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not .Values.metrics.tokenKey) -}}
{{- fail "an Ingress or HTTPRoute shows /metrics to whoever reaches it: set metrics.tokenKey to the key of the secret that has the scraper's token" -}}
{{- end -}}
{{- if and (or .Values.gpuWorker.enabled .Values.rayCluster.enabled) (not .Values.gpuWorker.offline) .Values.networkPolicy.enabled (not .Values.networkPolicy.vendors) -}}
{{- fail "the model cannot be fetched from the hub with networkPolicy.vendors off: put it on gpuWorker.modelVolume and set gpuWorker.offline" -}}
{{- end -}}
{{- if and (or .Values.gpuWorker.enabled .Values.rayCluster.enabled) .Values.gpuWorker.offline (not .Values.gpuWorker.modelVolume.existingClaim) (not .Values.gpuWorker.modelVolume.hostPath) -}}
{{- fail "an offline GPU worker finds its model on a volume: set gpuWorker.modelVolume.existingClaim or .hostPath, or gpuWorker.offline to false" -}}
{{- end -}}
{{- if lt (mul 10 (int .Values.gpuWorker.startupFailureThreshold)) (int .Values.gpuWorker.startSeconds) -}}
{{- fail "a GPU pod would be killed while it may still load: set gpuWorker.startupFailureThreshold to a tenth of gpuWorker.startSeconds or more" -}}
{{- end -}}
{{- if and .Values.gpuWorker.modelVolume.existingClaim .Values.gpuWorker.modelVolume.hostPath -}}
{{- fail "the models lie in one place: set gpuWorker.modelVolume.existingClaim or .hostPath, not both" -}}
{{- end -}}
{{- if not (or .Values.simulators.enabled .Values.gpuWorker.enabled .Values.rayCluster.enabled (get .Values.config "providers")) -}}
{{- fail "no provider is configured: write config.providers, or enable the simulators for a test" -}}
{{- end -}}
{{- end -}}
