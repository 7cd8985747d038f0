"""What a pod may, and how much it gets."""

import re
from pathlib import Path

from manifests import container, of_kind, pod, quantity, servers, settings, workloads
from policies.registry import each_container, policy


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


# resources

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


@policy
def redis_keeps_what_it_is_told(found):
    """It reads the configuration and the users that are mounted, and writes to a volume that outlives the pod."""
    for redis in of_kind(found, "StatefulSet", "redis"):
        [config] = [c for c in of_kind(found, "ConfigMap") if "redis.conf" in c.get("data", {})]
        said = dict(line.split(" ", 1) for line in config["data"]["redis.conf"].splitlines() if line and not line.startswith("#"))
        mounts = {m["mountPath"]: m["name"] for m in container(redis).get("volumeMounts", [])}
        volumes = {v["name"]: v for v in pod(redis).get("volumes", [])}
        file, users = "/etc/redis/redis.conf", Path(said.get("aclfile", "/none"))
        if container(redis).get("command") != ["redis-server", file] or volumes.get(mounts.get("/etc/redis"), {}).get("configMap", {}).get("name") != config["metadata"]["name"]:
            yield "redis: does not read its configuration"
        secret = volumes.get(mounts.get(str(users.parent)), {}).get("secret", {})
        if secret.get("secretName") != "weir-redis" or users.name not in [item["path"] for item in secret.get("items", [])]:
            yield "redis: has no users, so that anybody may do everything"
        kept = [claim["metadata"]["name"] for claim in redis["spec"].get("volumeClaimTemplates", [])]
        if said.get("appendonly") != "yes" or said.get("appendfsync") != "everysec" or mounts.get(said.get("dir")) not in kept:
            yield "redis: what was written is lost with the pod"
        if redis["spec"].get("replicas") != 1:
            yield "redis: several would not know of each other"
        ping = {"command": ["redis-cli", "-e", "ping"]}
        if any(container(redis).get(probe, {}).get("exec") != ping for probe in ("startupProbe", "readinessProbe")) or "tcpSocket" not in container(redis).get("livenessProbe", {}):
            yield "redis: nobody asks whether it answers; or it is restarted because it loads"
