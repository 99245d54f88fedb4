{{/* What the pods of all components have: (list $ "activator"). */}}
{{- define "ebb.pod" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 -}}
serviceAccountName: ebb-{{ $component }}
automountServiceAccountToken: true
{{- /* A variable for each Service of the namespace, which nobody reads. */}}
enableServiceLinks: false
{{- /* Which user is the images' matter (65532), or that of a cluster that chooses one. */}}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* Wishes, not conditions: a cluster of one node must work. The hash counts each version for
itself, or the pods that an update is about to end would push the new ones together. */}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "ebb.selector" $component | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* What the containers of all components have: (list $ "activator"). */}}
{{- define "ebb.container" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 -}}
image: {{ include "ebb.image" . | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: EBB_ADMIN
    value: {{ printf "%s:9090" $root.Values.listenAddress | quote }}
  - name: EBB_LOG
    value: {{ $root.Values.log.level | quote }}
  - name: EBB_LOG_FORMAT
    value: {{ $root.Values.log.format | quote }}
{{- with (index $root.Values $component).extraEnv }}
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- /* What ended a process is its last line on standard error: kubectl describe shows it. */}}
terminationMessagePolicy: FallbackToLogsOnError
{{- with (index $root.Values $component).resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* No startup probe: /healthz answers within milliseconds of the start. */}}
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- /* A minute: only a process that is stuck for good. Ending one that is merely overloaded would
hand its load to the next. */}}
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* Metadata of a pod template: (list $ "activator"). */}}
{{- define "ebb.podMetadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- $labels := include "ebb.labels" . | fromYaml }}
  {{- /* A dict, for a key may be among the labels of all objects too. */}}
  {{- mergeOverwrite $labels ($root.Values.podLabels | default dict) | toYaml | nindent 2 }}
{{- with $root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Arguments of a container that the chart does not know: (list $ "activator"). */}}
{{- define "ebb.extraArgs" -}}
{{- $root := index . 0 }}
{{- with (index $root.Values (index . 1)).extraArgs }}
{{- toYaml . }}
{{- end }}
{{- end }}
