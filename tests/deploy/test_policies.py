"""Every rendering keeps to every policy; and a rendering that was broken on purpose is caught by the policy that is for it."""

import copy
import unittest

import policies
from manifests import combined, container, everything, overlay, pod, servers, the

MESH = ("prod", None)
INGRESS = ("prod", ("ingress", "redis", "monitoring"))
GATEWAY = ("prod", ("canary", "gateway-api", "metrics-adapter"))


def rendering(which):
    environment, components = which
    return overlay(environment) if components is None else copy.deepcopy(combined(environment, components))


def server(found):
    return servers(found)[0]


def config(found, kind):
    return next(o for o in found if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith(kind))["data"]


def replace(found, old, new):
    data = config(found, "weir-config")
    assert old in data["weir.toml"], old
    data["weir.toml"] = data["weir.toml"].replace(old, new)


def drop(found, kind, name="weir"):
    found.remove(the(found, kind, name))


def rule(found):
    return the(found, "DestinationRule")["spec"]["trafficPolicy"]


def route(found, name):
    return next(r for r in the(found, "VirtualService")["spec"]["http"] if r["name"] == name)


def annotations(found):
    return the(found, "Ingress")["metadata"]["annotations"]


# (policy, rendering, what to break). Each entry is one line of what an editor might do.
BROKEN = [
    ("not_root", MESH, lambda f: pod(server(f))["securityContext"].update(runAsNonRoot=False) or container(server(f))["securityContext"].pop("runAsNonRoot")),
    ("not_root", MESH, lambda f: pod(the(f, "StatefulSet", "redis"))["securityContext"].update(runAsUser=999)),
    ("not_root", MESH, lambda f: pod(server(f)).update(initContainers=[{"name": "fetch", "image": "a/b:1", "securityContext": {"runAsUser": 0}}])),
    ("weir_is_10001", MESH, lambda f: pod(server(f))["securityContext"].pop("fsGroup")),
    ("read_only_root", MESH, lambda f: container(server(f))["securityContext"].pop("readOnlyRootFilesystem")),
    ("no_privileges", MESH, lambda f: container(server(f))["securityContext"].pop("allowPrivilegeEscalation")),
    ("no_privileges", MESH, lambda f: container(server(f))["securityContext"].update(privileged=True)),
    ("no_privileges", MESH, lambda f: container(server(f))["securityContext"]["capabilities"].update(drop=["NET_RAW"])),
    ("no_privileges", MESH, lambda f: container(server(f))["securityContext"]["capabilities"].update(add=["NET_ADMIN"])),
    ("no_privileges", MESH, lambda f: pod(server(f)).update(hostNetwork=True)),
    ("no_privileges", MESH, lambda f: container(server(f))["ports"][0].update(hostPort=8000)),
    ("no_privileges", MESH, lambda f: pod(server(f))["volumes"].append({"name": "node", "hostPath": {"path": "/"}})),
    ("seccomp", MESH, lambda f: pod(server(f))["securityContext"].pop("seccompProfile")),
    ("seccomp", MESH, lambda f: container(server(f))["securityContext"].update(seccompProfile={"type": "Unconfined"})),
    ("no_token", MESH, lambda f: pod(server(f)).pop("automountServiceAccountToken")),
    ("no_token", MESH, lambda f: the(f, "ServiceAccount").pop("automountServiceAccountToken")),
    ("no_service_links", MESH, lambda f: pod(server(f)).pop("enableServiceLinks")),
    ("own_account", MESH, lambda f: drop(f, "ServiceAccount")),
    ("restricted_namespace", MESH, lambda f: the(f, "Namespace", "weir-prod")["metadata"]["labels"].update({"pod-security.kubernetes.io/enforce": "baseline"})),
    ("no_secret_inside", MESH, lambda f: f.append({"kind": "Secret", "metadata": {"name": "weir-redis"}, "stringData": {"password": "x"}})),
    ("no_secret_inside", MESH, lambda f: config(f, "redis-config").update({"redis.conf": "requirepass abc\n"})),
    ("no_secret_inside", MESH, lambda f: config(f, "redis-config").update({"users.acl": "user weir on >abc ~weir:*\n"})),
    ("no_secret_inside", MESH, lambda f: config(f, "weir-env").update(WEIR_REDIS__PASSWORD="abc")),
    ("pinned_image", MESH, lambda f: container(server(f)).update(image="registry.example.com/weir:latest")),
    ("pinned_image", MESH, lambda f: container(server(f)).update(image="weir:dev")),
    ("bounded_resources", MESH, lambda f: container(server(f))["resources"]["limits"].pop("memory")),
    ("bounded_resources", MESH, lambda f: container(server(f))["resources"]["requests"].update(cpu="8")),
    ("bounded_resources", MESH, lambda f: pod(server(f))["volumes"][2]["emptyDir"].pop("sizeLimit")),
    ("bounded_resources", MESH, lambda f: pod(server(f))["volumes"][1]["emptyDir"].update(sizeLimit="4Gi")),
    ("budgets_fit_memory", MESH, lambda f: config(f, "weir-env").update(WEIR_CACHE__BUDGET="1GiB")),
    ("budgets_fit_memory", ("prod", ()), lambda f: replace(f, '[state]\npath = "/var/lib/weir/state.redb"\nbudget = "64MiB"', '[state]\nbudget = "900MiB"')),
    ("redis_rewrites_within_its_memory", MESH, lambda f: container(the(f, "StatefulSet", "redis"))["resources"]["limits"].update(memory="1Gi")),
    ("redis_rewrites_within_its_memory", MESH, lambda f: config(f, "redis-config").update({"redis.conf": "maxmemory 1mb\nmaxmemory-policy allkeys-lru"})),
    ("redis_keeps_what_it_is_told", MESH, lambda f: container(the(f, "StatefulSet", "redis")).pop("command")),
    ("redis_keeps_what_it_is_told", MESH, lambda f: container(the(f, "StatefulSet", "redis"))["volumeMounts"].pop(0)),
    ("redis_keeps_what_it_is_told", MESH, lambda f: container(the(f, "StatefulSet", "redis"))["volumeMounts"].pop(1)),
    ("redis_keeps_what_it_is_told", MESH, lambda f: container(the(f, "StatefulSet", "redis"))["volumeMounts"].pop(2)),
    ("redis_keeps_what_it_is_told", MESH, lambda f: pod(the(f, "StatefulSet", "redis"))["volumes"][1]["secret"].update(items=[{"key": "users.acl", "path": "users"}])),
    ("redis_keeps_what_it_is_told", MESH, lambda f: config(f, "redis-config").update({"redis.conf": config(f, "redis-config")["redis.conf"].replace("appendonly yes", "appendonly no")})),
    ("redis_keeps_what_it_is_told", MESH, lambda f: config(f, "redis-config").update({"redis.conf": config(f, "redis-config")["redis.conf"].replace("aclfile ", "# ")})),
    ("redis_keeps_what_it_is_told", MESH, lambda f: the(f, "StatefulSet", "redis")["spec"].update(replicas=2)),
    ("redis_keeps_what_it_is_told", MESH, lambda f: container(the(f, "StatefulSet", "redis"))["livenessProbe"].update(exec=container(the(f, "StatefulSet", "redis"))["livenessProbe"].pop("tcpSocket"))),
    ("probes", MESH, lambda f: container(server(f)).pop("startupProbe")),
    ("probes", MESH, lambda f: container(server(f))["readinessProbe"]["httpGet"].update(path="/livez")),
    ("probes", MESH, lambda f: container(server(f))["livenessProbe"]["httpGet"].update(port="grpc")),
    ("probes", MESH, lambda f: container(server(f))["readinessProbe"].update(timeoutSeconds=3)),
    ("probes", MESH, lambda f: container(server(f))["startupProbe"].update(failureThreshold=5)),
    ("probes", MESH, lambda f: container(server(f))["livenessProbe"].update(periodSeconds=2, timeoutSeconds=1, failureThreshold=2)),
    ("probes", MESH, lambda f: server(f)["spec"].update(progressDeadlineSeconds=60)),
    ("grace_fits_the_drain", MESH, lambda f: pod(server(f)).update(terminationGracePeriodSeconds=25)),
    ("grace_fits_the_drain", MESH, lambda f: pod(server(f)).pop("terminationGracePeriodSeconds") and replace(f, 'drain_timeout = "15s"', 'drain_timeout = "16s"')),
    ("grace_fits_the_drain", MESH, lambda f: container(server(f)).update(lifecycle={"preStop": {"sleep": {"seconds": 10}}})),
    ("grace_fits_the_drain", MESH, lambda f: container(server(f)).update(lifecycle={"preStop": {"exec": {"command": ["sleep", "1"]}}})),
    ("grace_fits_the_drain", MESH, lambda f: config(f, "weir-env").update(WEIR_SERVER__DRAIN_TIMEOUT="1m")),
    ("grace_fits_the_drain", MESH, lambda f: replace(f, 'request_timeout = "10s"', 'request_timeout = "20s"')),
    ("drain_outlasts_the_endpoints", MESH, lambda f: replace(f, 'drain_delay = "10s"', 'drain_delay = "2s"')),
    ("drain_outlasts_the_endpoints", MESH, lambda f: container(server(f))["readinessProbe"].update(periodSeconds=10)),
    ("rollout_keeps_capacity", MESH, lambda f: server(f)["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable="25%")),
    ("rollout_keeps_capacity", MESH, lambda f: server(f)["spec"].pop("strategy")),
    ("configuration_rolls", MESH, lambda f: pod(server(f))["volumes"][0]["configMap"].update(name="weir-config")),
    ("configuration_rolls", MESH, lambda f: [o["metadata"].update(name="weir-env") for o in f if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("weir-env")] and container(server(f))["envFrom"][0]["configMapRef"].update(name="weir-env")),
    ("one_autoscaler", MESH, lambda f: drop(f, "ScaledObject")),
    ("one_autoscaler", MESH, lambda f: server(f)["spec"].update(replicas=3)),
    ("one_autoscaler", MESH, lambda f: the(f, "ScaledObject")["spec"].update(maxReplicaCount=2)),
    ("one_autoscaler", INGRESS, lambda f: the(f, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"].update(name="weird")),
    ("one_autoscaler", INGRESS, lambda f: f.append(the(f, "HorizontalPodAutoscaler"))),
    ("disruption_budget", MESH, lambda f: drop(f, "PodDisruptionBudget")),
    ("disruption_budget", MESH, lambda f: the(f, "PodDisruptionBudget")["spec"].pop("maxUnavailable")),
    ("selectors_match", MESH, lambda f: server(f)["spec"]["template"]["metadata"]["labels"].pop("weir.dev/track")),
    ("selectors_match", MESH, lambda f: server(f)["spec"]["selector"]["matchLabels"].pop("weir.dev/track")),
    ("selectors_match", MESH, lambda f: the(f, "Service")["spec"]["selector"].update({"app.kubernetes.io/name": "wier"})),
    ("selectors_match", MESH, lambda f: the(f, "Service")["spec"]["ports"][0].update(targetPort="web")),
    ("selectors_match", MESH, lambda f: pod(server(f))["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update({"weir.dev/track": "blue"})),
    ("selectors_match", MESH, lambda f: pod(server(f))["topologySpreadConstraints"].pop()),
    ("ports_are_weirs", MESH, lambda f: replace(f, "0.0.0.0:9000", "0.0.0.0:9001")),
    ("ports_are_weirs", MESH, lambda f: replace(f, "0.0.0.0:8000", "127.0.0.1:8000")),
    ("admin_stays_inside", MESH, lambda f: replace(f, "127.0.0.1:8001", "0.0.0.0:8001")),
    ("admin_stays_inside", MESH, lambda f: replace(f, 'admin_listen = "127.0.0.1:8001"', "")),
    ("admin_stays_inside", MESH, lambda f: config(f, "weir-env").update(WEIR_SERVER__ADMIN_LISTEN="[::]:8001")),
    ("admin_stays_inside", MESH, lambda f: container(server(f))["ports"].append({"name": "admin", "containerPort": 8001})),
    ("admin_stays_inside", MESH, lambda f: the(f, "Service")["spec"]["ports"].append({"name": "admin", "port": 80, "targetPort": 8001})),
    ("admin_stays_inside", MESH, lambda f: the(f, "NetworkPolicy")["spec"]["ingress"][0]["ports"].append({"port": 8001, "protocol": "TCP"})),
    ("backends_are_there", INGRESS, lambda f: the(f, "Service")["spec"]["ports"].pop(1)),
    ("backends_are_there", GATEWAY, lambda f: drop(f, "Service", "weir-canary")),
    ("backends_are_there", MESH, lambda f: route(f, "grpc")["route"][0]["destination"]["port"].update(number=9001)),
    ("backends_are_there", MESH, lambda f: the(f, "DestinationRule")["spec"]["subsets"][1]["labels"].update({"weir.dev/track": "green"})),
    ("backends_are_there", MESH, lambda f: drop(f, "DestinationRule")),
    ("backends_are_there", MESH, lambda f: the(f, "DestinationRule")["spec"]["subsets"].pop()),
    ("backends_are_there", MESH, lambda f: drop(f, "Gateway")),
    ("tracks_are_apart", GATEWAY, lambda f: the(f, "Service", "weir-stable")["spec"]["selector"].pop("weir.dev/track")),
    ("tracks_are_apart", GATEWAY, lambda f: the(f, "Service", "weir-canary")["spec"]["selector"].update({"weir.dev/track": "stable"})),
    ("grpc_is_spoken", GATEWAY, lambda f: the(f, "Service", "weir-canary")["spec"]["ports"][1].pop("appProtocol")),
    ("grpc_is_spoken", INGRESS, lambda f: the(f, "Ingress", "weir-grpc")["metadata"]["annotations"].pop("nginx.ingress.kubernetes.io/backend-protocol")),
    ("grpc_is_spoken", GATEWAY, lambda f: the(f, "HTTPRoute")["spec"]["rules"][-1].pop("timeouts")),
    ("bodies_fit_through_the_entrance", INGRESS, lambda f: annotations(f).pop("nginx.ingress.kubernetes.io/proxy-body-size")),
    ("bodies_fit_through_the_entrance", INGRESS, lambda f: replace(f, 'max_body = "16MiB"', 'max_body = "32MiB"')),
    ("metrics_are_scraped", MESH, lambda f: the(f, "ServiceMonitor")["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/component")),
    ("metrics_are_scraped", MESH, lambda f: the(f, "ServiceMonitor")["spec"]["endpoints"][0].update(port="metric")),
    ("metrics_are_scraped", MESH, lambda f: the(f, "ServiceMonitor")["spec"]["endpoints"][0].pop("relabelings")),
    ("metrics_are_scraped", MESH, lambda f: the(f, "ServiceMonitor")["spec"]["endpoints"][0].pop("path")),
    ("metrics_are_scraped", MESH, lambda f: the(f, "ScaledObject")["spec"]["triggers"][0]["metadata"].update(query='sum(weir_requests_in_flight{namespace="weir",job="weir"})')),
    ("callers_come_over_tls", MESH, lambda f: the(f, "Gateway")["spec"]["servers"][0].pop("tls")),
    ("callers_come_over_tls", MESH, lambda f: the(f, "Gateway")["spec"]["servers"][1].pop("tls")),
    ("callers_come_over_tls", MESH, lambda f: the(f, "Gateway")["spec"]["servers"][1]["tls"].pop("minProtocolVersion")),
    ("callers_come_over_tls", MESH, lambda f: the(f, "Gateway")["spec"]["servers"][1]["port"].update(number=8443)),
    ("callers_come_over_tls", GATEWAY, lambda f: the(f, "Gateway")["spec"]["listeners"][1].pop("tls")),
    ("callers_come_over_tls", GATEWAY, lambda f: the(f, "HTTPRoute")["spec"]["parentRefs"][0].update(sectionName="http")),
    ("callers_come_over_tls", GATEWAY, lambda f: the(f, "HTTPRoute")["spec"]["parentRefs"][0].pop("sectionName")),
    ("callers_come_over_tls", INGRESS, lambda f: annotations(f).pop("nginx.ingress.kubernetes.io/ssl-redirect")),
    ("callers_come_over_tls", INGRESS, lambda f: the(f, "Ingress")["spec"].pop("tls")),
    ("hosts_agree", INGRESS, lambda f: the(f, "Ingress")["spec"]["rules"][0].update(host="other.example.com")),
    ("hosts_agree", GATEWAY, lambda f: the(f, "HTTPRoute")["spec"].update(hostnames=["other.example.com"])),
    ("one_kind_of_route", GATEWAY, lambda f: f.append(the(f, "HTTPRoute") | {"kind": "GRPCRoute"})),
    ("hosts_agree", GATEWAY, lambda f: the(f, "Gateway")["spec"]["listeners"][1].update(hostname="other.example.com")),
    ("hosts_agree", MESH, lambda f: the(f, "VirtualService")["spec"]["hosts"].pop()),
    ("weights_are_a_hundred", MESH, lambda f: route(f, "grpc")["route"][0].update(weight=100)),
    ("weights_are_a_hundred", GATEWAY, lambda f: the(f, "HTTPRoute")["spec"]["rules"][1]["backendRefs"].pop()),
    ("timeouts_are_longer_than_weirs", MESH, lambda f: route(f, "grpc").update(timeout="10s")),
    ("timeouts_are_longer_than_weirs", MESH, lambda f: route(f, "stateless-models")["retries"].update(perTryTimeout="2s")),
    ("timeouts_are_longer_than_weirs", GATEWAY, lambda f: the(f, "HTTPRoute")["spec"]["rules"][0]["timeouts"].update(backendRequest="5s")),
    ("timeouts_are_longer_than_weirs", INGRESS, lambda f: annotations(f).update({"nginx.ingress.kubernetes.io/proxy-read-timeout": "5"})),
    ("idle_connections_end_at_the_proxy", MESH, lambda f: rule(f)["connectionPool"]["http"].pop("idleTimeout")),
    ("idle_connections_end_at_the_proxy", INGRESS, lambda f: replace(f, 'header_timeout = "75s"', 'header_timeout = "10s"')),
    ("retries_do_not_amplify", MESH, lambda f: route(f, "grpc").pop("retries")),
    ("retries_do_not_amplify", MESH, lambda f: route(f, "grpc")["retries"].update(retryOn="connect-failure,unavailable")),
    ("retries_do_not_amplify", MESH, lambda f: route(f, "everything-else")["retries"].update(retryOn="connect-failure,reset")),
    ("retries_do_not_amplify", MESH, lambda f: route(f, "stateless-models")["retries"].update(retryOn="5xx,reset")),
    ("retries_do_not_amplify", MESH, lambda f: route(f, "stateless-models")["retries"].update(attempts=5)),
    ("retries_do_not_amplify", MESH, lambda f: rule(f).pop("retryBudget")),
    ("retries_do_not_amplify", INGRESS, lambda f: annotations(f).update({"nginx.ingress.kubernetes.io/proxy-next-upstream": "error http_503"})),
    ("ejection_leaves_somebody", MESH, lambda f: rule(f)["outlierDetection"].pop("consecutive5xxErrors")),
    ("ejection_leaves_somebody", MESH, lambda f: rule(f)["outlierDetection"].update(consecutiveGatewayErrors=5)),
    ("ejection_leaves_somebody", MESH, lambda f: rule(f)["outlierDetection"].update(maxEjectionPercent=100)),
    ("ejection_leaves_somebody", MESH, lambda f: rule(f)["outlierDetection"].pop("minHealthPercent")),
    ("mutual_tls", MESH, lambda f: drop(f, "PeerAuthentication")),
    ("mutual_tls", MESH, lambda f: the(f, "PeerAuthentication")["spec"]["mtls"].update(mode="PERMISSIVE")),
    ("mutual_tls", MESH, lambda f: the(f, "PeerAuthentication")["spec"]["portLevelMtls"].update({"8000": {"mode": "DISABLE"}})),
    ("mutual_tls", MESH, lambda f: the(f, "PeerAuthentication")["spec"].pop("portLevelMtls")),
    ("mutual_tls", MESH, lambda f: rule(f).pop("tls")),
    ("mutual_tls", MESH, lambda f: rule(f)["tls"].update(mode="DISABLE")),
    ("mutual_tls", MESH, lambda f: drop(f, "AuthorizationPolicy")),
    ("mutual_tls", MESH, lambda f: the(f, "AuthorizationPolicy")["spec"]["rules"][0].pop("from")),
    ("denied_by_default", MESH, lambda f: drop(f, "NetworkPolicy", "default-deny")),
    ("denied_by_default", MESH, lambda f: the(f, "NetworkPolicy")["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443, "protocol": "TCP"}]})),
    ("denied_by_default", MESH, lambda f: the(f, "NetworkPolicy")["spec"]["ingress"][0].pop("from")),
    ("policies_cover_what_is_used", MESH, lambda f: drop(f, "NetworkPolicy", "weir-to-redis")),
    ("policies_cover_what_is_used", MESH, lambda f: drop(f, "NetworkPolicy", "redis")),
    ("policies_cover_what_is_used", MESH, lambda f: the(f, "NetworkPolicy", "weir-from-prometheus")["spec"]["ingress"][0]["ports"][0].update(port=8000)),
    ("policies_cover_what_is_used", MESH, lambda f: the(f, "NetworkPolicy")["spec"]["ingress"][0]["ports"].append({"port": 8001, "protocol": "TCP"})),
    ("policies_cover_what_is_used", MESH, lambda f: the(f, "NetworkPolicy")["spec"].pop("egress")),
    ("entrances_are_let_in", INGRESS, lambda f: drop(f, "NetworkPolicy", "weir-from-ingress")),
    ("entrances_are_let_in", GATEWAY, lambda f: drop(f, "NetworkPolicy", "weir-from-gateway")),
    ("redis_is_shared", MESH, lambda f: config(f, "weir-env").pop("WEIR_STATE__STORE")),
    ("redis_is_shared", MESH, lambda f: config(f, "weir-env").update(WEIR_REDIS__URL="redis://elsewhere:6379/0")),
    ("redis_is_shared", MESH, lambda f: [m for m in container(server(f))["volumeMounts"] if m["name"] == "redis-password"][0].update(mountPath="/elsewhere")),
    ("writable_folders_are_volumes", MESH, lambda f: container(server(f))["volumeMounts"].pop(1)),
    ("writable_folders_are_volumes", MESH, lambda f: replace(f, "/var/lib/weir/", "/data/")),
]


class Policies(unittest.TestCase):
    def test_every_rendering_keeps_to_all(self):
        seen = 0
        for name, found in everything():
            with self.subTest(name):
                self.assertEqual(policies.problems(found), [])
            seen += 1
        self.assertEqual(seen, 3 + 48)

    def test_every_policy_catches_what_it_is_for(self):
        for number, (name, which, break_it) in enumerate(BROKEN):
            with self.subTest(f"{number}: {name}"):
                found = rendering(which)
                self.assertEqual(list(policies.POLICIES[name](found)), [], "broken before")
                break_it(found)
                self.assertNotEqual(list(policies.POLICIES[name](found)), [], "not caught")
        self.assertEqual({name for name, _, _ in BROKEN}, set(policies.POLICIES))


if __name__ == "__main__":
    unittest.main()
