"""Probes, the way out, and rollouts."""

from manifests import container, of_kind, pod, seconds, servers, settings, workloads
from policies.registry import policy


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
