"""Network policies: nothing but what is needed."""

from manifests import of_kind, servers, settings, workloads
from policies.registry import labels_of, policy


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
