"""Who scales, and what has to fit together."""

from manifests import container, of_kind, pod, quantity, servers, settings, workloads
from policies.registry import labels_of, policy, selects


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


@policy
def admin_stays_inside(found):
    """Who reaches the admin API may empty the cache, and it asks for no credentials."""
    for server in servers(found):
        name = server["metadata"]["name"]
        try:
            address = settings(found, server)["server"]["admin_listen"]
        except AssertionError as refused:
            # Weir itself takes no other address than loopback.
            if "server.admin_listen" not in str(refused):
                raise
            yield f"{name}: {refused}"
            continue
        host, _, port = (address or "").rpartition(":")
        if host not in ("127.0.0.1", "[::1]"):
            yield f"{name}: `weir cache` finds no admin API on loopback, it is at {address}"
        if port in [str(said["containerPort"]) for said in container(server)["ports"]]:
            yield f"{name}: the admin API's port {port} is one of the pod's"
        for service in of_kind(found, "Service"):
            if port in [str(said["targetPort"]) for said in service["spec"]["ports"]]:
                yield f"Service {service['metadata']['name']}: leads to the admin API"
        for rules in of_kind(found, "NetworkPolicy"):
            for rule in rules["spec"].get("ingress", []):
                if port in [str(said["port"]) for said in rule.get("ports", [])]:
                    yield f"NetworkPolicy {rules['metadata']['name']}: lets in to the admin API"


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
    subsets = {(rule["spec"]["host"], s["name"]) for rule in of_kind(found, "DestinationRule") for s in rule["spec"].get("subsets", [])}
    gateways = {"mesh", *(gateway["metadata"]["name"] for gateway in of_kind(found, "Gateway"))}
    for service in of_kind(found, "VirtualService"):
        name = service["metadata"]["name"]
        targets = {(to["destination"]["host"], to["destination"]["subset"]) for r in service["spec"]["http"] for to in r.get("route", [])}
        yield from (f"VirtualService {name}: nothing says what the subset {missing} is" for missing in targets - subsets)
        yield from (f"VirtualService {name}: no Gateway {missing}" for missing in set(service["spec"]["gateways"]) - gateways)
    for rule in of_kind(found, "DestinationRule"):
        for subset in rule["spec"].get("subsets", []):
            if not any(selects(subset["labels"], labels_of(server)) for server in servers(found)):
                yield f"DestinationRule {rule['metadata']['name']}: nobody in the subset {subset['name']}"


@policy
def one_kind_of_route(found):
    """Gateway API, GRPCRouteSpec.hostnames: of an HTTPRoute and a GRPCRoute on one listener with a host in common,
    exactly one is accepted."""
    places = {}
    for kind in ("HTTPRoute", "GRPCRoute"):
        for route in of_kind(found, kind):
            for parent in route["spec"]["parentRefs"]:
                for host in route["spec"]["hostnames"]:
                    places.setdefault((parent["name"], parent.get("sectionName"), host), set()).add(kind)
    for place, kinds in places.items():
        if len(kinds) > 1:
            yield f"HTTPRoute and GRPCRoute at {place}: a gateway takes one of them"


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


@policy
def tracks_are_apart(found):
    """Where a proxy shares requests out between two Services, each has its own pods and no other."""
    for track in ("stable", "canary"):
        for service in of_kind(found, "Service", f"weir-{track}"):
            chosen = [labels_of(server).get("weir.dev/track") for server in servers(found) if selects(service["spec"]["selector"], labels_of(server))]
            if chosen != [track]:
                yield f"Service weir-{track}: sends to {chosen}"


