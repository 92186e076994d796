{{/* The name of most objects. */}}
{{- define "clientgrant.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- default $name .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* The operator's account. */}}
{{- define "clientgrant.account" -}}
{{- default (ternary (include "clientgrant.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* What the operator's pods are found by; it never changes over upgrades. */}}
{{- define "clientgrant.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. Those that selectors need cannot be changed by others of the same name. */}}
{{- define "clientgrant.labels" -}}
{{- $own := include "clientgrant.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")) -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Labels of the pods. */}}
{{- define "clientgrant.podLabels" -}}
{{- $own := include "clientgrant.labels" . | fromYaml -}}
{{- merge $own .Values.podLabels | toYaml -}}
{{- end -}}

{{/* Whether a kind of the Prometheus Operator is to be rendered: the context, the value it belongs to, the kind. */}}
{{- define "clientgrant.wanted" -}}
{{- $root := index . 0 -}}
{{- $mode := (get $root.Values (index . 1)).renderMode -}}
{{- $kind := printf "monitoring.coreos.com/v1/%s" (index . 2) -}}
{{- $served := $root.Capabilities.APIVersions.Has $kind -}}
{{- if and (eq $mode "failIfMissing") (not $served) -}}
{{- fail (printf "%s.renderMode is failIfMissing, and the cluster does not serve %s" (index . 1) $kind) -}}
{{- end -}}
{{- if or $served (eq $mode "alwaysRender") -}}yes{{- end -}}
{{- end -}}

{{/* The image. */}}
{{- define "clientgrant.image" -}}
{{- .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{/* What every pod of the chart has, wherever it runs. */}}
{{- define "clientgrant.podSettings" -}}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . | quote }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- with get $.Values.podSecurityContext $key }}
  {{ $key }}: {{ int64 . }}
  {{- end }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every container of the chart has. */}}
{{- define "clientgrant.containerSettings" -}}
image: {{ include "clientgrant.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Flags of whatever looks at the cluster and at identity providers. */}}
{{- define "clientgrant.flags" -}}
- --operator-namespace={{ .Release.Namespace }}
{{- with .Values.watchNamespaces }}
- --watch-namespaces={{ join "," . }}
{{- end }}
{{- with .Values.operator }}
{{- with .clusterID }}
- --cluster-id={{ . }}
{{- end }}
{{- range .allowProviderURLs }}
- {{ printf "--allow-provider-url=%s" . | quote }}
{{- end }}
{{- if .allowInsecureHTTP }}
- --allow-insecure-http
{{- end }}
- --log-format={{ .logFormat }}
{{- end }}
{{- end -}}

{{/* The authorities that identity providers are believed by: environment, mount and volume, or nothing. */}}
{{- define "clientgrant.trustEnv" -}}
{{- if .Values.trust.configMapName -}}
- {name: SSL_CERT_FILE, value: /etc/clientgrant/trust/ca.crt}
{{- end -}}
{{- end -}}
{{- define "clientgrant.trustMount" -}}
{{- if .Values.trust.configMapName -}}
- {name: trust, mountPath: /etc/clientgrant/trust, readOnly: true}
{{- end -}}
{{- end -}}
{{- define "clientgrant.trustVolume" -}}
{{- with .Values.trust.configMapName -}}
- name: trust
  configMap:
    name: {{ . | quote }}
    items:
    - {key: {{ $.Values.trust.key | quote }}, path: ca.crt}
{{- end -}}
{{- end -}}

{{/* What is looked at for shared credentials: no Secret is. */}}
{{- define "clientgrant.workloads" -}}
{{- if .Values.sharing.detect }}
- apiGroups: [""]
  resources: [pods, replicationcontrollers, serviceaccounts]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [daemonsets, deployments, replicasets, statefulsets]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [list, watch]
{{- if .Values.sharing.argoRollouts }}
- apiGroups: [argoproj.io]
  resources: [rollouts]
  verbs: [list, watch]
{{- end }}
{{- if .Values.sharing.knativeServices }}
- apiGroups: [serving.knative.dev]
  resources: [services]
  verbs: [list, watch]
{{- end }}
{{- if .Values.sharing.gateways }}
- apiGroups: [gateway.envoyproxy.io]
  resources: [securitypolicies]
  verbs: [list, watch]
- apiGroups: [configuration.konghq.com]
  resources: [kongplugins]
  verbs: [list, watch]
- apiGroups: [k8s.nginx.org]
  resources: [policies]
  verbs: [list, watch]
- apiGroups: [grafana.integreatly.org]
  resources: [grafanadatasources]
  verbs: [list, watch]
{{- end }}
{{- if .Values.sharing.rbac }}
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings{{ if not .Values.watchNamespaces }}, clusterroles, clusterrolebindings{{ end }}]
  verbs: [list, watch]
{{- end }}
{{- if .Values.sharing.configMaps }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch]
{{- end }}
{{- $cluster := not .Values.watchNamespaces }}
{{- if has .Values.sharing.reportAPI (list "auto" "openreports") }}
- apiGroups: [openreports.io]
  resources: [reports{{ if $cluster }}, clusterreports{{ end }}]
  verbs: [list, create, update, delete]
{{- end }}
{{- if has .Values.sharing.reportAPI (list "auto" "wgpolicy") }}
- apiGroups: [wgpolicyk8s.io]
  resources: [policyreports{{ if $cluster }}, clusterpolicyreports{{ end }}]
  verbs: [list, create, update, delete]
{{- end }}
{{- end }}
{{- end -}}

{{/* What pods beside the operator's own are found by: none of them answers for it. */}}
{{- define "clientgrant.partSelector" -}}
app.kubernetes.io/name: {{ printf "%s-%s" (default .root.Chart.Name .root.Values.nameOverride | trunc 50 | trimSuffix "-") .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* Labels of such pods. */}}
{{- define "clientgrant.partLabels" -}}
{{- $own := include "clientgrant.partSelector" . | fromYaml -}}
{{- merge $own (include "clientgrant.labels" .root | fromYaml) | toYaml -}}
{{- end -}}
