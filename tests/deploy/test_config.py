"""The real binary on what the manifests give it: configuration, probes, the way out, Redis with its users."""

import json
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

import manifests
from manifests import ENVIRONMENTS, ROOT, WEIR, clean_environment, container, mounted_config, overlay, seconds, servers, settings, the
from process import ask, redis, redis_reply, until, weir

MODELS = json.dumps([str(ROOT / "examples/models/housing"), str(ROOT / ".cache/sentiment")])
HOUSE = json.loads((ROOT / "examples/models/housing/samples.jsonl").read_text().splitlines()[0])
HOUSE = HOUSE.get("input", HOUSE)
# What is another place here than in a container.
HERE = {"WEIR_SERVER__LISTEN": "127.0.0.1:0", "WEIR_SERVER__GRPC_LISTEN": "127.0.0.2:0", "WEIR_SERVER__METRICS_LISTEN": "127.0.0.3:0",
        "WEIR_SERVER__ADMIN_LISTEN": "127.0.0.4:0", "WEIR_SERVER__MODELS": MODELS}


def place(folder, found, server):
    """Writes weir.toml as the ConfigMap has it; returns the variables of the container, with those of this machine over them."""
    text, variables = mounted_config(found, server)
    Path(folder, "weir.toml").write_text(text)
    Path(folder, "password").write_text("correct-horse-battery-staple\n")
    here = dict(HERE)
    if "WEIR_REDIS__PASSWORD_FILE" in variables:
        here["WEIR_REDIS__PASSWORD_FILE"] = str(Path(folder, "password"))
    return variables | here


def arguments(server):
    """The container's own, with the folder of the ConfigMap replaced."""
    args = container(server)["args"]
    assert args == ["serve", "--config", "/etc/weir/weir.toml"], args
    return [word.replace("/etc/weir/", "") for word in args]


class Config(unittest.TestCase):
    def check(self, folder, env):
        return subprocess.run([WEIR, "config", "check", "--config", "weir.toml"], cwd=folder, env=clean_environment() | env, capture_output=True, text=True)

    def test_every_overlays_configuration_is_accepted(self):
        checked = 0
        for environment in ENVIRONMENTS:
            found = overlay(environment)
            for server in servers(found):
                with self.subTest(f"{environment}: {server['metadata']['name']}"), tempfile.TemporaryDirectory() as folder:
                    done = self.check(folder, place(folder, found, server))
                    self.assertEqual((done.returncode, done.stdout), (0, "ok: 2 models, 3 declared routes\n"), done.stderr)
                    checked += 1
        self.assertEqual(checked, 5)

    def test_a_wrong_setting_is_not(self):
        found = overlay("prod")
        with tempfile.TemporaryDirectory() as folder:
            env = place(folder, found, servers(found)[0]) | {"WEIR_CACHE__BUDGTE": "1GiB"}
            self.assertIn("budgte", self.check(folder, env).stderr)

    def test_environments_differ_as_they_say(self):
        said = {name: settings(overlay(name), servers(overlay(name))[0]) for name in ENVIRONMENTS}
        self.assertEqual([said[e]["state"]["store"] for e in ENVIRONMENTS], ["memory", "redis", "redis"])
        self.assertEqual([said[e]["log"]["level"] for e in ENVIRONMENTS], ["debug", "info", "info"])
        self.assertEqual([seconds(said[e]["server"]["drain_delay"]) for e in ENVIRONMENTS], [1, 10, 10])
        self.assertEqual(said["prod"]["redis"]["username"], "weir")

    def test_probes_answer_and_the_drain_is_within_the_grace(self):
        """The development environment's, with a delay that leaves a busy machine the time to ask."""
        found = overlay("dev")
        server = servers(found)[0]
        probes = {kind: container(server)[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
        with tempfile.TemporaryDirectory() as folder:
            env = place(folder, found, server) | {"WEIR_SERVER__DRAIN_DELAY": "5s"}
            with weir(arguments(server), env, folder) as (process, port):
                for kind, path in probes.items():
                    self.assertEqual(ask(port, path)[0], 200, kind)
                # They are on their own port: who is let in to 8000 reads no metrics.
                self.assertEqual(ask(port, "/metrics")[0], 404)
                process.send_signal(signal.SIGTERM)
                until(lambda: ask(port, probes["readinessProbe"])[0] == 503, "not ready")
                # Not ready, and alive: nobody kills it, and it answers on.
                status, headers, _ = ask(port, "/predict", HOUSE)
                self.assertEqual((status, headers["Connection"]), (200, "close"))
                self.assertEqual(ask(port, probes["livenessProbe"])[0], 200)
                grace = manifests.pod(server)["terminationGracePeriodSeconds"]
                self.assertEqual(process.wait(timeout=grace), 0)


class Redis(unittest.TestCase):
    def test_replicas_share_answers_and_keys_through_the_redis_of_the_component(self):
        found = overlay("prod")
        [config] = [o["data"]["redis.conf"] for o in found if o["kind"] == "ConfigMap" and "redis.conf" in o["data"]]
        stable, canary = servers(found)
        with tempfile.TemporaryDirectory() as folder, redis(config, users("correct-horse-battery-staple")) as port:
            # What the probes ask works for the user that needs no password, and nothing else does.
            probe = container(the(found, "StatefulSet", "redis"))["readinessProbe"]["exec"]["command"]
            self.assertEqual(probe[:2], ["redis-cli", "-e"])
            self.assertEqual(redis_reply(port, " ".join(probe[2:])), "+PONG")
            self.assertIn("NOPERM", redis_reply(port, "get weir:x"))
            env = place(folder, found, stable) | {"WEIR_REDIS__URL": f"redis://127.0.0.1:{port}/0"}
            # No other sentence does: the first answer is no hit.
            body, key = {"text": ["as good as it gets"]}, {"Idempotency-Key": "7f1c"}
            with weir(arguments(stable), env, folder) as (_, one), weir(arguments(canary), env, folder) as (_, other):
                first = ask(one, "/project/predict", body)
                self.assertEqual((first[0], first[1]["x-cache"]), (200, "miss"))
                hit = lambda: ask(other, "/project/predict", body)[1]["x-cache"] == "hit"
                until(hit, "the other replica finds it")
                once = ask(one, "/predict", HOUSE, key.items())
                again = ask(other, "/predict", HOUSE, key.items())
                self.assertEqual((once[0], once[1]["idempotency-replayed"]), (200, None))
                self.assertEqual((again[0], again[1]["idempotency-replayed"], again[2]), (200, "true", once[2]))

    def test_the_guide_makes_these_users(self):
        """The ACL of the guide is the one that is tested here."""
        guide = (ROOT / "docs/guide/kubernetes.md").read_text()
        shown = re.search(r"--from-literal=users\.acl=\"(.*?)\"", guide, re.DOTALL)[1]
        self.assertEqual(shown.replace("$password", "x").replace("\\\n", "\n").split(), users("x").split())


def users(password):
    return f"user default on nopass resetkeys -@all +ping\nuser weir on >{password} ~weir:* +ping +get +getrange +set +unlink +eval +evalsha +scan\n"


if __name__ == "__main__":
    unittest.main()
