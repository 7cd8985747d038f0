"""Restarts, kills, stops, canaries and overload, with real replicas behind real proxies under an open-loop load.

Run by the test `rolling` of the weir crate at low rates, and by `make test-rolling` (ROLLING=long) with a
release build, more load and more rounds. Prints its table; nothing here asserts a time."""

import http.client
import json
import math
import os
import shutil
import signal
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import proxies
from grpc_client import Callers
from processes import ROOT, SAMPLES, Redis, Weir, status, until
from proxies import Envoy, HaProxy
from traffic import LONG, TABLE, Way, markdown, traffic

# Requests a second of one load.
RATE = 300 if LONG else 30
ROUNDS = 3 if LONG else 1
DRAIN = 'drain_delay = "5s"'


def tearDownModule():
    print(markdown(), flush=True)
    if "ROLLING_TABLE" in os.environ:
        Path(os.environ["ROLLING_TABLE"]).write_text(markdown() + "\n")


class Scenario(unittest.TestCase):
    """A place, and processes that end with the test."""

    def setUp(self):
        self.place = tempfile.mkdtemp(prefix="weir-rolling-")
        self.addCleanup(shutil.rmtree, self.place)

    def own(self, process):
        self.addCleanup(process.end if hasattr(process, "end") else process.kill)
        return process

    def replicas(self, count, settings=DRAIN, **more):
        found = [self.own(Weir(self.place, f"weir-{at + 1}", settings, **more)) for at in range(count)]
        for replica in found:
            replica.start(ready=False)
        for replica in found:
            replica.await_ready()
        return found

    def envoy(self, stable, name="Envoy", **more):
        envoy = self.own(Envoy(self.place, stable, **more))
        envoy.name = name
        return envoy

    def haproxy(self, stable, **more):
        return self.own(HaProxy(self.place, stable, **more))

    def every_way(self, replicas):
        """Both proxies, HTTP/1.1 and HTTP/2 to the replicas, and gRPC."""
        envoy, haproxy = self.envoy(replicas), self.haproxy(replicas)
        http2 = self.envoy(replicas, changes=[proxies.over_http2], name="Envoy (h2c to replicas)")
        return [Way(envoy, RATE), Way(envoy, RATE / 2, "grpc"), Way(http2, RATE), Way(haproxy, RATE),
                Way(haproxy, RATE / 2, "grpc")]

    def rotation(self, ways, count):
        """Waits until every proxy gives requests to `count` replicas."""
        until(f"{count} replicas in rotation", lambda: all(w.proxy.in_rotation() == count for w in ways))

    def versions(self, proxy, row, count):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        self.addCleanup(connection.close)
        body, seen = json.dumps(row), {}
        for _ in range(count):
            connection.request("POST", "/v1/models/housing:predict", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, 200)
            model = answer.headers["x-weir-model"]
            seen[model] = seen.get(model, 0) + 1
        return seen

    def nothing_lost(self, ways):
        for way in ways:
            self.assertGreater(way.outcomes["ok"], 0, way.name)
            self.assertEqual((way.failed, way.outcomes["refused"]), (0, 0), f"{way.name}: {way.result['failures']}")


class Restarts(Scenario):
    def test_sigterm_in_turn_loses_nothing_and_needs_no_retry(self):
        replicas = self.replicas(3)
        ways = self.every_way(replicas)
        with traffic(self.place, "SIGTERM in turn", ways):
            for replica in replicas * ROUNDS:
                replica.restart()
                self.rotation(ways, 3)
        self.nothing_lost(ways)
        self.assertEqual([way.retried for way in ways], [0] * len(ways))
        for way in ways[:3]:
            self.assertEqual(way.proxy.stat("upstream_cx_destroy_remote_with_active_rq"), 0, way.name)

    def test_what_drain_delay_is_for(self):
        """The same restart with retries off: the delay alone makes it lossless, and nothing else does."""
        hasty, patient, third = self.replicas(1, 'drain_delay = "0s"') + [
            self.own(Weir(self.place, name, DRAIN)).start() for name in ("patient", "third")]
        stable = [hasty, patient, third]
        envoy = self.envoy(stable, changes=[proxies.without_retries], name="Envoy without retries")
        retrying = self.envoy(stable)
        for replica, word in ((hasty, "0 s"), (patient, "5 s")):
            ways = [Way(envoy, max(RATE, 100)), Way(retrying, RATE)]
            with traffic(self.place, f"SIGTERM, drain_delay {word}", ways):
                self.assertEqual(replica.process.stop(), 0)
                self.rotation(ways, 2)
                replica.start()
                self.rotation(ways, 3)
            self.nothing_lost(ways[1:])
            if replica is hasty:
                self.assertGreater(ways[0].failed + ways[0].outcomes["refused"], 0, "no delay, no retry, no loss?")
            else:
                self.nothing_lost(ways[:1])

    def test_connections_that_a_proxy_keeps_are_closed_between_requests(self):
        """Idle ones, when their replica leaves: none is closed under a request, and none is used afterwards."""
        replicas = self.replicas(2)
        proxy = self.envoy(replicas, changes=[proxies.without_retries], name="Envoy without retries")
        way = Way(proxy, RATE, label="idle connections")
        # Many at once, so that the proxy opens many.
        row = json.loads(SAMPLES.read_text().splitlines()[0])["input"]
        with ThreadPoolExecutor(20) as clients:
            list(clients.map(lambda _: self.versions(proxy, row, 20), range(20)))
        self.assertGreater(proxy.stat("upstream_cx_active"), 2)
        with traffic(self.place, "SIGTERM, kept connections", [way]):
            self.assertEqual(replicas[0].process.stop(), 0)
            self.rotation([way], 1)
        self.nothing_lost([way])
        self.assertEqual(proxy.stat("upstream_cx_destroy_remote_with_active_rq"), 0)

    def test_replicas_that_share_a_cache_lose_nothing(self):
        redis = self.own(Redis(self.place))
        cache = f'[cache]\nall = true\n[redis]\nurl = "redis://127.0.0.1:{redis.port}/0"\n'
        replicas = self.replicas(2, extra=cache)
        ways = [Way(self.envoy(replicas), RATE), Way(self.haproxy(replicas), RATE)]
        with traffic(self.place, "SIGTERM in turn, one Redis", ways):
            for replica in replicas * ROUNDS:
                replica.restart()
                self.rotation(ways, 2)
        self.nothing_lost(ways)
        hits = sum(replica.metric("weir_cache_answers_total", 'outcome="hit"') for replica in replicas)
        self.assertGreater(hits, 0, "the cache was not asked")


