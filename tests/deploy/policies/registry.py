"""Where policies are kept, and what several of them ask."""

from manifests import pod, workloads

POLICIES = {}


def policy(function):
    """A function from all objects of a rendering to its problems."""
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
