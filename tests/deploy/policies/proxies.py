"""Proxies that do not amplify overload, and mutual TLS."""

from manifests import of_kind, seconds, servers, settings
from policies.registry import labels_of, policy, selects


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
        # ingress-nginx keeps connections to pods for 60 s unless its own ConfigMap says otherwise; the mesh's rule says it.
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
            # The budget below bounds what they come to; three, since a replica that died is drawn more than once.
            if retries["attempts"] > 3:
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
    for one in of_kind(found, "DestinationRule"):
        if one["spec"]["trafficPolicy"].get("tls") != {"mode": "ISTIO_MUTUAL"}:
            yield f"{one['metadata']['name']}: proxies do not say who they are"
    for server in servers(found):
        said = [p["spec"] for p in of_kind(found, "PeerAuthentication") if selects(p["spec"]["selector"]["matchLabels"], labels_of(server))]
        if [p["mtls"]["mode"] for p in said] != ["STRICT"]:
            yield f"{server['metadata']['name']}: mutual TLS is not required"
        elif set(said[0].get("portLevelMtls", {})) - {"9090"}:
            yield f"{server['metadata']['name']}: plain text on more than the metrics"
        elif of_kind(found, "ServiceMonitor") and said[0].get("portLevelMtls", {}).get("9090") != {"mode": "PERMISSIVE"}:
            yield f"{server['metadata']['name']}: a Prometheus outside the mesh reads no metrics"
        allowed = [p["spec"] for p in of_kind(found, "AuthorizationPolicy") if selects(p["spec"]["selector"]["matchLabels"], labels_of(server))]
        if not allowed or any(p["action"] != "ALLOW" for p in allowed):
            yield f"{server['metadata']['name']}: nothing says who may call"
        for rule in (rule for p in allowed for rule in p["rules"]):
            ports = {port for to in rule.get("to", [{"operation": {}}]) for port in to["operation"].get("ports", ["all"])}
            if "from" not in rule and ports != {"9090"}:
                yield f"{server['metadata']['name']}: anybody may call {sorted(ports)}"