class Losses(Scenario):
    def test_kill_9_costs_retries_and_no_prediction(self):
        replicas = self.replicas(3)
        ways = self.every_way(replicas)
        victim = replicas[0]
        with traffic(self.place, "kill -9", ways):
            for _ in range(ROUNDS):
                # Stopped first, so that it dies with requests in its hands, whatever the rate.
                victim.process.signal(signal.SIGSTOP)
                until("it holds some of every proxy", lambda: all(w.proxy.holds_json(victim) for w in ways))
                victim.process.kill()
                self.rotation(ways, 2)
                victim.start()
                self.rotation(ways, 3)
        json_ways = [way for way in ways if way.face == "typed"]
        self.nothing_lost(json_ways)
        for way in json_ways:
            self.assertGreater(way.retried, 0, way.name)
        for way in ways:
            self.assertLess(way.failed, 0.05 * way.result["requests"], way.name)

    def test_a_grpc_client_with_a_retry_policy_loses_nothing(self):
        """What no proxy may repeat over gRPC, its caller may."""
        replicas = self.replicas(3)
        envoy = self.envoy(replicas)
        row = json.loads(SAMPLES.read_text().splitlines()[0])["input"]
        callers = [Callers(envoy.port, row, policy) for policy in (True, False)]
        try:
            for _ in range(3):
                replicas[0].process.signal(signal.SIGSTOP)
                # More than one caller has threads: it holds some of both.
                until("it holds some of both callers", lambda: envoy.unanswered(replicas[0]) > len(callers[0].threads))
                replicas[0].process.kill()
                until("two replicas in rotation", lambda: envoy.in_rotation() == 2)
                replicas[0].start()
                until("three replicas in rotation", lambda: envoy.in_rotation() == 3)
        finally:
            for caller in callers:
                caller.stop()
        for caller, name in zip(callers, ("with a retry policy", "without")):
            sent = caller.answered + len(caller.failed)
            TABLE.append(("kill -9, three times", f"Envoy, grpcio {name}", sent, caller.answered, 0,
                          len(caller.failed), "–", "–", "–"))
        self.assertEqual(callers[0].failed, [])
        self.assertGreater(callers[0].answered, 0)
        self.assertGreater(len(callers[1].failed), 0, "nothing was lost without the policy: it is not what saves")

    def test_a_stopped_replica_is_left_out_and_what_it_holds_is_asked_again(self):
        replicas = self.replicas(3)
        ways = [Way(self.envoy(replicas), RATE), Way(self.haproxy(replicas), RATE)]
        with traffic(self.place, "SIGSTOP", ways):
            asked = ways[0].proxy.sent()
            replicas[1].process.signal(signal.SIGSTOP)
            self.rotation(ways, 2)
            # A try ends a second after Weir's own deadline, here 11 s; what was held is asked again then.
            timeouts = lambda: ways[0].proxy.stat("upstream_rq_per_try_timeout")
            until("what it holds of Envoy's is asked again", lambda: timeouts() > 0)
            until("what it holds of HAProxy's is asked again", lambda: ways[1].proxy.retries() > 0)
            replicas[1].process.signal(signal.SIGCONT)
            self.rotation(ways, 3)
            self.assertGreater(ways[0].proxy.sent(), asked, "the others carry on")
        self.nothing_lost(ways)

    def test_a_replica_whose_model_is_not_ready_gets_nothing(self):
        replicas = self.replicas(2)
        broken = self.own(Weir(self.place, "broken", DRAIN))
        folder = broken.folder / "models/broken"
        folder.mkdir()
        (folder / "model.onnx").write_text("garbage")
        broken.start(ready=False)
        until("it answers", lambda: status(broken.url("/livez")) == 200)
        self.assertEqual(status(broken.url("/readyz")), 503)
        stable = [*replicas, broken]
        # On a busy machine a second replica may miss a health check: that alone must not make it panic.
        envoy = self.envoy(stable, expected=2, changes=[proxies.without_panic])
        haproxy = self.haproxy(stable, expected=2)
        ways = [Way(envoy, RATE), Way(haproxy, RATE)]
        until("it is left out", lambda: all(way.proxy.leaves_out(broken) for way in ways))
        with traffic(self.place, "one replica's model not ready", ways, duration="3s"):
            pass
        self.nothing_lost(ways)
        self.assertEqual([way.proxy.sent_to(broken) for way in ways], [0, 0])
        self.assertEqual(broken.predictions(), 0)
        self.assertTrue(all(replica.predictions() > 0 for replica in replicas))
        shutil.rmtree(folder)
        broken.process.signal(signal.SIGHUP)
        self.rotation(ways, 3)
        with traffic(self.place, "its model ready", ways, duration="3s"):
            pass
        self.nothing_lost(ways)
        for way in ways:
            self.assertGreater(way.proxy.sent_to(broken), 0, way.name)


