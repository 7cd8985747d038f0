"""Every object fits its schema: Kubernetes' own for several versions, custom resources by those of their CRDs."""

import copy
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate

from manifests import DEPLOY, ENVIRONMENTS, ROOT, VENV, chart, combined, everything, kustomize, overlay, run, the

VERSIONS = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34")
CUSTOM = ("istio.io", "gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com")


def is_custom(found):
    return any(found["apiVersion"].split("/")[0].endswith(group) for group in CUSTOM)


def problems(found):
    """(object, problem), each object that occurs more than once asked once."""
    unique = list({json.dumps(o, sort_keys=True): o for o in found}.values())
    custom = [o for o in unique if is_custom(o)]
    for index, problem in json.loads(run("node", Path(__file__).with_name("schemas.mjs"), VENV / "schemas", stdin=json.dumps(custom))):
        yield custom[index], problem
    for one in unique:
        for version in VERSIONS if not is_custom(one) else ():
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield one, f"{version}: {error.message}"


def told(found):
    return [f"{one['kind']} {one['metadata']['name']}: {problem}" for one, problem in problems(found)]


class Schemas(unittest.TestCase):
    def test_everything_fits(self):
        found = [one for _, objects in everything() for one in objects]
        found += [one for environment in (None, *ENVIRONMENTS) for one in chart(environment)]
        self.assertGreater(sum(map(is_custom, found)), 100)
        self.assertEqual(told(found), [])

    def test_mistakes_are_found(self):
        def broken(kind, change, name="weir"):
            found = the(everything_once, kind, name)
            change(found["spec"])
            return found

        everything_once = overlay("prod") + overlay("staging")
        everything_once = [copy.deepcopy(o) for o in {(o["kind"], o["metadata"]["name"]): o for o in everything_once}.values()]
        mistakes = [
            broken("Deployment", lambda s: s["template"]["spec"]["containers"][0]["readinessProbe"].update(periodSecond=1)),
            broken("PodDisruptionBudget", lambda s: s.update(maxUnavailable=[1])),
            broken("NetworkPolicy", lambda s: s.update(policyType=["Ingress"]), "default-deny"),
            broken("VirtualService", lambda s: s["http"][1]["route"][0].update(weight="ninety")),
            broken("DestinationRule", lambda s: s["trafficPolicy"]["outlierDetection"].update(maxEjectonPercent=50)),
            broken("PeerAuthentication", lambda s: s["mtls"].update(mode="STRIKT")),
            broken("AuthorizationPolicy", lambda s: s.update(action="PERMIT")),
            broken("HTTPRoute", lambda s: s["rules"][0]["backendRefs"][0].update(weight=-1)),
            broken("HTTPRoute", lambda s: s["rules"][1]["matches"][0]["path"].update(type="Prefix")),
            broken("ScaledObject", lambda s: s.update(minReplicas=1)),
            broken("ServiceMonitor", lambda s: s.update(sampleLimit="many")),
            broken("PrometheusRule", lambda s: s["groups"][0]["rules"][0].update(exprs="up")),
        ]
        for one in mistakes:
            with self.subTest(one["kind"]):
                self.assertTrue(told([one]))


