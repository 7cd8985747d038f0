{{/* The Deployment of one track: (list . "stable" image). */}}
{{- define "weir.deployment" -}}
{{- $root := index . 0 -}}
{{- $track := index . 1 -}}
{{- $image := index . 2 -}}
{{- $v := $root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: weir{{ if ne $track "stable" }}-{{ $track }}{{ end }}
  labels:
    {{- include "weir.labels" $root | nindent 4 }}
    app.kubernetes.io/component: server
    weir.dev/track: {{ $track }}
spec:
  {{- if ne $track "stable" }}
  replicas: 1
  {{- end }}
  revisionHistoryLimit: 5
  progressDeadlineSeconds: 300
  minReadySeconds: 5
  selector:
    matchLabels:
      app.kubernetes.io/name: weir
      weir.dev/track: {{ $track }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  template:
    metadata:
      labels:
        app.kubernetes.io/name: weir
        app.kubernetes.io/component: server
        weir.dev/track: {{ $track }}
        {{- if $v.istio.enabled }}
        sidecar.istio.io/inject: "true"
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: weir
        # A change of configuration is a rollout.
        checksum/config: {{ printf "%s%s" (include "weir.config" $root) (include "weir.env" $root) | sha256sum }}
    spec:
      serviceAccountName: weir
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile:
          type: RuntimeDefault
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              app.kubernetes.io/name: weir
              weir.dev/track: {{ $track }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      containers:
        - name: weir
          image: {{ printf "%s:%s" $image.repository $image.tag | quote }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          args: [serve, --config, /etc/weir/weir.toml]
          ports:
            - {name: http, containerPort: 8000, protocol: TCP}
            - {name: grpc, containerPort: 9000, protocol: TCP}
            - {name: metrics, containerPort: 9090, protocol: TCP}
          envFrom:
            - configMapRef:
                name: weir-env
          startupProbe:
            httpGet: {path: /startupz, port: http}
            periodSeconds: 2
            timeoutSeconds: 1
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 2
            timeoutSeconds: 1
            failureThreshold: 2
            successThreshold: 1
          livenessProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          resources: {{- toYaml $v.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            privileged: false
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            capabilities:
              drop: [ALL]
          volumeMounts:
            - {name: config, mountPath: /etc/weir, readOnly: true}
            - {name: data, mountPath: /var/lib/weir}
            - {name: tmp, mountPath: /tmp}
            {{- if $v.redis.enabled }}
            - {name: redis-password, mountPath: /run/secrets/weir-redis, readOnly: true}
            {{- end }}
            {{- with $v.extraVolumeMounts }}{{ toYaml . | nindent 12 }}{{ end }}
      volumes:
        - name: config
          configMap:
            name: weir-config
            defaultMode: 0444
        - name: data
          emptyDir:
            sizeLimit: 768Mi
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
        {{- if $v.redis.enabled }}
        - name: redis-password
          secret:
            secretName: weir-redis
            defaultMode: 0440
            items: [{key: password, path: password}]
        {{- end }}
        {{- with $v.extraVolumes }}{{ toYaml . | nindent 8 }}{{ end }}
{{- end -}}
