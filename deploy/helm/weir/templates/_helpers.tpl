{{/* A file of deploy/k8s/components, which needs no more than these values. */}}
{{- define "weir.component" -}}
{{- $v := (index . 0).Values -}}
{{- $routes := list -}}
{{- range $v.publicRoutes -}}
{{- $routes = append $routes (trimPrefix "/" .) -}}
{{- end -}}
{{- (index . 0).Files.Get (printf "files/components/%s" (index . 1))
    | replace "weir.example.com" $v.host
    | replace "weight: 90" "weight: <stable>"
    | replace "weight: 10" (printf "weight: %d" (int $v.canary.weight))
    | replace "weight: <stable>" (printf "weight: %d" (sub 100 (int $v.canary.weight)))
    | replace "predict|lab/predict|lab/bulk-predict|project/predict)" (printf "%s)" (join "|" $routes))
    | replace "[/predict, /lab/predict, /lab/bulk-predict, /project/predict]" (printf "[/%s]" (join ", /" $routes))
    | replace "gatewayClassName: eg" (printf "gatewayClassName: %s" $v.gatewayApi.className)
    | replace "name: weir-tls}" (printf "name: %s}" $v.gatewayApi.tlsSecret)
    | replace "ingressClassName: nginx" (printf "ingressClassName: %s" $v.ingress.className)
    | replace "secretName: weir-tls" (printf "secretName: %s" $v.ingress.tlsSecret)
    | replace "docker.io/library/redis:7.2.14-bookworm" $v.redis.image
    | replace "storage: 4Gi" (printf "storage: %s" $v.redis.storage) -}}
{{- end -}}

{{/* weir.toml. */}}
{{- define "weir.config" -}}
{{- .Values.config | default (.Files.Get "files/weir.toml") -}}
{{- end -}}

{{/* Variables over it: those of the values, and what `redis` adds. */}}
{{- define "weir.env" -}}
{{- $redis := dict
      "WEIR_REDIS__URL" "redis://redis:6379/0"
      "WEIR_REDIS__USERNAME" "weir"
      "WEIR_REDIS__PASSWORD_FILE" "/run/secrets/weir-redis/password"
      "WEIR_STATE__STORE" "redis" -}}
{{- toYaml (ternary (merge (deepCopy .Values.env) $redis) .Values.env .Values.redis.enabled) -}}
{{- end -}}

{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