@policy
def grpc_is_spoken(found):
    """All the way: proxies take the protocol from the Service's port, nginx from its Ingress; and a stream is not cut off."""
    for service in of_kind(found, "Service"):
        for port in service["spec"]["ports"]:
            if port["name"] == "grpc" and port.get("appProtocol") != "kubernetes.io/h2c":
                yield f"Service {service['metadata']['name']}: the port grpc does not say h2c"
    for ingress in of_kind(found, "Ingress"):
        named = {path["backend"]["service"]["port"]["name"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
        spoken = ingress["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/backend-protocol")
        if (named, spoken) not in (({"http"}, "HTTP"), ({"grpc"}, "GRPC")):
            yield f"Ingress {ingress['metadata']['name']}: speaks {spoken} to {named}"
    for route in of_kind(found, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            streams = any("Stream" in match["path"]["value"] for match in rule.get("matches", []))
            if streams and rule.get("timeouts") != {"request": "0s", "backendRequest": "0s"}:
                yield f"HTTPRoute {route['metadata']['name']}: ends streams"


@policy
def bodies_fit_through_the_entrance(found):
    for ingress in of_kind(found, "Ingress"):
        most = max(quantity(settings(found, server)["server"]["max_body"]) for server in servers(found))
        said = ingress["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/proxy-body-size", "1m")
        if quantity(said.upper() + "i") != most:
            yield f"Ingress {ingress['metadata']['name']}: lets {said} through, Weir takes {most:.0f} bytes"


@policy
def metrics_are_scraped(found):
    """Of every pod once, the canary as a job of its own, which is what alerts and scaling ask."""
    for monitor in of_kind(found, "ServiceMonitor"):
        chosen = [s for s in of_kind(found, "Service") if selects(monitor["spec"]["selector"].get("matchLabels"), s["metadata"].get("labels", {}))]
        [end] = monitor["spec"]["endpoints"]
        ports = [port["name"] for s in chosen for port in s["spec"]["ports"]]
        if [s["metadata"]["name"] for s in chosen] != ["weir"] or end.get("port") not in ports or end.get("path") != "/metrics":
            yield f"ServiceMonitor {monitor['metadata']['name']}: scrapes {[s['metadata']['name'] for s in chosen]} at {end.get('port')}{end.get('path')}"
        elif not all(selects(chosen[0]["spec"]["selector"], labels_of(server)) for server in servers(found)):
            yield f"ServiceMonitor {monitor['metadata']['name']}: not of every server"
        canary = {"sourceLabels": ["__meta_kubernetes_pod_label_weir_dev_track"], "regex": "canary", "targetLabel": "job", "replacement": "weir-canary"}
        if canary not in end.get("relabelings", []):
            yield f"ServiceMonitor {monitor['metadata']['name']}: the canary is one of the replicas"
    for scaled in of_kind(found, "ScaledObject"):
        for asked in (t["metadata"]["query"] for t in scaled["spec"]["triggers"] if t["type"] == "prometheus"):
            if asked != f'sum(weir_requests_in_flight{{namespace="{scaled["metadata"]["namespace"]}",job="weir"}})':
                yield f"ScaledObject {scaled['metadata']['name']}: asks {asked}"


@policy
def callers_come_over_tls(found):
    """Through every entrance: what comes in plain text is sent to https, and gets no answer of Weir's."""
    for ingress in of_kind(found, "Ingress"):
        covered = {host for tls in ingress["spec"].get("tls", []) if tls.get("secretName") for host in tls["hosts"]}
        redirects = ingress["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/ssl-redirect") == "true"
        if not redirects or {rule["host"] for rule in ingress["spec"]["rules"]} - covered:
            yield f"Ingress {ingress['metadata']['name']}: plain text is answered"
    plain = set()
    for gateway in of_kind(found, "Gateway"):
        name, spec = gateway["metadata"]["name"], gateway["spec"]
        for server in spec.get("servers", []):
            tls = server.get("tls", {})
            encrypted = tls.get("mode") in ("SIMPLE", "MUTUAL") and tls.get("credentialName") and tls.get("minProtocolVersion") in ("TLSV1_2", "TLSV1_3")
            if not (encrypted if server["port"]["protocol"] == "HTTPS" else tls.get("httpsRedirect")):
                yield f"Gateway {name}: plain text on {server['port']['number']}"
        for listener in spec.get("listeners", []):
            if not listener.get("tls", {}).get("certificateRefs"):
                plain.add((name, listener["name"]))
        ports = {place["port"]["number"] for place in spec.get("servers", [])} | {place["port"] for place in spec.get("listeners", [])}
        if 443 not in ports:
            yield f"Gateway {name}: nobody listens on 443"
    for route in of_kind(found, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            answers = any("backendRefs" in rule for rule in route["spec"]["rules"])
            if answers and ("sectionName" not in parent or (parent["name"], parent["sectionName"]) in plain):
                yield f"HTTPRoute {route['metadata']['name']}: answers plain text"


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
