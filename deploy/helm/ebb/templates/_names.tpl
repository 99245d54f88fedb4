{{/* Labels of an object: (list $ "activator"), or (list $ "") for an object of no component.
Selectors use the labels of ebb.selector alone. */}}
{{- define "ebb.labels" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 -}}
app.kubernetes.io/name: ebb
{{- with $component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- $own := $root.Values.labels | default dict }}
{{- /* Of the usual labels this one alone may be set: Ebb may be a part of something larger. */}}
app.kubernetes.io/part-of: {{ dig "app.kubernetes.io/part-of" "ebb" $own | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with omit $own "app.kubernetes.io/part-of" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels by which the pods of a component are found: they may never change. */}}
{{- define "ebb.selector" -}}
app.kubernetes.io/name: ebb
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Name of a component's image: (list $ "activator"). */}}
{{- define "ebb.image" -}}
{{- $root := index . 0 }}
{{- $image := (index $root.Values (index . 1)).image }}
{{- with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}
{{- else }}:{{ default $root.Chart.AppVersion $root.Values.image.tag }}
{{- end }}
{{- end }}
