"""What every rendering has to keep to. Each policy is a function from all objects to problems; `test_policies.py` breaks a good
rendering once or more for each of them, so that none is a check that cannot fail."""

import re

from manifests import container, of_kind, pod, quantity, seconds, servers, settings, workloads

POLICIES = {}


def policy(function):
    POLICIES[function.__name__] = function
    return function


def each_container(found):
    for workload in workloads(found):
        for kind in ("initContainers", "containers"):
            for one in pod(workload).get(kind, []):
                yield f"{workload['metadata']['name']}/{one['name']}", workload, one


def selects(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def labels_of(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


# --- hardening

@policy
def not_root(found):
    for name, workload, one in each_container(found):
        whole, own = pod(workload).get("securityContext", {}), one.get("securityContext", {})
        if own.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot is not true"
        for what in ("runAsUser", "runAsGroup"):
            if own.get(what, whole.get(what, 0)) < 10000:
                yield f"{name}: {what} is not said or below 10000"


@policy
def weir_is_10001(found):
    for server in servers(found):
        context = pod(server).get("securityContext", {})
        if (context.get("runAsUser"), context.get("runAsGroup"), context.get("fsGroup")) != (10001, 10001, 10001):
            yield f"{server['metadata']['name']}: not 10001, whom the image's folders belong to"


@policy
def read_only_root(found):
    for name, _, one in each_container(found):
        if one.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{name}: the root file system can be written"


@policy
def no_privileges(found):
    for name, workload, one in each_container(found):
        context = one.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged", False):
            yield f"{name}: privileged, or could become so"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{name}: has capabilities"
        if any(pod(workload).get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares the host's namespaces"
        if any("hostPort" in port for port in one.get("ports", [])):
            yield f"{name}: a port of the host"
        if any("hostPath" in volume for volume in pod(workload).get("volumes", [])):
            yield f"{name}: a folder of the host"


@policy
def seccomp(found):
    for name, workload, one in each_container(found):
        profiles = [context.get("seccompProfile", {}).get("type") for context in (one.get("securityContext", {}), pod(workload).get("securityContext", {}))]
        if next((p for p in profiles if p), None) != "RuntimeDefault":
            yield f"{name}: seccomp is not RuntimeDefault"


@policy
def no_token(found):
    for workload in workloads(found):
        if pod(workload).get("automountServiceAccountToken") is not False:
            yield f"{workload['metadata']['name']}: has the API server's token"
    for account in of_kind(found, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{account['metadata']['name']}: hands its token out"


@policy
def no_service_links(found):
    for workload in workloads(found):
        if pod(workload).get("enableServiceLinks") is not False:
            yield f"{workload['metadata']['name']}: gets WEIR_… variables of Services"


@policy
def own_account(found):
    accounts = {account["metadata"]["name"] for account in of_kind(found, "ServiceAccount")}
    for server in servers(found):
        if pod(server).get("serviceAccountName") not in accounts:
            yield f"{server['metadata']['name']}: its service account is not there"


@policy
def restricted_namespace(found):
    for namespace in of_kind(found, "Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{namespace['metadata']['name']}: not restricted"


# A variable, or a line of a configuration file, that sets a secret; one that names a file does not.
SECRET_KEY = re.compile(r"(?i)(password|secret|token)$")
SECRET_LINE = re.compile(r"(?im)^\s*(requirepass|masterauth|\w*(password|secret|token)\s*=|user .*>)")


@policy
def no_secret_inside(found):
    for secret in of_kind(found, "Secret"):
        yield f"{secret['metadata']['name']}: a secret's text is among the manifests"
    for config in of_kind(found, "ConfigMap"):
        for key, text in config.get("data", {}).items():
            if SECRET_KEY.search(key) or SECRET_LINE.search(text):
                yield f"{config['metadata']['name']}: {key} holds a secret"


@policy
def pinned_image(found):
    for name, _, one in each_container(found):
        repository, _, tag = one["image"].rpartition(":")
        if "/" not in repository or tag in ("", "latest", "dev"):
            yield f"{name}: the image `{one['image']}` names no registry or no version"


# --- resources

@policy
def bounded_resources(found):
    for name, workload, one in each_container(found):
        resources = one.get("resources", {})
        for what in ("cpu", "memory", "ephemeral-storage"):
            sizes = [quantity(resources.get(kind, {}).get(what, 0)) for kind in ("requests", "limits")]
            if not 0 < sizes[0] <= sizes[1]:
                yield f"{name}: {what} has no request within a limit"
        rooms = [v["emptyDir"].get("sizeLimit") for v in pod(workload).get("volumes", []) if "emptyDir" in v]
        if None in rooms:
            yield f"{name}: an emptyDir without sizeLimit"
        elif sum(map(quantity, rooms)) > quantity(resources.get("limits", {}).get("ephemeral-storage", 0)):
            yield f"{name}: emptyDirs hold more than the container's ephemeral-storage"


@policy
def budgets_fit_memory(found):
    for server in servers(found):
        said = settings(found, server)
        sizes = [said["server"]["max_body_in_flight"], said["cache"]["budget"]]
        if said["state"]["store"] != "redis":
            sizes += [said["state"]["budget"], said["idempotency"]["budget"]]
        limit = quantity(container(server)["resources"]["limits"]["memory"])
        if sum(map(quantity, sizes)) > 0.6 * limit:
            yield f"{server['metadata']['name']}: budgets of {sizes} leave less than 0.4 of the memory for models"


@policy
def redis_rewrites_within_its_memory(found):
    for redis in of_kind(found, "StatefulSet", "redis"):
        [text] = [c["data"]["redis.conf"] for c in of_kind(found, "ConfigMap") if "redis.conf" in c.get("data", {})]
        said = dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        most = float(said["maxmemory"].removesuffix("mb")) * 2**20
        if 2 * most > quantity(container(redis)["resources"]["limits"]["memory"]):
            yield "redis: a rewrite may take as much again, and the limit has no room for it"
        if said["maxmemory-policy"] != "noeviction":
            yield "redis: would evict state"


# --- probes and the way out

@policy
def probes(found):
    paths = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for server in servers(found):
        name, one = server["metadata"]["name"], container(server)
        ports = {port["name"]: port["containerPort"] for port in one["ports"]}
        listen = int(settings(found, server)["server"]["listen"].rpartition(":")[2])
        for kind, path in paths.items():
            probe = one.get(kind, {})
            asked = probe.get("httpGet", {})
            if asked.get("path") != path or ports.get(asked.get("port"), asked.get("port")) != listen:
                yield f"{name}: {kind} does not ask {path} where Weir listens"
            if probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10):
                yield f"{name}: {kind} times out after the next one is due"
        lasts = lambda kind: one.get(kind, {}).get("periodSeconds", 10) * one.get(kind, {}).get("failureThreshold", 3)
        if lasts("startupProbe") < 60:
            yield f"{name}: less than a minute to load models"
        if lasts("livenessProbe") < 3 * lasts("readinessProbe"):
            yield f"{name}: killed about as soon as it is taken out"
        if server["spec"].get("progressDeadlineSeconds", 600) < lasts("startupProbe"):
            yield f"{name}: a rollout is given up before its pods are"


MARGIN = 5


@policy
def grace_fits_the_drain(found):
    for server in servers(found):
        name, said = server["metadata"]["name"], settings(found, server)["server"]
        hook = container(server).get("lifecycle", {}).get("preStop", {})
        before = hook.get("sleep", {}).get("seconds", 0)
        if hook and "sleep" not in hook:
            yield f"{name}: a preStop hook that needs a program; the image has none"
        delay, timeout = seconds(said["drain_delay"]), seconds(said["drain_timeout"])
        if pod(server).get("terminationGracePeriodSeconds", 30) < before + delay + timeout + MARGIN:
            yield f"{name}: killed before preStop + drain_delay + drain_timeout + {MARGIN} s"
        if timeout < seconds(said["request_timeout"]):
            yield f"{name}: drain_timeout is shorter than what a request may take"


@policy
def drain_outlasts_the_endpoints(found):
    """Not the development environment's, whose requests may be lost."""
    for server in servers(found):
        if server["metadata"].get("namespace", "").endswith("-dev"):
            continue
        ready = container(server)["readinessProbe"]
        notice = ready["periodSeconds"] * ready["failureThreshold"]
        if seconds(settings(found, server)["server"]["drain_delay"]) < notice + 3:
            yield f"{server['metadata']['name']}: drain_delay is over before a load balancer has noticed"


@policy
def rollout_keeps_capacity(found):
    for server in servers(found):
        rolling = server["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0 or rolling.get("maxSurge") in (None, 0):
            yield f"{server['metadata']['name']}: a rollout takes pods away before others are ready"


@policy
def configuration_rolls(found):
    names = [config["metadata"]["name"] for config in of_kind(found, "ConfigMap")]
    for workload in workloads(found):
        used = [v["configMap"]["name"] for v in pod(workload).get("volumes", []) if "configMap" in v]
        used += [e["configMapRef"]["name"] for c in pod(workload)["containers"] for e in c.get("envFrom", [])]
        annotations = workload["spec"]["template"]["metadata"].get("annotations", {})
        for name in used:
            stem, _, digest = name.rpartition("-")
            if name not in names:
                yield f"{workload['metadata']['name']}: the ConfigMap {name} is not there"
            elif "checksum/config" not in annotations and (len(digest) != 10 or not stem):
                yield f"{workload['metadata']['name']}: a change of {name} is no rollout"


# --- who scales, what is together

@policy
def one_autoscaler(found):
    scaling = of_kind(found, "HorizontalPodAutoscaler") + of_kind(found, "ScaledObject")
    targets = [o["spec"]["scaleTargetRef"]["name"] for o in scaling]
    for server in servers(found):
        name, count = server["metadata"]["name"], targets.count(server["metadata"]["name"])
        if count > 1:
            yield f"{name}: {count} autoscalers"
        if (count == 1) == ("replicas" in server["spec"]):
            yield f"{name}: either an autoscaler or `replicas` has the number"
    for scaler in scaling:
        spec = scaler["spec"]
        least, most = (spec.get(k, spec.get(k + "Count", 0)) for k in ("minReplicas", "maxReplicas")) if "minReplicas" in spec else (spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 0))
        if not 1 <= least < most:
            yield f"{scaler['metadata']['name']}: from {least} to {most} replicas"
        if spec["scaleTargetRef"]["name"] not in [s["metadata"]["name"] for s in servers(found)]:
            yield f"{scaler['metadata']['name']}: scales what is not there"


@policy
def disruption_budget(found):
    for server in servers(found):
        budgets = [b for b in of_kind(found, "PodDisruptionBudget") if selects(b["spec"]["selector"]["matchLabels"], labels_of(server))]
        if len(budgets) != 1:
            yield f"{server['metadata']['name']}: {len(budgets)} disruption budgets"
        elif budgets[0]["spec"].get("maxUnavailable") != 1:
            yield f"{server['metadata']['name']}: not one pod at a time"


@policy
def selectors_match(found):
    for workload in workloads(found):
        if not selects(workload["spec"]["selector"]["matchLabels"], labels_of(workload)):
            yield f"{workload['metadata']['name']}: does not select its own pods"
    for one in workloads(found):
        for other in workloads(found):
            if one is not other and one["kind"] == other["kind"] and selects(one["spec"]["selector"]["matchLabels"], labels_of(other)):
                yield f"{one['metadata']['name']}: selects the pods of {other['metadata']['name']}"
    for service in of_kind(found, "Service"):
        behind = [w for w in workloads(found) if selects(service["spec"]["selector"], labels_of(w))]
        if not behind:
            yield f"{service['metadata']['name']}: no pods behind it"
        for workload in behind:
            ports = {port["name"] for port in container(workload)["ports"]}
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{service['metadata']['name']}: its port {port['name']} is none of {workload['metadata']['name']}"
    for server in servers(found):
        for spread in pod(server).get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"]["matchLabels"], labels_of(server)):
                yield f"{server['metadata']['name']}: spreads other pods"
        if len(pod(server).get("topologySpreadConstraints", [])) < 2:
            yield f"{server['metadata']['name']}: not spread over zones and nodes"


@policy
def ports_are_weirs(found):
    for server in servers(found):
        said = settings(found, server)["server"]
        listens = {"http": said["listen"], "grpc": said["grpc_listen"], "metrics": said["metrics_listen"]}
        ports = {port["name"]: port["containerPort"] for port in container(server)["ports"]}
        for name, address in listens.items():
            host, _, port = (address or "").rpartition(":")
            if host != "0.0.0.0" or ports.get(name) != int(port or 0):
                yield f"{server['metadata']['name']}: the port {name} is not where Weir listens"


def backends(found):
    """(who, Service, its port as name or number) of everything that sends requests to a Service."""
    for ingress in of_kind(found, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                port = path["backend"]["service"]["port"]
                yield f"Ingress {ingress['metadata']['name']}", path["backend"]["service"]["name"], port.get("name", port.get("number"))
    for kind in ("HTTPRoute", "GRPCRoute"):
        for route in of_kind(found, kind):
            for rule in route["spec"]["rules"]:
                for backend in rule.get("backendRefs", []):
                    yield f"{kind} {route['metadata']['name']}", backend["name"], backend["port"]
    for service in of_kind(found, "VirtualService"):
        for route in service["spec"]["http"]:
            for target in route.get("route", []):
                yield f"VirtualService {service['metadata']['name']}", target["destination"]["host"], target["destination"]["port"]["number"]


@policy
def backends_are_there(found):
    ports = {(s["metadata"]["name"], port[key]) for s in of_kind(found, "Service") for port in s["spec"]["ports"] for key in ("name", "port")}
    for who, service, port in backends(found):
        if (service, port) not in ports:
            yield f"{who}: no port {port} of a Service {service}"
    for rule in of_kind(found, "DestinationRule"):
        for subset in rule["spec"].get("subsets", []):
            if not any(selects(subset["labels"], labels_of(server)) for server in servers(found)):
                yield f"DestinationRule {rule['metadata']['name']}: nobody in the subset {subset['name']}"


@policy
def hosts_agree(found):
    [public] = [s["metadata"]["annotations"]["weir.dev/host"] for s in of_kind(found, "Service", "weir")]
    for ingress in of_kind(found, "Ingress"):
        said = [r["host"] for r in ingress["spec"]["rules"]] + [h for t in ingress["spec"]["tls"] for h in t["hosts"]]
        if set(said) != {public}:
            yield f"Ingress {ingress['metadata']['name']}: for {said}, not {public}"
    for kind in ("HTTPRoute", "GRPCRoute"):
        for route in of_kind(found, kind):
            if route["spec"]["hostnames"] != [public]:
                yield f"{kind} {route['metadata']['name']}: not for {public}"
    for gateway in of_kind(found, "Gateway"):
        spec = gateway["spec"]
        said = [l["hostname"] for l in spec.get("listeners", [])] + [h for s in spec.get("servers", []) for h in s["hosts"]]
        if set(said) != {public}:
            yield f"Gateway {gateway['metadata']['name']}: for {said}, not {public}"
    for service in of_kind(found, "VirtualService"):
        if service["spec"]["hosts"] != ["weir", public]:
            yield f"VirtualService {service['metadata']['name']}: not for {public}"


# --- proxies that do not amplify overload

@policy
def weights_are_a_hundred(found):
    routes = [r["route"] for s in of_kind(found, "VirtualService") for r in s["spec"]["http"] if "route" in r]
    routes += [r["backendRefs"] for kind in ("HTTPRoute", "GRPCRoute") for s in of_kind(found, kind) for r in s["spec"]["rules"] if "backendRefs" in r]
    for route in routes:
        if sum(target["weight"] for target in route) != 100 or len(route) != 2:
            yield f"weights {[t['weight'] for t in route]}"


@policy
def timeouts_are_longer_than_weirs(found):
    own = max((seconds(settings(found, server)["server"]["request_timeout"]) for server in servers(found)), default=0)
    said = [(r["name"], r[key]) for s in of_kind(found, "VirtualService") for r in s["spec"]["http"] if "route" in r for key in ("timeout",)]
    said += [(r["name"] + "'s try", r["retries"]["perTryTimeout"]) for s in of_kind(found, "VirtualService") for r in s["spec"]["http"] if "perTryTimeout" in r.get("retries", {})]
    said += [("HTTPRoute", value) for s in of_kind(found, "HTTPRoute") for r in s["spec"]["rules"] for value in r.get("timeouts", {}).values()]
    for ingress in of_kind(found, "Ingress"):
        said += [("Ingress", ingress["metadata"]["annotations"].get(f"nginx.ingress.kubernetes.io/proxy-{what}-timeout", "60") + "s") for what in ("read", "send")]
    for who, text in said:
        if 0 < seconds(text) <= own:
            yield f"{who}: gives up after {text}, before Weir's own answer"


@policy
def idle_connections_end_at_the_proxy(found):
    for server in servers(found):
        own = seconds(settings(found, server)["server"]["header_timeout"])
        # ingress-nginx and Envoy Gateway keep upstream connections for 60 s and 1 h; the rule states the mesh's.
        said = [60.0 for _ in of_kind(found, "Ingress")]
        said += [seconds(rule["spec"]["trafficPolicy"]["connectionPool"]["http"].get("idleTimeout", "1h")) for rule in of_kind(found, "DestinationRule")]
        if said and max(said) >= own:
            yield f"{server['metadata']['name']}: closes idle connections that a proxy still sends into"


SAFE = {"connect-failure", "refused-stream", "reset-before-request"}


@policy
def retries_do_not_amplify(found):
    for service in of_kind(found, "VirtualService"):
        for route in service["spec"]["http"]:
            if "route" not in route:
                continue
            retries = route.get("retries")
            if not retries:
                yield f"{route['name']}: Istio's own retries, which repeat 503 and UNAVAILABLE"
                continue
            conditions = set(retries["retryOn"].split(","))
            allowed = SAFE | ({"reset"} if route["name"] == "stateless-models" else set())
            if conditions - allowed:
                yield f"{route['name']}: tries again after {sorted(conditions - allowed)}"
            if retries["attempts"] > 2:
                yield f"{route['name']}: {retries['attempts']} attempts"
    for rule in of_kind(found, "DestinationRule"):
        policy_of = rule["spec"]["trafficPolicy"]
        if policy_of.get("retryBudget", {}).get("percent", 100) > 20:
            yield f"DestinationRule {rule['metadata']['name']}: no retry budget"
    for ingress in of_kind(found, "Ingress"):
        said = ingress["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/proxy-next-upstream", "error timeout")
        if said.split() != ["error"]:
            yield f"Ingress {ingress['metadata']['name']}: another pod after `{said}`"


@policy
def ejection_leaves_somebody(found):
    for rule in of_kind(found, "DestinationRule"):
        out = rule["spec"]["trafficPolicy"].get("outlierDetection", {})
        if out.get("consecutive5xxErrors", 5) or out.get("consecutiveGatewayErrors", 0) or not out.get("splitExternalLocalOriginErrors"):
            yield "ejects a replica that says 503 because it has enough to do"
        if out.get("maxEjectionPercent", 10) > 50 or out.get("minHealthPercent", 0) < 50:
            yield "may eject more than half, or send everything to the few that are left"


@policy
def mutual_tls(found):
    if not of_kind(found, "VirtualService"):
        return
    for server in servers(found):
        said = [p["spec"] for p in of_kind(found, "PeerAuthentication") if selects(p["spec"]["selector"]["matchLabels"], labels_of(server))]
        if [p["mtls"]["mode"] for p in said] != ["STRICT"]:
            yield f"{server['metadata']['name']}: mutual TLS is not required"
        elif set(said[0].get("portLevelMtls", {})) - {"9090"}:
            yield f"{server['metadata']['name']}: plain text on more than the metrics"
        allowed = [p["spec"] for p in of_kind(found, "AuthorizationPolicy") if selects(p["spec"]["selector"]["matchLabels"], labels_of(server))]
        if not allowed or any(p["action"] != "ALLOW" for p in allowed):
            yield f"{server['metadata']['name']}: nothing says who may call"
        for rule in (rule for p in allowed for rule in p["rules"]):
            ports = {port for to in rule.get("to", [{"operation": {}}]) for port in to["operation"].get("ports", ["all"])}
            if "from" not in rule and ports != {"9090"}:
                yield f"{server['metadata']['name']}: anybody may call {sorted(ports)}"


# --- network policies

def allowed(found, labels, direction):
    """(port, protocol) that NetworkPolicies let in or out of pods with these labels."""
    for rules in of_kind(found, "NetworkPolicy"):
        spec = rules["spec"]
        if not all(labels.get(k) == v for k, v in spec["podSelector"].get("matchLabels", {}).items()):
            continue
        for rule in spec.get(direction, []):
            for port in rule.get("ports", [{"port": "all", "protocol": "all"}]):
                yield rule.get("from" if direction == "ingress" else "to", ["anybody"]), port["port"], port["protocol"]


@policy
def denied_by_default(found):
    for rules in of_kind(found, "NetworkPolicy"):
        spec = rules["spec"]
        if spec["podSelector"] == {} and set(spec["policyTypes"]) == {"Ingress", "Egress"} and not spec.get("ingress") and not spec.get("egress"):
            break
    else:
        yield "no policy that denies everything"
    for workload in workloads(found):
        for direction in ("ingress", "egress"):
            for peers, port, _ in allowed(found, labels_of(workload), direction):
                if peers == ["anybody"] or port == "all" or any("ipBlock" in peer for peer in peers):
                    yield f"{workload['metadata']['name']}: {direction} of {port} for anybody"


@policy
def policies_cover_what_is_used(found):
    def needs(workload):
        name = workload["metadata"]["labels"]["app.kubernetes.io/name"]
        if name == "redis":
            yield "ingress", 6379
            return
        yield "ingress", 8000
        yield "ingress", 9000
        yield "egress", 53
        if of_kind(found, "ServiceMonitor"):
            yield "ingress", 9090
        if of_kind(found, "VirtualService"):
            yield "ingress", 15008
            yield "egress", 15012
        url = (settings(found, workload)["redis"] or {}).get("url")
        if url:
            yield "egress", int(url.rpartition(":")[2].split("/")[0])

    for workload in workloads(found):
        used = set(needs(workload))
        open_ports = {(direction, port) for direction in ("ingress", "egress") for _, port, _ in allowed(found, labels_of(workload), direction)}
        for direction, port in used - open_ports:
            yield f"{workload['metadata']['name']}: {direction} of {port} is denied"
        for direction, port in open_ports - used - ({("ingress", 15020)} if of_kind(found, "VirtualService") else set()):
            yield f"{workload['metadata']['name']}: {direction} of {port} is allowed and not needed"


@policy
def entrances_are_let_in(found):
    wanted = {"Ingress": "ingress-nginx", "HTTPRoute": "envoy-gateway-system", "VirtualService": "istio-system", "ServiceMonitor": "monitoring"}
    for kind, namespace in wanted.items():
        if not of_kind(found, kind):
            continue
        for server in servers(found):
            let_in = [peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") for peers, _, _ in allowed(found, labels_of(server), "ingress") for peer in peers]
            if namespace not in let_in:
                yield f"{server['metadata']['name']}: the namespace {namespace} may not enter"


@policy
def redis_is_shared(found):
    for redis in of_kind(found, "StatefulSet", "redis"):
        for server in servers(found):
            said = settings(found, server)
            url = (said["redis"] or {}).get("url", "")
            host = url.removeprefix("redis://").partition(":")[0]
            if host not in [s["metadata"]["name"] for s in of_kind(found, "Service") if selects(s["spec"]["selector"], labels_of(redis))]:
                yield f"{server['metadata']['name']}: does not use the Redis that is there"
            if said["state"]["store"] != "redis":
                yield f"{server['metadata']['name']}: its state is its own"
            mounts = [m["mountPath"] for m in container(server)["volumeMounts"]]
            if not any((said["redis"] or {}).get("password_file", "").startswith(m + "/") for m in mounts):
                yield f"{server['metadata']['name']}: the password's file is not mounted"


@policy
def writable_folders_are_volumes(found):
    for server in servers(found):
        said = settings(found, server)
        mounts = {m["mountPath"]: m.get("readOnly", False) for m in container(server)["volumeMounts"]}
        folder = said["state"]["path"].rpartition("/")[0]
        if mounts.get(folder, True):
            yield f"{server['metadata']['name']}: {folder} cannot be written"
        if mounts.get("/tmp", True):
            yield f"{server['metadata']['name']}: /tmp cannot be written"
        if not mounts.get("/etc/weir", False):
            yield f"{server['metadata']['name']}: the configuration can be written"


def problems(found):
    """All of them, each with the policy's name."""
    return [f"{name}: {problem}" for name, check in POLICIES.items() for problem in check(found)]
