"""What Envoy and HAProxy send again, and what they never do, before a replica that reads each request and hangs up or refuses;
and the figures of both that no restart shows, because they are for what seldom happens."""

import contextlib
import http.server
import re
import socket
import tempfile
import threading
import types
import unittest

import yaml

from processes import free_port
from proxies import ENVOY_CONFIG, HAPROXY_CONFIG, Envoy, HaProxy
from test_configs import seconds

STATELESS = ("/predict", "/v1/models/housing:predict", "/v2/models/housing/infer")
# Either might keep state, and what is counted twice is wrong; gRPC names its model in the body.
ONCE = ("/v1/models/counter:predict", "/v2/models/counter/infer", "/inference.GRPCInferenceService/ModelInfer")
TRIES = 4
# What a caller could steer Envoy with.
STEERED = {"x-envoy-retry-on": "5xx,reset", "x-envoy-max-retries": "9", "x-envoy-retriable-status-codes": "503"}


class Replica:
    """Ready, and counts the requests that reach it, each of which it treats alike."""

    def __init__(self, treat):
        asked = self.asked = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                asked[self.path] = asked.get(self.path, 0) + 1
                treat(self)

            def log_message(self, *_):
                pass

        self.port = free_port()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()


def hangs_up(handler):
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def refuses(handler):
    handler.send_response(503)
    handler.send_header("retry-after", "1")
    handler.send_header("content-length", "0")
    handler.end_headers()