class Sharing(Scenario):
    def test_a_canary_gets_its_share(self):
        stable = self.replicas(2)
        canary = self.own(Weir(self.place, "canary", DRAIN, version="2")).start()
        row = json.loads(SAMPLES.read_text().splitlines()[0])["input"]
        for proxy in (self.envoy(stable, canary=canary), self.haproxy(stable, canary=canary)):
            count = 20_000 if LONG else 1_000
            answers = self.versions(proxy, row, count)
            self.assertEqual(set(answers), {"housing/1", "housing/2"})
            share = 0.1
            found, expected = answers["housing/2"], share * count
            # Five standard deviations: two in a million runs are outside by chance.
            bound = 5 * math.sqrt(count * share * (1 - share))
            print(f"{proxy.name}: {found} of {count} answers by the canary, {expected:.0f} ± {bound:.0f} expected")
            self.assertLess(abs(found - expected), bound)

    def test_overload_is_not_amplified(self):
        sentiment = ROOT / ".cache/sentiment"
        self.assertTrue((sentiment / "encoder.onnx").exists(), f"{sentiment} is not there: run `make fetch`")
        replicas = self.replicas(3, DRAIN + "\nthreads = 1\nmax_queue = 8", models=[str(sentiment)],
                                 extra="[cache]\nenabled = false\n")
        for proxy in (self.envoy(replicas), self.haproxy(replicas)):
            # How much is too much depends on the machine and on the build.
            way = Way(proxy, 3 * self.capacity(proxy, "sentiment"), flags=("--deadline", "1s"))
            with traffic(self.place, "overload, sentiment", [way], duration="10s" if LONG else "4s",
                         model="sentiment"):
                pass
            result = way.result
            amplified = way.upstream / result["attempts"]
            print(f"{proxy.name}: {way.upstream} requests to replicas for {result['attempts']} of clients, "
                  f"{amplified:.3f}; retry-after on {result['refused_with_retry_after']} refusals")
            self.assertGreater(way.outcomes["refused"], 0.2 * result["requests"], "that is no overload")
            self.assertGreater(way.outcomes["ok"], 0)
            self.assertEqual(result["refused_with_retry_after"], way.outcomes["refused"])
            # On a busy machine some are accepted and late all the same: 504, which nobody repeats either.
            self.assertEqual(way.failed, way.outcomes["deadline"] + way.outcomes["unsent"], result["failures"])
            # The budget: a tenth.
            self.assertLessEqual(amplified, 1.1)
            self.assertEqual(proxy.in_rotation(), 3, "busy is not broken: nobody is ejected")

    def capacity(self, proxy, model, seconds=2):
        """Answers a second to callers who each wait for theirs."""
        way = Way(proxy, None)
        with traffic(self.place, f"capacity, {model}", [way], duration=f"{seconds}s", model=model):
            pass
        return way.outcomes["ok"] / seconds

    def stays_inside(self, proxy):
        """Probes and metrics, also where a letter is percent-coded, which Weir decodes."""
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        for path, wanted in (("/v2", 200), ("/metrics", 404), ("/%6detrics", 404), ("/readyz", 404),
                             ("/%72eadyz", 404)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, wanted, f"{proxy.name}: {path}")
        connection.close()

    def test_a_proxy_keeps_probes_inside_and_without_replicas_says_when_to_come_again(self):
        replicas = self.replicas(1, 'drain_delay = "0s"')
        proxies_of_one = [self.envoy(replicas), self.haproxy(replicas)]
        for proxy in proxies_of_one:
            self.stays_inside(proxy)
        self.assertEqual(replicas[0].process.stop(), 0)
        until("nobody is left", lambda: all(proxy.in_rotation() == 0 for proxy in proxies_of_one))
        for proxy in proxies_of_one:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
            connection.request("POST", "/v1/models/housing:predict", "{}", {"content-type": "application/json"})
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"), proxy.name)
            connection.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