class Chart(unittest.TestCase):
    def test_lint(self):
        for environment in ENVIRONMENTS:
            values = DEPLOY / "helm/environments" / f"{environment}.yaml"
            run(VENV / "bin/helm", "lint", "--strict", DEPLOY / "helm/weir", "--values", values)

    def test_values_have_a_schema(self):
        for wrong in ("replicas.min=0", "replcas.min=2", "canary.weight=101", "image.tag=latest", "env.RUST_LOG=debug", "terminationGracePeriodSeconds=5", "host=", "resources.limits.cpus=1"):
            with self.subTest(wrong):
                error = run(VENV / "bin/helm", "template", "weir", DEPLOY / "helm/weir", "--set", wrong, fails=True)
                self.assertIn("values don't meet the specifications of the schema", error)

    def test_weights_need_a_canary(self):
        error = run(VENV / "bin/helm", "template", "weir", DEPLOY / "helm/weir", "--set", "istio.enabled=true", fails=True)
        self.assertIn("set canary.enabled", error)

    def test_package(self):
        """Links in the chart are followed: the archive has what they point at."""
        with tempfile.TemporaryDirectory() as folder:
            run(VENV / "bin/helm", "package", DEPLOY / "helm/weir", "--destination", folder)
            [archive] = Path(folder).iterdir()
            values = DEPLOY / "helm/environments/prod.yaml"
            unpacked = run(VENV / "bin/helm", "template", "weir", archive, "--namespace", "weir-prod", "--values", values)
            direct = run(VENV / "bin/helm", "template", "weir", DEPLOY / "helm/weir", "--namespace", "weir-prod", "--values", values)
            self.assertEqual(unpacked, direct)

    def test_the_overlay_and_the_chart_are_the_same(self):
        for environment in ENVIRONMENTS:
            with self.subTest(environment):
                self.maxDiff = None
                self.assertEqual(normalised(chart(environment)), normalised(overlay(environment)))

    def test_weights_are_those_of_the_values(self):
        for weight in (0, 25, 90):
            mesh = chart("prod", "--set", f"canary.weight={weight}")
            gateway = chart("staging", "--set", f"canary.weight={weight}")
            routes = [r["route"] for r in the(mesh, "VirtualService")["spec"]["http"] if "route" in r]
            routes += [rule["backendRefs"] for rule in the(gateway, "HTTPRoute")["spec"]["rules"]]
            self.assertEqual([[target["weight"] for target in route] for route in routes], [[100 - weight, weight]] * 7)

    def test_public_routes_are_those_of_the_values(self):
        chosen = ("--set", "publicRoutes={/mine,/a/b}", "--set", "ingress.enabled=true")
        mesh, gateway = chart("prod", *chosen), chart("staging", *chosen)
        self.assertIn("|mine|a/b)$", the(gateway, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["path"])
        said = [match["path"]["value"] for match in the(gateway, "HTTPRoute")["spec"]["rules"][0]["matches"]]
        self.assertIn("^/(mine|a/b)$", said)
        said = [to["operation"]["paths"] for to in the(mesh, "AuthorizationPolicy")["spec"]["rules"][0]["to"]]
        self.assertIn(["/mine", "/a/b"], said)
        # A route of one's own is not thereby one that may be sent again.
        self.assertNotIn("mine", json.dumps(the(mesh, "VirtualService")))

    def test_a_change_of_configuration_is_a_rollout(self):
        """Of the pods' template: other names (kustomize), another annotation (Helm)."""
        template = lambda found: json.dumps(the(found, "Deployment")["spec"]["template"], sort_keys=True)
        before = template(combined("prod", ()))
        with tempfile.TemporaryDirectory() as folder:
            for path in ("base", "environments"):
                shutil.copytree(DEPLOY / "k8s" / path, Path(folder, path))
            self.assertEqual(template(kustomize(f"{folder}/environments/prod")), before)
            with Path(folder, "base/weir.toml").open("a") as config:
                config.write("# A word more.\n")
            self.assertNotEqual(template(kustomize(f"{folder}/environments/prod")), before)
        before = template(chart("prod"))
        for change in (("--set", "env.WEIR_LOG__LEVEL=debug"), ("--set", "config=[server]")):
            self.assertNotEqual(template(chart("prod", *change)), before)
        self.assertEqual(template(chart("prod", "--set", "replicas.max=20")), before)

    def test_a_difference_is_seen(self):
        changed = chart("prod", "--set", "resources.limits.memory=3Gi")
        self.assertNotEqual(normalised(changed), normalised(overlay("prod")))


def normalised(found):
    """Objects by kind and name, without what the two tools do differently:

    - kustomize appends a hash to names of generated ConfigMaps, the chart has `checksum/config` on the pods;
    - the chart adds its own labels; it is installed into a namespace, and makes none.
    """
    hashed = {o["metadata"]["name"]: o["metadata"]["name"].rpartition("-")[0] for o in found if o["kind"] == "ConfigMap" and len(o["metadata"]["name"].rpartition("-")[2]) == 10 and "dashboard" not in o["metadata"]["name"]}

    def names(value):
        if isinstance(value, dict):
            return {key: names(item) for key, item in value.items()}
        if isinstance(value, list):
            return [names(item) for item in value]
        return hashed.get(value, value) if isinstance(value, str) else value

    result = {}
    for one in names(found):
        meta = one["metadata"]
        meta.pop("namespace", None)
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            meta.get("labels", {}).pop(label, None)
        # A ConfigMap has labels in the chart alone.
        if one["kind"] == "ConfigMap" and meta.get("labels") in ({}, {"app.kubernetes.io/name": "weir"}):
            meta.pop("labels")
        if one["kind"] == "Deployment":
            one["spec"]["template"]["metadata"]["annotations"].pop("checksum/config", None)
        if one["kind"] != "Namespace":
            result[f"{one['apiVersion']} {one['kind']} {meta['name']}"] = one
    return result


if __name__ == "__main__":
    unittest.main()
