"""Every PromQL expression of dashboards and rules against a real Prometheus that scrapes a real Weir."""

import json
import re
import time
import unittest

from asking import Watcher, ask, has_data, values
from expressions import ABSENT, DASHBOARDS, ELSEWHERE, absent, metrics, panels, rules
from scenario import TRACED, Scenario

# How long a fault may take to show: some scrapes, on a machine that does ten other things.
PATIENCE_S = 40


def runnable(expressions):
    return {name: promql for name, promql in expressions.items() if not absent(promql)}


def alert_expressions():
    found = {name: rule["expr"] for name, rule in rules("alert").items()}
    for name, (_, instead) in ELSEWHERE.items():
        assert instead(found[name]) != found[name], f"{name}: nothing is replaced"
        found[name] = instead(found[name])
    return runnable(found)


class Live(unittest.TestCase):
    """The scenario runs once; the tests look at what was seen."""

    @classmethod
    def setUpClass(cls):
        cls.scenario = cls.enterClassContext(Scenario())
        cls.prometheus = cls.scenario.prometheus
        cls.answered = cls.scenario.ask_all(cls.scenario.a, 0)
        cls.scenario.start_traffic()
        cls.panels = Watcher(cls.prometheus, runnable(panels()))
        cls.addClassCleanup(cls.panels.end)
        recorded = {name: name for name, rule in rules("record").items() if not absent(rule["expr"])}
        cls.recorded = Watcher(cls.prometheus, recorded).wait(PATIENCE_S)
        # Cumulative over Prometheus's life: what was false before the first fault.
        cls.alarmed = {name: promql for name, promql in alert_expressions().items()
                       if name not in ELSEWHERE and has_data(cls.prometheus, promql)}
        cls.known = set(ask(cls.prometheus, "label/__name__/values"))
        cls.alerts = Watcher(cls.prometheus, alert_expressions())
        cls.addClassCleanup(cls.alerts.end)
        cls.faults()

    @classmethod
    def faults(cls):
        scenario, alerts = cls.scenario, cls.alerts
        alerts.wait(PATIENCE_S, {name for name in ELSEWHERE})
        cls.codes = scenario.overload(lambda: cls.scraped(scenario.a))
        scenario.hurry()
        scenario.slow_callers()
        scenario.floods()
        scenario.traces()
        cls.damaged = scenario.damage()
        scenario.mismatch()
        alerts.wait(PATIENCE_S, {"WeirModelMismatch", "WeirCacheCorrupt"})
        scenario.broken_model()
        cls.panels.wait(PATIENCE_S, {name for name in panels() if "annotation" not in name})
        cls.exemplars = ask(cls.prometheus, "query_exemplars", query="weir_request_duration_seconds_bucket",
                            start=time.time() - 600, end=time.time() + 60)
        scenario.collector_away()
        scenario.redis_away()
        scenario.far_away()
        alerts.wait(PATIENCE_S, {"WeirRedisDown", "WeirRemoteDown"})
        held = scenario.descriptors()
        alerts.wait(PATIENCE_S, {"WeirDescriptorsNearLimit"})
        [connection.close() for connection in held]
        scenario.restarts(3, lambda: cls.scraped(scenario.b))
        alerts.wait(PATIENCE_S, {"WeirRestarting"})
        cls.no_data = cls.panels.wait(PATIENCE_S)
        scenario.all_away()
        cls.silent = alerts.wait(PATIENCE_S)

    @classmethod
    def scraped(cls, server):
        """Waits for a scrape of the replica that begins after now."""
        up = f'up{{instance="127.0.0.1:{server.port}"}}'
        promql = f'timestamp({up}) and {up} == 1'
        now, deadline = time.time(), time.monotonic() + PATIENCE_S
        while not any(value > now for value in values(cls.prometheus, promql)):
            assert time.monotonic() < deadline, "no scrape"
            time.sleep(0.05)

    def test_every_panel_has_data(self):
        print(f"monitoring: {len(runnable(panels()))} of {len(panels())} expressions of {len(DASHBOARDS)} dashboards")
        self.assertEqual(self.no_data, {})

    def test_every_recording_rule_has_data(self):
        self.assertEqual(self.recorded, {})

    def test_no_alert_is_true_while_all_is_well(self):
        self.assertEqual(sorted(self.alarmed), [])

    def test_every_alert_is_true_under_its_fault(self):
        print(f"monitoring: {len(alert_expressions())} of {len(rules('alert'))} alerts")
        self.assertEqual(sorted(self.silent), [])

    def test_the_load_is_answered(self):
        self.assertEqual(self.answered, [200, 200, 200, 200, 200, 422])

    def test_the_faults_were_there(self):
        self.assertIn(503, self.codes)
        self.assertIn(200, self.codes)
        self.assertGreaterEqual(self.damaged, 20)

    def test_every_metric_that_is_asked_for_exists(self):
        asked = set().union(*map(metrics, panels().values()))
        asked |= set().union(*(metrics(rule["expr"]) for kind in ("alert", "record") for rule in rules(kind).values()))
        self.assertEqual(asked - ABSENT - self.known, set())

    def test_latency_leads_to_traces(self):
        found = {e["labels"].get("trace_id") for series in self.exemplars for e in series["exemplars"]}
        traced = {TRACED["traceparent"].split("-")[1]}
        self.assertLessEqual(traced, found)

    def test_choices_of_the_dashboards_offer_something(self):
        for path in DASHBOARDS:
            for variable in json.loads(path.read_text())["templating"]["list"][1:]:
                query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
                selector = re.sub(r"\$\w+", ".*", query[1])
                found = ask(self.prometheus, "series", **{"match[]": selector})
                self.assertTrue(found, variable["definition"])
                # Outside Kubernetes there is no namespace; `All` holds then.
                if query[2] != "namespace":
                    self.assertTrue(any(query[2] in series for series in found), variable["definition"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
