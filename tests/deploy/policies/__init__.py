"""What every rendering has to keep to. Each policy is a function from all objects to problems; `test_policies.py` breaks a good
rendering once or more for each of them, so that none is a check that cannot fail."""

from policies import lifecycle, network, pods, proxies, wiring  # noqa: F401: they register themselves
from policies.registry import POLICIES


def problems(found):
    """All of them, each with the policy's name."""
    return [f"{name}: {problem}" for name, check in POLICIES.items() for problem in check(found)]
