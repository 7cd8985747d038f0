"""Weir as a runtime of KServe. There is no schema to be had: the structure is checked against the keys that KServe
documents, and the real binary is run with the manifest's arguments on a folder as the storage initializer leaves it."""

import shutil
import tempfile
import unittest
from pathlib import Path

from manifests import DEPLOY, ROOT, kustomize, objects, quantity, seconds
from process import ask, weir

RUNTIME_SPEC = {"annotations", "supportedModelFormats", "protocolVersions", "multiModel", "containers"}
PREDICTOR = {"automountServiceAccountToken", "enableServiceLinks", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "canaryTrafficPercent", "model"}
MODEL = {"modelFormat", "runtime", "protocolVersion", "storageUri", "ports"}
STORAGE = ("s3://", "gs://", "pvc://", "oci://", "hf://", "https://")


def problems(found):
    runtimes = {o["metadata"]["name"]: o["spec"] for o in found if o["kind"] == "ClusterServingRuntime"}
    for name, spec in runtimes.items():
        yield from (f"{name}: {key}" for key in set(spec) - RUNTIME_SPEC)
        [one] = spec["containers"]
        if one["name"] != "kserve-container":
            yield f"{name}: KServe fills in a container named kserve-container"
        if "/mnt/models" not in one["args"]:
            yield f"{name}: does not read /mnt/models"
        listens = one["args"][one["args"].index("--listen") + 1] if "--listen" in one["args"] else ""
        if listens != f"0.0.0.0:{one['ports'][0]['containerPort']}":
            yield f"{name}: listens elsewhere than its port"
        if one["ports"][0]["name"] not in ("http1", "h2c"):
            yield f"{name}: Knative takes the protocol from the port's name"
        context = one["securityContext"]
        if not (context["runAsNonRoot"] and context["runAsUser"] >= 10000 and context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"] and context["capabilities"] == {"drop": ["ALL"]}):
            yield f"{name}: not hardened"
        if quantity(one["resources"]["requests"]["memory"]) > quantity(one["resources"]["limits"]["memory"]):
            yield f"{name}: requests more than its limit"
        said = {v["name"]: v["value"] for v in one["env"]}
        if seconds(said["WEIR_SERVER__DRAIN_DELAY"]) + seconds(said["WEIR_SERVER__DRAIN_TIMEOUT"]) + 5 > 30:
            yield f"{name}: killed before it has drained"
    for service in (o for o in found if o["kind"] == "InferenceService"):
        name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
        model = predictor["model"]
        yield from (f"{name}: {key}" for key in (set(predictor) - PREDICTOR) | (set(model) - MODEL))
        runtime = runtimes.get(model["runtime"])
        if not runtime:
            yield f"{name}: no runtime {model['runtime']}"
            continue
        if model["modelFormat"]["name"] not in [f["name"] for f in runtime["supportedModelFormats"]]:
            yield f"{name}: a format that the runtime does not read"
        if model["protocolVersion"] not in runtime["protocolVersions"]:
            yield f"{name}: a protocol that the runtime does not speak"
        if (model["protocolVersion"] == "grpc-v2") != any(port["name"] == "h2c" for port in model.get("ports", [])):
            yield f"{name}: gRPC and the port h2c go together"
        if not model["storageUri"].startswith(STORAGE):
            yield f"{name}: no storage that KServe knows"
        if not 0 <= predictor.get("canaryTrafficPercent", 0) <= 100:
            yield f"{name}: not a share of a hundred"
        if not 1 <= predictor["minReplicas"] < predictor["maxReplicas"]:
            yield f"{name}: replicas"


def rendered():
    return kustomize(DEPLOY / "kserve") + objects((DEPLOY / "kserve/housing-canary.yaml").read_text())


class Structure(unittest.TestCase):
    def test_it_is_what_kserve_documents(self):
        found = rendered()
        self.assertEqual(len(found), 5)
        self.assertEqual(list(problems(found)), [])

    def test_mistakes_are_found(self):
        runtime = lambda found: next(o for o in found if o["kind"] == "ClusterServingRuntime")["spec"]
        service = lambda found, name: next(o for o in found if o["metadata"]["name"] == name)["spec"]["predictor"]
        mistakes = [
            lambda f: runtime(f).update(protocolVersion=["v2"]),
            lambda f: runtime(f)["containers"][0].update(name="weir"),
            lambda f: runtime(f)["containers"][0]["args"].remove("/mnt/models"),
            lambda f: runtime(f)["containers"][0]["ports"][0].update(containerPort=8000),
            lambda f: runtime(f)["containers"][0]["securityContext"].update(runAsUser=0),
            lambda f: runtime(f)["containers"][0]["env"][1].update(value="20s"),
            lambda f: service(f, "housing").update(canaryPercent=10),
            lambda f: service(f, "housing")["model"].update(runtime="wier"),
            lambda f: service(f, "housing")["model"].update(protocolVersion="v1"),
            lambda f: service(f, "housing")["model"].update(storageUri="/models"),
            lambda f: service(f, "sentiment-grpc")["model"].pop("ports"),
            lambda f: service(f, "sentiment")["model"]["modelFormat"].update(name="sklearn"),
        ]
        for number, mistake in enumerate(mistakes):
            with self.subTest(number):
                found = rendered()
                mistake(found)
                self.assertTrue(list(problems(found)))


class Runs(unittest.TestCase):
    def serve(self, models):
        """The container's arguments and variables, with /mnt/models and the port replaced."""
        [one] = next(o for o in rendered() if o["kind"] == "ClusterServingRuntime")["spec"]["containers"]
        swap = {"/mnt/models": str(models), "0.0.0.0:8080": "127.0.0.1:0"}
        env = {v["name"]: v["value"] for v in one["env"]} | {"WEIR_SERVER__DRAIN_DELAY": "0s"}
        probes = [one[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
        return weir([swap.get(word, word) for word in one["args"]], env, models.parent), probes

    def model(self, name, folder):
        """What the storage initializer downloads: the model's files, right in the folder."""
        source = {"housing": ROOT / "examples/models/housing", "sentiment": ROOT / ".cache/sentiment"}[name]
        shutil.copytree(source, Path(folder, "models"))
        return Path(folder, "models")

    def test_housing_speaks_v2(self):
        with tempfile.TemporaryDirectory() as folder:
            process, probes = self.serve(self.model("housing", folder))
            with process as (_, port):
                for path in probes:
                    self.assertEqual(ask(port, path)[0], 200, path)
                self.assertEqual(ask(port, "/v2/models/housing/ready")[0], 200)
                metadata = ask(port, "/v2/models/housing")[2]
                [wanted] = metadata["inputs"]
                row = [4.375, 38.0, 5.4, 0.97, 830.0, 3.49, 34.18, -118.17]
                self.assertEqual(wanted["shape"], [-1, len(row)])
                body = {"inputs": [{"name": wanted["name"], "datatype": wanted["datatype"], "shape": [2, 8], "data": row + row}]}
                status, _, answer = ask(port, "/v2/models/housing/infer", body)
                self.assertEqual(status, 200, answer)
                self.assertTrue(all(output["shape"][0] == 2 for output in answer["outputs"]))
                self.assertEqual(ask(port, "/metrics")[0], 200)

    def test_sentiment_speaks_v2_from_a_linked_folder(self):
        """With `oci://`, /mnt/models is a link into the other container."""
        with tempfile.TemporaryDirectory() as folder:
            real = self.model("sentiment", folder)
            link = Path(folder, "mnt")
            link.symlink_to(real)
            process, _ = self.serve(link)
            with process as (_, port):
                body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["I love you!", "I hate you!"]}]}
                status, _, answer = ask(port, "/v2/models/sentiment/infer", body)
                self.assertEqual(status, 200, answer)
                [scores] = answer["outputs"]
                # Columns are negative and positive.
                loves, hates = scores["data"][:2], scores["data"][2:]
                self.assertTrue(loves[1] > 0.5 > loves[0] and hates[0] > 0.5 > hates[1], answer)


if __name__ == "__main__":
    unittest.main()
