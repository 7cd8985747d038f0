"""What can be said of the files of deploy/ without running a server."""

import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import compose
import jsonschema
import yaml

from expressions import DASHBOARDS, ELSEWHERE, ROOT, RULES, panels, rules

sys.path.insert(0, str(ROOT / "scripts"))
from stack import program, weir_binary  # noqa: E402

PROMETHEUS = ROOT / "deploy/prometheus"
RUNBOOKS = ROOT / "docs/runbooks"
COMPOSE = ROOT / "deploy/docker/compose.yaml"
SECTIONS = ["Meaning", "Impact", "First look", "Causes and fixes", "Silence"]


def run(*command, folder=ROOT):
    """Its output; an error shows it."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Made(unittest.TestCase):
    def test_what_is_generated_is_current(self):
        run(sys.executable, "deploy/generate.py", "--check")

    def test_the_kubernetes_rules_are_the_rules(self):
        made = yaml.safe_load((ROOT / "deploy/k8s/components/monitoring/prometheusrule.yaml").read_text())
        self.assertEqual(made["spec"]["groups"], yaml.safe_load(RULES.read_text())["groups"])

    def test_the_config_maps_hold_the_dashboards(self):
        text = (ROOT / "deploy/k8s/components/monitoring/dashboards.yaml").read_text()
        held = {name: json.loads(data) for document in yaml.safe_load_all(text) for name, data in document["data"].items()}
        self.assertEqual(held, {path.name: json.loads(path.read_text()) for path in DASHBOARDS})
        # kubectl writes each object into an annotation, which holds 256 KiB.
        self.assertLess(max(len(document) for document in text.split("---\n")), 200_000)


class Dashboards(unittest.TestCase):
    def test_panels_have_unique_ids_and_do_not_overlap(self):
        for path in DASHBOARDS:
            panels_of = json.loads(path.read_text())["panels"]
            self.assertEqual(len({panel["id"] for panel in panels_of}), len(panels_of))
            taken = set()
            for panel in panels_of:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(cells & taken, f"{path.name}: {panel['title']}")
                self.assertLessEqual(place["x"] + place["w"], 24)
                taken |= cells

    def test_panels_link_to_runbooks_that_are_there(self):
        named = {link["url"] for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]
                 for link in panel.get("links", [])}
        self.assertGreaterEqual(len(named), 10)
        self.assertEqual(named - {rule["annotations"]["runbook_url"] for rule in rules("alert").values()}, set())

    def test_every_query_shows_the_chosen_data_source_and_service(self):
        for path in DASHBOARDS:
            for panel in json.loads(path.read_text())["panels"]:
                for target in panel.get("targets", []):
                    self.assertEqual(target["datasource"]["uid"], "${datasource}")
                    alone = "objective" in target["expr"] or target["expr"].startswith("ALERTS")
                    self.assertTrue(alone or "$job" in target["expr"], target["expr"])

    def test_there_is_something_to_test(self):
        self.assertGreaterEqual(len(panels()), 80)


class Rules(unittest.TestCase):
    def test_promtool_takes_the_rules_and_the_configuration(self):
        self.assertIn("SUCCESS", run(program("promtool"), "check", "config", "prometheus.yml", folder=PROMETHEUS))

    def test_each_case_is_as_expected(self):
        tests = sorted(map(str, (PROMETHEUS / "tests").glob("*.yml")))
        said = run(program("promtool"), "test", "rules", *tests, folder=PROMETHEUS)
        self.assertEqual(said.count("SUCCESS"), len(tests))

    def test_each_alert_has_cases_in_which_it_fires_and_does_not(self):
        fires, silent = set(), set()
        for path in (PROMETHEUS / "tests").glob("*.yml"):
            for case in yaml.safe_load(path.read_text())["tests"]:
                for check in case.get("alert_rule_test", []):
                    (fires if check["exp_alerts"] else silent).add(check["alertname"])
        alerts = set(rules("alert"))
        self.assertEqual((alerts - fires, alerts - silent), (set(), set()))

    def test_each_alert_says_what_who_is_called_needs(self):
        for name, rule in rules("alert").items():
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"), name)
            self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook_url"}, name)
            self.assertTrue(rule["annotations"]["runbook_url"].endswith(f"/{name}.md"), name)

    def test_what_is_not_provoked_for_real_is_an_alert(self):
        self.assertLessEqual(set(ELSEWHERE), set(rules("alert")))
        self.assertLessEqual(len(ELSEWHERE), 2)


class Runbooks(unittest.TestCase):
    def test_each_alert_has_its_page_and_each_page_its_alert(self):
        pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
        self.assertEqual(pages, set(rules("alert")))

    def test_each_page_answers_the_same_questions(self):
        for name in rules("alert"):
            text = (RUNBOOKS / f"{name}.md").read_text()
            self.assertTrue(text.startswith(f"# {name}\n"), name)
            self.assertEqual(re.findall(r"^## (.+)$", text, re.MULTILINE), SECTIONS, name)
            self.assertIn(f'alertname="{name}"', text, name)


class Alertmanager(unittest.TestCase):
    CONFIG = str(PROMETHEUS / "alertmanager.yml")

    def test_amtool_takes_the_example(self):
        self.assertIn("SUCCESS", run(program("amtool"), "check-config", self.CONFIG))

    def test_each_severity_reaches_its_receiver(self):
        for severity, receiver in (("page", "pager"), ("ticket", "tickets")):
            said = run(program("amtool"), "config", "routes", "test", f"--config.file={self.CONFIG}", f"severity={severity}")
            self.assertEqual(said.splitlines()[0], receiver)

    def test_what_is_inhibited_is_an_alert(self):
        config = yaml.safe_load(Path(self.CONFIG).read_text())
        matchers = [m for rule in config["inhibit_rules"] for m in rule["source_matchers"] + rule["target_matchers"]]
        for operator, pattern in (re.fullmatch(r'alertname (=~|=|!=) "(.+)"', m).groups() for m in matchers):
            self.assertTrue(any(re.fullmatch(pattern, name) for name in rules("alert")), f"{operator} {pattern}")


class Compose(unittest.TestCase):
    def setUp(self):
        self.compose = yaml.safe_load(COMPOSE.read_text())

    def test_it_follows_the_schema(self):
        schema = json.loads((Path(compose.__file__).parent / "config/compose_spec.json").read_text())
        jsonschema.Draft7Validator(schema).validate(self.compose)
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.Draft7Validator(schema).validate({"services": {"weir": {"read_onyl": True}}})

    def test_every_service_is_hardened_and_bounded(self):
        self.assertEqual(set(self.compose["services"]), {"weir", "redis", "prometheus", "grafana"})
        for name, service in self.compose["services"].items():
            self.assertTrue(service["read_only"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
            self.assertLessEqual({"mem_limit", "cpus", "pids_limit", "restart"}, set(service), name)
            # Weir's is in its image.
            self.assertTrue(name == "weir" or service["healthcheck"]["test"], name)
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), f"{name}: {port}")

    def test_what_is_mounted_is_there_and_read_only(self):
        volumes = set(self.compose["volumes"])
        for name, service in self.compose["services"].items():
            for source, _, target in (mount.partition(":") for mount in service.get("volumes", [])):
                if source.startswith("."):
                    self.assertTrue((COMPOSE.parent / source).exists(), source)
                    self.assertTrue(target.endswith(":ro"), f"{name}: {source}")
                else:
                    self.assertIn(source, volumes, name)

    def test_weir_waits_for_redis_and_prometheus_asks_weir(self):
        targets = json.loads((PROMETHEUS / "targets/weir.json").read_text())
        self.assertEqual(targets, [{"targets": ["weir:8000"]}])
        self.assertIn("WEIR_REDIS__URL", self.compose["services"]["weir"]["environment"])
        sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
        self.assertEqual(sources["datasources"][0]["url"], "http://prometheus:9090")

    def test_weir_is_built_here_and_accepts_what_it_is_told(self):
        weir = self.compose["services"]["weir"]
        context = (COMPOSE.parent / weir["build"]["context"]).resolve()
        self.assertEqual((weir["image"], context), ("weir:dev", ROOT))
        self.assertTrue((context / weir["build"]["dockerfile"]).samefile(ROOT / "deploy/docker/Dockerfile"))
        told = {name: value for name, value in os.environ.items() if not name.startswith("WEIR")} | weir["environment"]
        command = [weir_binary(), "config", "show", "--json", "--config", ROOT / "deploy/docker/weir.toml"]
        said = json.loads(subprocess.run(command, env=told, capture_output=True, text=True, check=True).stdout)
        self.assertEqual((said["cache"]["all"], said["redis"]["url"]), (True, "redis://redis:6379"))
        # Prometheus asks every 15 s, and a load balancer more often.
        seconds = lambda text: int(text.removesuffix("s"))
        self.assertGreaterEqual(seconds(said["server"]["drain_delay"]), 5)
        whole = sum(seconds(said["server"][name]) for name in ("drain_delay", "drain_timeout"))
        self.assertGreater(seconds(weir["stop_grace_period"]), whole + 3, "killed before it has drained and told its traces")
        mounts = dict(mount.split(":")[:2] for mount in weir["volumes"])
        [model] = [source for source, target in mounts.items() if target.startswith(said["server"]["models"][0] + "/")]
        self.assertTrue((COMPOSE.parent / model / "model.toml").exists())
        self.assertTrue(said["state"]["path"].startswith(mounts["weir"] + "/"), "the state would be lost with the container")

    def test_the_others_are_as_the_guides_say(self):
        ports = {name: service.get("ports", []) for name, service in self.compose["services"].items()}
        self.assertEqual(ports, {"weir": ["127.0.0.1:8000:8000"], "redis": [], "prometheus": ["127.0.0.1:9090:9090"],
                                 "grafana": ["127.0.0.1:3000:3000"]})
        for name, service in self.compose["services"].items():
            self.assertRegex(service["image"], r":v?\d+\.\d+\.\d+" if name != "weir" else ":dev$", name)
            if "healthcheck" in service:
                [asked] = re.findall(r":(\d+)/", " ".join(service["healthcheck"]["test"])) or [None]
                self.assertIn(asked, (None, *(port.rsplit(":", 1)[1] for port in ports[name])), name)
        redis = self.compose["services"]["redis"]
        words = dict(zip(redis["command"], redis["command"][1:]))
        self.assertEqual((words["--save"], words["--appendonly"], redis["tmpfs"]), ("", "no", ["/data"]), "nothing else can be written")
        self.assertEqual(words["--maxmemory-policy"], "allkeys-lru")
        self.assertLess(int(words["--maxmemory"].removesuffix("mb")), int(redis["mem_limit"].removesuffix("m")))
        self.assertGreater(int(redis["user"].split(":")[0]), 0)
        prometheus = self.compose["services"]["prometheus"]
        flags = dict(flag.removeprefix("--").split("=") for flag in prometheus["command"])
        mounts = {target: source for source, target in (mount.split(":")[:2] for mount in prometheus["volumes"])}
        self.assertEqual(mounts[str(Path(flags["config.file"]).parent)], "../prometheus")
        self.assertEqual(mounts[flags["storage.tsdb.path"]], "prometheus")
        self.assertEqual((flags["enable-feature"], "storage.tsdb.retention.size" in flags), ("exemplar-storage", True))
        grafana = self.compose["services"]["grafana"]["environment"]
        mounts = {mount.split(":")[1] for mount in self.compose["services"]["grafana"]["volumes"]}
        self.assertLessEqual({"/etc/grafana/provisioning", "/var/lib/grafana"}, mounts)
        self.assertEqual(self.compose["services"]["grafana"]["tmpfs"], ["/tmp"])
        home = Path(grafana["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
        self.assertIn(home.name, [path.name for path in DASHBOARDS])
        # To look only, without a password: the port is this machine's alone.
        self.assertEqual((grafana["GF_AUTH_ANONYMOUS_ENABLED"], grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"]), ("true", "Viewer"))

    def test_grafana_finds_the_dashboards(self):
        provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/weir.yml").read_text())
        path = provider["providers"][0]["options"]["path"]
        self.assertIn(f"../grafana/dashboards:{path}:ro", self.compose["services"]["grafana"]["volumes"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