def post(port, path, headers, whole, body=b"{}"):
    """One request, head and body at once or one after the other, as most clients send them; waits for its answer."""
    kind = "application/grpc" if "Service" in path else "application/json"
    lines = [f"POST {path} HTTP/1.1", "host: weir", f"content-type: {kind}", f"content-length: {len(body)}", "connection: close"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # An answer may come before the whole body has gone.
        with contextlib.suppress(ConnectionError):
            for part in [head + body] if whole else [head, body]:
                connection.sendall(part)
            while connection.recv(4096):
                pass


class Again(unittest.TestCase):
    def asked(self, treat, requests):
        """For each proxy: how often each path reached a replica. `requests` gives for a proxy's name what `post` takes."""
        # It speaks HTTP/1 alone, and is not to be taken out of rotation: there is no other.
        over_http1 = lambda text: text.replace("    default-server proto h2 check-proto h1\n", "")
        trusted = lambda text: text.replace("error-limit 5 ", "error-limit 500 ")
        for Proxy, changes in ((Envoy, ()), (HaProxy, (over_http1, trusted))):
            replica = Replica(treat)
            try:
                with tempfile.TemporaryDirectory() as place:
                    here = types.SimpleNamespace(port=replica.port, address=f"127.0.0.1:{replica.port}")
                    proxy = Proxy(place, [here], changes=changes)
                    try:
                        for request in requests(proxy.name):
                            post(proxy.port, *request)
                    finally:
                        proxy.end()
            finally:
                replica.end()
            yield proxy.name, replica.asked

    def test_what_broke_after_it_was_sent_is_sent_again_for_models_without_state_alone(self):
        both = [(path, {}, whole) for path in (*ONCE, *STATELESS) for whole in (True, False)]
        for name, asked in self.asked(hangs_up, lambda _: both):
            self.assertEqual(asked, dict.fromkeys(ONCE, 2) | dict.fromkeys(STATELESS, 2 * TRIES), name)

    def test_what_was_refused_is_never_sent_again_whatever_the_caller_asks_for(self):
        for headers in ({}, STEERED):
            both = [(path, headers, whole) for path in (*ONCE, *STATELESS) for whole in (True, False)]
            for name, asked in self.asked(refuses, lambda _: both):
                self.assertEqual(asked, dict.fromkeys((*ONCE, *STATELESS), 2), f"{name}, {headers}")

    def test_what_is_too_large_to_keep_is_sent_once(self):
        kept = {"Envoy": 1 << 20, "HAProxy": 64 << 10}
        for factor, times in ((0.9, TRIES), (1.1, 1)):
            requests = lambda name: [("/predict", {}, False, b"x" * int(factor * kept[name]))]
            for name, asked in self.asked(hangs_up, requests):
                self.assertEqual(asked, {"/predict": times}, f"{name}, {factor} of what it keeps")


class Figures(unittest.TestCase):
    def setUp(self):
        text = ENVOY_CONFIG.read_text()
        self.envoy, self.haproxy = yaml.safe_load(text), HAPROXY_CONFIG.read_text()
        told = re.search(r'drain_delay = "(\d+s)", request_timeout = "(\d+s)", header_timeout = "(\d+s)"', text).groups()
        self.drain_delay, _, self.header_timeout = map(seconds, told)
        listener = self.envoy["static_resources"]["listeners"][0]
        self.manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        self.clusters = self.envoy["static_resources"]["clusters"]

    def value(self, words):
        """What follows some words in HAProxy's defaults."""
        return re.search(rf"^ +{words} (\S+)", self.haproxy, re.MULTILINE)[1]

    def test_a_replica_that_leaves_is_noticed_before_it_is_gone(self):
        """The last check before it leaves, `threshold` more, and the patience for the last of them."""
        for cluster in self.clusters:
            [check] = cluster["health_checks"]
            self.assertEqual(check["http_health_check"]["path"], "/readyz")
            self.assertEqual(check["no_traffic_interval"], check["interval"], "or it is a minute without requests")
            noticed = check["unhealthy_threshold"] * seconds(check["interval"]) + seconds(check["timeout"])
            self.assertLess(noticed, self.drain_delay, cluster["name"])
        self.assertIn("option httpchk GET /readyz\n", self.haproxy)
        self.assertIn("http-check expect status 200\n", self.haproxy)
        said = re.search(r"inter (\w+) fastinter (\w+) downinter (\w+) fall (\d) rise (\d) maxconn (\d+)", self.haproxy)
        noticed = seconds(said[1]) + (int(said[4]) - 1) * seconds(said[2]) + seconds(self.value("timeout check"))
        self.assertLess(noticed, self.drain_delay)
        self.assertEqual((said[5], said[6]), ("1", "1024"), "back after one check; as many connections as Envoy's")

    def test_the_proxy_lets_idle_connections_go_first(self):
        for cluster in self.clusters:
            [options] = cluster["typed_extension_protocol_options"].values()
            self.assertLess(seconds(options["common_http_protocol_options"]["idle_timeout"]), self.header_timeout)
        self.assertLess(seconds(self.value("default-server pool-purge-delay")), self.header_timeout)

    def test_a_slow_client_is_stopped_by_the_proxy(self):
        for name in ("request_headers_timeout", "stream_idle_timeout"):
            self.assertLessEqual(seconds(self.manager[name]), 30, name)
        self.assertLessEqual(seconds(self.manager["common_http_protocol_options"]["idle_timeout"]), 60)
        self.assertLessEqual(self.manager["http2_protocol_options"]["max_concurrent_streams"], 256)
        for name, most in (("timeout http-request", 10), ("timeout client", 30), ("timeout http-keep-alive", 60),
                           ("timeout connect", 1), ("timeout queue", 1)):
            self.assertLessEqual(seconds(self.value(name)), most, name)
        self.assertIn("\n    maxconn 4096\n", self.haproxy)

    def test_paths_mean_the_same_to_the_proxy_and_to_weir(self):
        self.assertIs(self.manager["normalize_path"], True)
        self.assertEqual(self.manager["path_with_escaped_slashes_action"], "REJECT_REQUEST")
        self.assertIs(self.manager["use_remote_address"], True)

    def test_busy_is_not_broken(self):
        """Ejection by what the connection says, of half at most. With five replicas Envoy's own default would eject by shares of 503."""
        for cluster in self.clusters:
            ejected = {name: value for name, value in cluster["outlier_detection"].items() if name.startswith("enforcing_")}
            self.assertEqual(ejected, {
                "enforcing_consecutive_local_origin_failure": 100, "enforcing_consecutive_5xx": 0,
                "enforcing_consecutive_gateway_failure": 0, "enforcing_success_rate": 0,
                "enforcing_local_origin_success_rate": 0,
            })
            self.assertEqual(cluster["lb_policy"], "LEAST_REQUEST")
        self.assertIn("default-server observe layer4 error-limit 5 on-error fail-check\n", self.haproxy)
        self.assertEqual((self.value("balance"), self.value("option redispatch")), ("leastconn", "1"))

    def test_the_canary_has_the_terms_of_the_others(self):
        own = ("name", "load_assignment")
        stable, canary = ({k: v for k, v in cluster.items() if k not in own} for cluster in self.clusters)
        self.assertEqual(canary, stable)
        for backend in ("weir", "weir-grpc"):
            self.assertRegex(self.haproxy, rf"use_backend {backend}-canary if (grpc )?drawn {{ nbsrv\({backend}-canary\) gt 0 }}\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
