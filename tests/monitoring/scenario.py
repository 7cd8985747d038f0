"""A real Weir under load: first all is well, then one thing after the other is not.

`Scenario` starts two replicas, the server of a remote model, Redis and Prometheus, by scripts/stack.py.
"""

import http.client
import http.server
import json
import resource
import shutil
import signal
import socket
import sys
import threading

from asking import RedisCommands, flood, post, post_slowly, together
from expressions import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from stack import Stack, answers  # noqa: E402

HOUSING = ROOT / "examples/models/housing"
TEXT = ROOT / "crates/weir-artifact/tests/formats/hf"
ROW = json.loads((HOUSING / "samples.jsonl").read_text().splitlines()[0])["input"]
# Enough for a replica at work, few enough to use up.
DESCRIPTORS = 200
NO_STORE = {"Cache-Control": "no-store"}
# A caller who traces the request: it is traced here too, and is an exemplar.
TRACED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


def bulk(rows):
    """One request that takes a while."""
    data = [value + i / rows for i in range(rows) for value in ROW.values()]
    tensor = {"name": "input", "datatype": "FP32", "shape": [rows, len(ROW)], "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


class Collector(http.server.ThreadingHTTPServer):
    """A receiver of OTLP over HTTP that takes everything and keeps nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self):
        self.shutdown()
        self.server_close()


class Scenario:
    def __init__(self):
        self.stack = Stack(interval="1s")
        self.collector = Collector()
        self.calm = threading.Event()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.calm.set()
        self.collector.end()
        self.stack.__exit__()

    def start(self):
        stack = self.stack
        stack.start_redis()
        self.far = stack.start_weir("far", [HOUSING], scraped=False)
        self.models = {name: self.lay_out(name) for name in ("weir-a", "weir-b")}
        settings = {"WEIR_SERVER__MODEL_CONTROL": "explicit", "WEIR_SERVER__MAX_QUEUE": "1",
                    "WEIR_SERVER__MEMORY_BUDGET": "1GiB", "WEIR_SERVER__TRACE_MAX": "1KiB"}
        traces = {"WEIR_SERVER__TRACE_FILE": str(stack.folder / "traces.json"),
                  "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.collector.server_port}",
                  "WEIR_TELEMETRY__QUEUE": "512"}
        self.a = stack.start_weir("weir-a", [self.models["weir-a"]], settings | traces)
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))  # noqa: E731
        self.b = stack.start_weir("weir-b", [self.models["weir-b"]], settings, before=few)
        self.prometheus = stack.start_prometheus().url

    def lay_out(self, name):
        """Models of a replica, so that it can be given others than its fellow."""
        folder = self.stack.folder / f"models-{name}"
        shutil.copytree(HOUSING, folder / "housing")
        for text in ("classifier", "embedder-mean"):
            shutil.copytree(TEXT / text, folder / text)
        (folder / "far").mkdir()
        remote = f'[remote]\nurl = "{self.far.url}"\nmodel = "housing"\n[cache]\nttl = "1m"\n'
        (folder / "far/model.toml").write_text(remote)
        return folder

    # What goes well.

    def ask_all(self, server, number):
        """One request to each model, some of them repeats, and one mistake; the statuses."""
        word = {"text": f"word {number % 40}"}
        return [
            post(server, "/v1/models/housing:predict", ROW | {"MedInc": 1 + number % 50 / 10}, TRACED),
            post(server, "/v1/models/classifier:predict", word),
            post(server, "/v1/models/embedder-mean:predict", word),
            post(server, "/v1/models/far:predict", {"input": [number / 10, *list(ROW.values())[1:]]}),
            post(server, "/v2/models/housing/infer", bulk(64), NO_STORE),
            post(server, "/v1/models/housing:predict", {"MedInc": "much"}),
        ]

    def traffic(self):
        """Requests to every replica until `calm`."""
        number = 0
        while not self.calm.wait(0.02):
            number += 1
            for server in (self.a, self.b):
                self.ask_all(server, number)

    def start_traffic(self):
        threading.Thread(target=self.traffic, daemon=True).start()

    # What does not. Each provokes the alerts that it names.

    def overload(self, seen):
        """WeirOverloaded, WeirAvailabilityBurn…: more than the queue of one holds, in several scrapes.

        The first refusal makes its series: what it counted before its first scrape, no rate can see.
        """
        body, codes = bulk(4000), []
        for _ in range(3):
            codes += together(24, lambda _: post(self.a, "/v2/models/housing/infer", body, NO_STORE))
            seen()
        return codes

    def hurry(self):
        """Requests whose deadline is too short, and callers who go away."""
        body = bulk(4000)
        together(8, lambda _: post(self.a, "/v2/models/housing/infer", body, NO_STORE | {"Request-Timeout": "0.005"}))
        together(8, lambda _: post(self.a, "/v2/models/housing/infer", body, NO_STORE, timeout=0.005))

    def slow_callers(self):
        """WeirLatencyBurn…: of all requests to the model, a third takes longer than 0.25 s."""
        route, body = "/v1/models/classifier/versions/1:predict", {"text": "slow"}
        for _ in range(4):
            together(40, lambda _: post_slowly(self.a, route, body, 0.3))

    def floods(self):
        """WeirHttp2Flood."""
        for _ in range(4):
            together(20, lambda _: flood(self.a))

    def traces(self):
        """WeirTracesDropped: a trace of each request, in a file that holds a kibibyte."""
        assert post(self.a, "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}) == 200

    def damage(self):
        """WeirCacheCorrupt: what one replica stored is damaged when the other looks it up."""
        texts = [{"text": f"only once {i}"} for i in range(20)]
        [post(self.a, "/v1/models/classifier:predict", text) for text in texts]
        with RedisCommands(self.stack.redis) as redis:
            damaged = redis.damage()
        [post(self.b, "/v1/models/classifier:predict", text) for text in texts]
        return damaged

    def mismatch(self):
        """WeirModelMismatch: one replica is given another housing model."""
        toml = self.models["weir-b"] / "housing/model.toml"
        toml.write_text(toml.read_text().replace("high", "above"))
        self.b.send(signal.SIGHUP)

    def broken_model(self):
        """WeirReloadFailed, WeirModelNotReady, WeirReplicaNotReady: a model that cannot be loaded."""
        folder = self.models["weir-a"] / "broken"
        folder.mkdir()
        (folder / "model.onnx").write_text("garbage")
        self.a.send(signal.SIGHUP)

    def collector_away(self):
        """WeirTelemetryDropped: what there is no room for while the collector is away; one message is tried again."""
        self.collector.end()
        connection = http.client.HTTPConnection("127.0.0.1", self.a.port, timeout=30)
        for _ in range(3 * 512):
            connection.request("GET", "/v2", headers=TRACED)
            connection.getresponse().read()
        connection.close()

    def redis_away(self):
        """WeirRedisDown."""
        self.stack.redis.stop(signal.SIGKILL)

    def far_away(self):
        """WeirRemoteDown."""
        self.far.stop(signal.SIGKILL)

    def descriptors(self):
        """WeirDescriptorsNearLimit: connections that stay open."""
        return [socket.create_connection(("127.0.0.1", self.b.port)) for _ in range(DESCRIPTORS * 3 // 4)]

    def restarts(self, times, seen):
        """WeirRestarting: a replica restarts so often, each time seen by Prometheus."""
        for _ in range(times):
            self.b.stop(signal.SIGKILL)
            self.b.start()
            self.b.wait(lambda: answers(f"{self.b.url}/livez"))
            seen()

    def all_away(self):
        """WeirReplicaDown, WeirDown."""
        self.calm.set()
        self.b.stop(signal.SIGKILL)
        self.a.stop(signal.SIGKILL)
