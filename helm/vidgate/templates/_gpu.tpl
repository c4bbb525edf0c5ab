{{- define "vidgate.gpu.worker" -}}
{{ printf "%s-gpu" (include "vidgate.fullname" .) }}
{{- end -}}

{{- define "vidgate.gpu.ray" -}}
{{ printf "%s-gpu-ray" (include "vidgate.fullname" .) }}
{{- end -}}

{{- /* Where the gateway finds its own GPUs, as a YAML list; empty without any. Behind the headless service's name are
the addresses of all workers: a render belongs to one of them. */ -}}
{{- define "vidgate.gpu.workers" -}}
{{- if .Values.gpuWorker.enabled }}
- dns+http://{{ include "vidgate.gpu.worker" . }}:8000
{{- end }}
{{- if .Values.rayCluster.enabled }}
- http://{{ include "vidgate.gpu.ray" . }}:8000
{{- end }}
{{- end -}}

{{- define "vidgate.gpu.components" -}}
{{- if .Values.gpuWorker.enabled }}
- gpu-worker
{{- end }}
{{- if .Values.rayCluster.enabled }}
- gpu-ray
{{- end }}
{{- end -}}

{{- /* What a series of a GPU worker has: the job is the name of its service, or of its PodMonitor in the namespace. */ -}}
{{- define "vidgate.gpu.series" -}}
namespace="{{ .Release.Namespace }}",job=~"({{ .Release.Namespace }}/)?{{ include "vidgate.fullname" . }}-gpu(-(worker|ray))?"
{{- end -}}

{{- define "vidgate.gpu.image" -}}
{{- with .Values.gpuWorker.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What one card's program is told, of a worker and of a Ray head alike. */ -}}
{{- define "vidgate.gpu.options" -}}
- --model
- {{ .Values.gpuWorker.model | quote }}
{{- with .Values.gpuWorker.modelName }}
- --name
- {{ . }}
{{- end }}
{{- with .Values.gpuWorker.variant }}
- --variant
- {{ . | quote }}
{{- end }}
{{- with .Values.gpuWorker.revision }}
- --revision
- {{ . | quote }}
{{- end }}
{{- if .Values.gpuWorker.offline }}
- --offline
{{- end }}
{{- if not .Values.gpuWorker.warmUp }}
- --no-warm-up
{{- end }}
- --dtype
- {{ .Values.gpuWorker.dtype }}
- --compile
- {{ include "vidgate.gpu.switch" .Values.gpuWorker.compile | quote }}
- --attention
- {{ .Values.gpuWorker.attention }}
- --channels-last
- {{ include "vidgate.gpu.switch" .Values.gpuWorker.channelsLast | quote }}
- --guidance
- {{ .Values.gpuWorker.guidance }}
- --host
- 0.0.0.0
- --port
- "8000"
- --work-dir
- /var/lib/vidgate/orders
- --queue-max
- {{ .Values.gpuWorker.queueMax | quote }}
- --keep-s
- {{ .Values.gpuWorker.keepSeconds | quote }}
- --wedged-s
- {{ .Values.gpuWorker.wedgedSeconds | quote }}
- --start-s
- {{ .Values.gpuWorker.startSeconds | quote }}
- --drain-s
- {{ .Values.gpuWorker.drainSeconds | quote }}
{{- end -}}

{{- /* `on` and `off` without quotes are booleans to YAML; the command line has the words. */ -}}
{{- define "vidgate.gpu.switch" -}}
{{- if kindIs "bool" . }}{{ ternary "on" "off" . }}{{ else }}{{ . }}{{ end }}
{{- end -}}

{{- /* Words that an operator adds; a list that is empty adds none. */ -}}
{{- define "vidgate.gpu.extra" -}}
{{- range . }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "vidgate.gpu.container" -}}
image: {{ include "vidgate.gpu.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "vidgate.containerSecurity" . | nindent 2 }}
env:
  - {name: HOME, value: /var/lib/vidgate}
  - {name: HF_HOME, value: {{ ternary "/var/lib/vidgate/hub" "/models" .Values.gpuWorker.offline }}}
  {{- if .Values.gpuWorker.offline }}
  - {name: HF_HUB_OFFLINE, value: "1"}
  {{- end }}
  - {name: TORCHINDUCTOR_CACHE_DIR, value: /var/lib/vidgate/kernels}
  - name: VIDGATE_GPU_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ include "vidgate.secretName" . }}, key: {{ .Values.gpuWorker.tokenKey }}}
  {{- with .Values.gpuWorker.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - {name: models, mountPath: /models{{ if .Values.gpuWorker.offline }}, readOnly: true{{ end }}}
  - {name: scratch, mountPath: /var/lib/vidgate}
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
{{- end -}}

{{- define "vidgate.gpu.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ .Values.gpuWorker.startupFailureThreshold }}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{- define "vidgate.gpu.volumes" -}}
- name: models
  {{- if .Values.gpuWorker.modelVolume.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.gpuWorker.modelVolume.existingClaim }}, readOnly: {{ .Values.gpuWorker.offline }}}
  {{- else if .Values.gpuWorker.modelVolume.hostPath }}
  hostPath: {path: {{ .Values.gpuWorker.modelVolume.hostPath }}, type: Directory}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.gpuWorker.modelVolume.size }}}
  {{- end }}
- name: scratch
  emptyDir: {sizeLimit: {{ .Values.gpuWorker.scratchSize }}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: 2Gi}
{{- end -}}

{{- /* Where pods with cards may run. */ -}}
{{- define "vidgate.gpu.placement" -}}
{{- with .Values.gpuWorker.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.gpuWorker.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.gpuWorker.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.gpuWorker.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "vidgate.gpu.resources" -}}
{{- $cards := dict .Values.gpuWorker.gpuResource .Values.gpuWorker.gpus -}}
{{- $resources := deepCopy .Values.gpuWorker.resources -}}
{{- $_ := set $resources "limits" (merge (dict) $cards (default (dict) $resources.limits)) -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "vidgate.gpu.pod" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "vidgate.podSecurity" . | nindent 2 }}
terminationGracePeriodSeconds: {{ add (int .Values.gpuWorker.drainSeconds) 30 }}
{{- end -}}
