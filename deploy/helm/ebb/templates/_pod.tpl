{{/* The common part of the pods of all components: (list $ "activator"). */}}
{{- define "ebb.pod" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 -}}
serviceAccountName: ebb-{{ $component }}
automountServiceAccountToken: true
{{- /* Links would set a variable for each Service of the namespace, which no process reads. */}}
enableServiceLinks: false
{{- /* The user is set by the images (65532), or by a cluster that chooses one. */}}
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
{{- /* Preferences, not conditions: a cluster of one node must work. With the hash each version is
counted by itself; otherwise the pods that an update is about to end would push the new ones
together. */}}
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

{{/* The common part of the containers of all components: (list $ "activator"). */}}
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
{{- /* The last line on standard error says what ended a process: kubectl describe shows it. */}}
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
{{- /* A minute, so that only a process that is stuck for good is ended. Ending one that is merely
overloaded would hand its load to the next. */}}
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
  {{- /* Merged as a dict, because a key may be among the labels of all objects too. */}}
  {{- mergeOverwrite $labels ($root.Values.podLabels | default dict) | toYaml | nindent 2 }}
{{- with $root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Arguments of a container that the values add: (list $ "activator"). */}}
{{- define "ebb.extraArgs" -}}
{{- $root := index . 0 }}
{{- with (index $root.Values (index . 1)).extraArgs }}
{{- toYaml . }}
{{- end }}
{{- end }}
