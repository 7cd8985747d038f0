"""The configurations that are shipped for Envoy, HAProxy and Istio: each is valid, and they say the same."""

import http.server
import re
import subprocess
import tempfile
import threading
import types
import unittest
from pathlib import Path

import yaml

from processes import ROOT, free_port, status
from proxies import ENVOY_CONFIG, HAPROXY_CONFIG, Envoy, HaProxy, envoy_program, haproxy_program, routes

ISTIO = ROOT / "deploy/k8s/components/istio"


def seconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(ms|s|m)", text).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


class Valid(unittest.TestCase):
    def envoy(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            return subprocess.run([envoy_program(), "--mode", "validate", "-c", file.name], capture_output=True,
                                  text=True, check=False)

    def test_envoy(self):
        text = ENVOY_CONFIG.read_text()
        self.assertEqual(self.envoy(text).returncode, 0, self.envoy(text).stderr)
        self.assertNotEqual(self.envoy(text.replace("per_try_timeout", "per_try_time")).returncode, 0)

    def haproxy(self, text):
        # The check looks names up; those of the example are the reader's.
        text = re.sub(r"(server weir-\w+) weir-\w+:", r"\1 127.0.0.1:", text)
        with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
            file.write(text)
            file.flush()
            return subprocess.run([haproxy_program(), "-c", "-f", file.name], capture_output=True, text=True, check=False)

    def test_haproxy(self):
        text = HAPROXY_CONFIG.read_text()
        found = self.haproxy(text)
        self.assertEqual(found.returncode, 0, found.stderr)
        self.assertNotIn("WARNING", found.stderr)
        self.assertNotEqual(self.haproxy(text.replace("option redispatch", "option redispatched")).returncode, 0)


class Same(unittest.TestCase):
    """Envoy's example and Istio's component, which becomes Envoy's configuration in a mesh."""

    def setUp(self):
        self.envoy = yaml.safe_load(ENVOY_CONFIG.read_text())
        self.service = yaml.safe_load((ISTIO / "virtual-service.yaml").read_text())["spec"]
        self.policy = yaml.safe_load((ISTIO / "destination-rule.yaml").read_text())["spec"]["trafficPolicy"]

    def test_routes(self):
        ours = {route["name"]: route for route in routes(self.envoy)}
        theirs = {route["name"]: route for route in self.service["http"]}
        # What Istio refuses by a route of its own has none in Envoy's (class Public).
        theirs = {name: route for name, route in theirs.items() if "directResponse" not in route}
        self.assertEqual(list(ours), list(theirs), "the same routes in the same order")
        for name, their in theirs.items():
            our, retries = ours[name]["route"], their["retries"]
            policy = our["retry_policy"]
            self.assertEqual(seconds(our["timeout"]), seconds(their["timeout"]), name)
            self.assertEqual(policy["retry_on"], retries["retryOn"], name)
            self.assertEqual(policy["num_retries"], retries["attempts"], name)
            self.assertEqual(policy.get("per_try_timeout"), retries.get("perTryTimeout"), name)
            weights = {w["name"]: w["weight"] for w in our["weighted_clusters"]["clusters"]}
            subsets = {f"weir-{to['destination']['subset']}": to["weight"] for to in their["route"]}
            self.assertEqual(weights, subsets, name)

    def test_stateless_models_are_the_same(self):
        our = [r["match"]["safe_regex"]["regex"] for r in routes(self.envoy) if r["name"] == "stateless-models"]
        their = next(r for r in self.service["http"] if r["name"] == "stateless-models")
        self.assertEqual(our, [match["uri"]["regex"] for match in their["match"]])
        haproxy = HAPROXY_CONFIG.read_text()
        for regex in our[:2]:
            self.assertIn(f"acl stateless path_reg ^{regex}$", haproxy)
        self.assertIn(f"acl stateless path {' '.join('/' + p for p in our[2][2:-1].split('|'))}\n", haproxy)

    def mesh_route(self, path, gateway="weir", port=8000):
        """The first route of the VirtualService that takes a path, as it comes through a gateway or from inside."""
        def takes(match):
            [(kind, value)] = (match.get("uri") or {"prefix": ""}).items()
            matched = {"regex": lambda: re.fullmatch(value, path), "exact": lambda: path == value,
                       "prefix": lambda: path.startswith(value)}[kind]()
            return matched and gateway in match.get("gateways", ["weir", "mesh"]) and port == match.get("port", port)

        return next(route for route in self.service["http"] if any(map(takes, route.get("match", [{}]))))

    def test_each_path_takes_the_same_route(self):
        self.assertEqual(self.service["gateways"], ["mesh", "weir"])
        for path in PUBLIC:
            our = next(r for r in routes(self.envoy) if re.fullmatch(r["match"]["safe_regex"]["regex"], path))
            their = self.mesh_route(path)
            self.assertEqual(their["name"], our["name"], path)
            grpc = their["name"].startswith("grpc")
            self.assertEqual({to["destination"]["port"]["number"] for to in their["route"]}, {9000 if grpc else 8000}, path)
        # What Istio would decode otherwise than Weir ends at the gateway; the rest is the AuthorizationPolicy's (class Public).
        ended = [path for path in INSIDE if self.mesh_route(path).get("directResponse") == {"status": 404}]
        self.assertEqual(ended, [p for p in INSIDE if "%2F" in p or p in ("/livez", "/readyz", "/startupz", "/metrics")])
        # From inside, the port tells.
        for path, port, name in (("/inference.GRPCInferenceService/RepositoryIndex", 9000, "grpc"), ("/metrics", 8000, "everything-else"),
                                 ("/inference.GRPCInferenceService/ModelStreamInfer", 9000, "grpc-streams"),
                                 ("/v1/models/housing:predict", 8000, "stateless-models"), ("/v1/events/a", 8000, "everything-else")):
            self.assertEqual(self.mesh_route(path, "mesh", port)["name"], name, path)

    def test_clusters(self):
        http, tcp = self.policy["connectionPool"]["http"], self.policy["connectionPool"]["tcp"]
        outliers, budget = self.policy["outlierDetection"], self.policy["retryBudget"]
        for cluster in self.envoy["static_resources"]["clusters"]:
            [bounds] = cluster["circuit_breakers"]["thresholds"]
            [options] = cluster["typed_extension_protocol_options"].values()
            ours = cluster["outlier_detection"]
            keepalive = cluster["upstream_connection_options"]["tcp_keepalive"]
            pairs = [
                (cluster["lb_policy"], self.policy["loadBalancer"]["simple"]),
                (cluster["connect_timeout"], tcp["connectTimeout"]),
                (f"{keepalive['keepalive_time']}s", tcp["tcpKeepalive"]["time"]),
                (f"{keepalive['keepalive_interval']}s", tcp["tcpKeepalive"]["interval"]),
                (keepalive["keepalive_probes"], tcp["tcpKeepalive"]["probes"]),
                (bounds["max_connections"], tcp["maxConnections"]),
                (bounds["max_pending_requests"], http["http1MaxPendingRequests"]),
                (bounds["max_requests"], http["http2MaxRequests"]),
                (options["common_http_protocol_options"]["idle_timeout"], http["idleTimeout"]),
                (bounds["retry_budget"]["budget_percent"]["value"], budget["percent"]),
                (bounds["retry_budget"]["min_retry_concurrency"], budget["minRetryConcurrency"]),
                (ours["split_external_local_origin_errors"], outliers["splitExternalLocalOriginErrors"]),
                (ours["consecutive_local_origin_failure"], outliers["consecutiveLocalOriginFailures"]),
                (ours["enforcing_consecutive_5xx"], outliers["consecutive5xxErrors"]),
                (ours["enforcing_consecutive_gateway_failure"], outliers["consecutiveGatewayErrors"]),
                (ours["interval"], outliers["interval"]),
                (ours["base_ejection_time"], outliers["baseEjectionTime"]),
                (ours["max_ejection_percent"], outliers["maxEjectionPercent"]),
                (cluster["common_lb_config"]["healthy_panic_threshold"]["value"], outliers["minHealthPercent"]),
            ]
            for at, (ours_is, theirs_is) in enumerate(pairs):
                self.assertEqual(ours_is, theirs_is, f"pair {at} of {cluster['name']}")

    def test_haproxy_has_the_same_try_and_as_many(self):
        haproxy = HAPROXY_CONFIG.read_text()
        route = next(r["route"] for r in routes(self.envoy) if r["name"] == "stateless-models")
        value = lambda words: re.search(rf"^ +{words} (\S+)", haproxy, re.MULTILINE)[1]
        self.assertEqual(value("timeout server"), route["retry_policy"]["per_try_timeout"])
        self.assertEqual(value("retries"), str(route["retry_policy"]["num_retries"]))
        canary = next(w["weight"] for w in route["weighted_clusters"]["clusters"] if w["name"] == "weir-canary")
        self.assertEqual(value(r"acl drawn rand\(100\) lt"), str(canary))


CALLS = "/inference.GRPCInferenceService/"
# What anybody may ask, and what only callers inside may. `/v2/models/m/trace/setting` is why prefixes do not do.
PUBLIC = (
    "/health", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/v1/embeddings", "/v1/models", "/v1/models/housing:predict",
    "/v1/models/housing/versions/1:predict", "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats",
    "/v2/models/housing", "/v2/models/housing/infer", "/v2/models/housing/ready", "/v2/models/housing/stats", "/v2/models/housing/config",
    "/v2/models/housing/versions/1", "/v2/models/housing/versions/1/infer", "/v2/models/housing/versions/1/config",
    *(CALLS + name for name in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig",
                                "ModelStatistics", "ModelInfer", "ModelStreamInfer")),
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
)
INSIDE = (
    "/", "/livez", "/readyz", "/startupz", "/metrics", "/%6detrics", "/unheard/of", "/predict/x", "/docs/../metrics",
    "/v1/features/user", "/v1/features/user/42", "/v1/%66eatures/user/42", "/v1%2Ffeatures/user/42", "/v1/events/arrivals",
    "/v1/events/predict", "/v2/repository/index", "/v2/repository/models/housing/load", "/v2/repository/models/housing/unload",
    "/v2/trace/setting", "/v2/logging", "/v2/models/housing/trace/setting", "/v2/models/housing/trace%2Fsetting",
    *(CALLS + name for name in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings", "New")),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)


def entrances():
    """(who, whether it lets a path in) of each configuration that stands between the public and Weir."""
    def any_of(*expressions):
        return lambda path: any(re.fullmatch(e, path) for e in expressions)

    yield "Envoy", any_of(*(r["match"]["safe_regex"]["regex"] for r in routes(yaml.safe_load(ENVOY_CONFIG.read_text()))))
    haproxy = HAPROXY_CONFIG.read_text()
    assert "http-request return status 404 if !public\n" in haproxy
    exact = re.search(r"^ +acl public path (/.*)$", haproxy, re.MULTILINE)[1].split()
    yield "HAProxy", any_of(*re.findall(r"^ +acl public path_reg \^(.*)\$$", haproxy, re.MULTILINE), *map(re.escape, exact))

    components = ISTIO.parent
    ingresses = list(yaml.safe_load_all((components / "ingress/ingress.yaml").read_text()))
    assert all(i["metadata"]["annotations"]["nginx.ingress.kubernetes.io/use-regex"] == "true" for i in ingresses)
    expressions = [path["path"] for i in ingresses for r in i["spec"]["rules"] for path in r["http"]["paths"]]
    # nginx compares the beginning, without regard to case.
    yield "Ingress", lambda path: any(re.match(e, path, re.IGNORECASE) for e in expressions)

    [route] = [r for r in yaml.safe_load_all((components / "gateway-api/routes.yaml").read_text()) if r["metadata"]["name"] == "weir"]
    paths = [match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]]
    written = {"RegularExpression": lambda p: p, "Exact": re.escape, "PathPrefix": lambda p: re.escape(p.rstrip("/")) + "(/.*)?"}
    # Some implementations look for a part.
    expressions = [written[p["type"]](p["value"]) if p["type"] == "RegularExpression" else f"^{written[p['type']](p['value'])}$" for p in paths]
    yield "HTTPRoute", lambda path: any(re.search(e, path) for e in expressions)

    policy = yaml.safe_load((ISTIO / "authorization-policy.yaml").read_text())["spec"]
    outside = [rule for rule in policy["rules"] if "ingressgateway" in str(rule.get("from"))]
    assert len(outside) == 1 and policy["action"] == "ALLOW"
    expressions = []
    for to in outside[0]["to"]:
        assert "notPaths" not in to["operation"], "what is not named is open"
        for path in to["operation"]["paths"]:
            assert "*" not in path.replace("{*}", ""), path
            expressions.append("[^/]+".join(re.escape(part) for part in path.split("{*}")))
    yield "Istio", any_of(*expressions)


class Public(unittest.TestCase):
    """Each entrance lets the same paths in, and nothing else."""

    def test_every_entrance(self):
        own = re.findall(r'^path = "(/.*)"', (ROOT / "deploy/k8s/base/weir.toml").read_text().partition("[[route]]")[2], re.MULTILINE)
        self.assertGreaterEqual(len(own), 3)
        names = []
        for name, lets_in in entrances():
            names.append(name)
            self.assertEqual([p for p in (*PUBLIC, *own) if not lets_in(p)], [], f"{name} refuses")
            self.assertEqual([p for p in INSIDE if lets_in(p)], [], f"{name} lets in")
        self.assertEqual(names, ["Envoy", "HAProxy", "Ingress", "HTTPRoute", "Istio"])

    def test_the_programs(self):
        """Envoy and HAProxy do as they are read above, before a server that answers everything."""
        class Everything(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        port = free_port()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Everything)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        replica = types.SimpleNamespace(port=port, address=f"127.0.0.1:{port}")
        with tempfile.TemporaryDirectory() as place:
            # The server speaks HTTP/1 alone.
            over_http1 = lambda text: text.replace("    default-server proto h2 check-proto h1\n", "")
            for Proxy, changes in ((Envoy, ()), (HaProxy, (over_http1,))):
                proxy = Proxy(place, [replica], changes=changes)
                try:
                    asked = {path: status(proxy.url + path) for path in (*PUBLIC, *INSIDE)}
                finally:
                    proxy.end()
                self.assertEqual([p for p in PUBLIC if asked[p] != 200], [], f"{proxy.name} refuses")
                # 400: a coded slash, for Envoy.
                self.assertEqual([p for p in INSIDE if asked[p] not in (404, 400)], [], f"{proxy.name} lets in")


class Weir(unittest.TestCase):
    """What the proxies suppose of weir.toml is what the cluster's weir.toml says, or more."""

    def test_the_clusters_weir_toml(self):
        told = dict(re.findall(r'(\w+) = "(\d+s)"', ENVOY_CONFIG.read_text().split("weir.toml:")[1].split("\n")[0]))
        self.assertEqual(set(told), {"drain_delay", "request_timeout", "header_timeout"})
        files = list((ROOT / "deploy/k8s/base").rglob("weir.toml"))
        self.assertEqual(len(files), 1)
        for name, value in told.items():
            found = re.search(rf'^{name} = "(\w+)"', Path(files[0]).read_text(), re.MULTILINE)[1]
            # Endpoints take longer to reach everybody than a health check of one proxy's own.
            same = seconds(found) >= seconds(value) if name == "drain_delay" else found == value
            self.assertTrue(same, f"{name}: {found} in the cluster, {value} supposed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
