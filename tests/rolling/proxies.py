"""Envoy and HAProxy, run with the configurations that are shipped in deploy/: addresses are replaced, and
nothing else but what a test names."""

import copy
import csv
import io
import json
import re
import shutil
import socket
import sys
import urllib.request
from pathlib import Path

import yaml

from processes import ROOT, Process, free_port, status, until

ENVOY_CONFIG = ROOT / "deploy/envoy/envoy.yaml"
HAPROXY_CONFIG = ROOT / "deploy/haproxy/haproxy.cfg"
BACKENDS = ("weir", "weir-canary", "weir-grpc", "weir-grpc-canary")


def envoy_program():
    found = list(Path(sys.prefix).glob("lib/python*/site-packages/envoy/_bin/envoy"))
    assert found, f"there is no Envoy in {sys.prefix}: run `make venvs`"
    return str(found[0])


def haproxy_program():
    program = ROOT / ".cache/servers/bin/haproxy"
    program = str(program) if program.exists() else shutil.which("haproxy")
    assert program, "there is no haproxy: run `make servers`"
    return program


def routes(config):
    """The routes of Envoy's configuration."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return manager["route_config"]["virtual_hosts"][0]["routes"]


def without_retries(config):
    """Change for Envoy: what is lost stays lost."""
    for route in routes(config):
        route.get("route", {}).pop("retry_policy", None)


def over_http2(config):
    """Change for Envoy: HTTP/2 to the replicas, whatever the client speaks."""
    for cluster in config["static_resources"]["clusters"]:
        for options in cluster["typed_extension_protocol_options"].values():
            options.pop("use_downstream_protocol_config")
            options["explicit_http_config"] = {"http2_protocol_options": {}}


def without_panic(config):
    """Change for Envoy: those found unhealthy get nothing, however many they are."""
    for cluster in config["static_resources"]["clusters"]:
        cluster["common_lb_config"]["healthy_panic_threshold"]["value"] = 0


class Envoy:
    """Envoy with the shipped configuration; without a canary all go to the stable replicas."""

    name = "Envoy"

    def __init__(self, place, stable, canary=None, changes=(), expected=None):
        self.port, self.admin = free_port(), free_port()
        self.all_http2 = over_http2 in changes
        # Aliases of YAML become one object in Python: changed once, changed everywhere. Copied, they do not.
        config = json.loads(json.dumps(yaml.safe_load(ENVOY_CONFIG.read_text())))
        for change in changes:
            change(config)
        config["admin"]["address"]["socket_address"]["port_value"] = self.admin
        address = config["static_resources"]["listeners"][0]["address"]["socket_address"]
        address.update(address="127.0.0.1", port_value=self.port)
        self.point(config, stable, canary)
        path = Path(place) / f"envoy-{self.port}.yaml"
        path.write_text(yaml.safe_dump(config))
        self.process = Process([envoy_program(), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id",
                                "--log-level", "warn"], Path(place) / f"envoy-{self.port}.log")
        healthy = 1 if canary else 0
        until("Envoy finds its replicas healthy", lambda: self.healthy("weir-stable") == (expected or len(stable))
              and self.healthy("weir-canary") == healthy)

    def point(self, config, stable, canary):
        clusters = config["static_resources"]["clusters"]
        for cluster, replicas in zip(clusters, [stable, [canary] if canary else []]):
            places = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
            model = places[0]
            places.clear()
            for replica in replicas:
                place = copy.deepcopy(model)
                place["endpoint"]["address"]["socket_address"].update(address="127.0.0.1", port_value=replica.port)
                places.append(place)
        if not canary:
            for route in routes(config):
                for weight in route.get("route", {}).get("weighted_clusters", {}).get("clusters", []):
                    weight["weight"] = 100 if weight["name"] == "weir-stable" else 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stat(self, name):
        """A counter of both clusters together, such as `upstream_rq_total`."""
        lines = self.ask(f"/stats?filter=^cluster\\.weir.*\\.{name}$").splitlines()
        return sum(int(line.rsplit(": ", 1)[1]) for line in lines)

    def ask(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            assert self.process.child.poll() is None, f"Envoy ended:\n{self.process.log.read_text()}"
            return ""

    def healthy(self, cluster):
        found = re.search(rf"cluster\.{cluster}\.membership_healthy: (\d+)", self.ask("/stats?filter=membership"))
        return int(found[1]) if found else -1

    def in_rotation(self):
        """How many stable replicas get requests."""
        return self.healthy("weir-stable")

    def retries(self):
        """Tries beyond the first."""
        return self.stat("upstream_rq_retry")

    def sent(self):
        """Requests to replicas, tries included, health checks not."""
        return self.stat("upstream_rq_total")

    def host(self, replica):
        clusters = json.loads(self.ask("/clusters?format=json"))["cluster_statuses"]
        hosts = [host for cluster in clusters for host in cluster.get("host_statuses", [])]
        return next(h for h in hosts if h["address"]["socket_address"]["port_value"] == replica.port)

    def host_stat(self, replica, name):
        return sum(int(stat.get("value", 0)) for stat in self.host(replica)["stats"] if stat["name"] == name)

    def sent_to(self, replica):
        """The same to one of them."""
        return self.host_stat(replica, "rq_total")

    def unanswered(self, replica):
        """Requests that a replica has now."""
        return self.host_stat(replica, "rq_active")

    def holds_json(self, replica):
        """Whether a replica that stands still has requests that came as JSON. Streams over HTTP/2 are gRPC's,
        unless all goes over HTTP/2; counted after the requests, they are at least those that it had then."""
        held = self.unanswered(replica)
        return held > (0 if self.all_http2 else self.stat("http2.streams_active"))

    def leaves_out(self, replica):
        """Whether its health check has failed."""
        return bool(self.host(replica)["health_status"].get("failed_active_health_check"))

    def end(self):
        self.process.kill()


class HaProxy:
    """HAProxy with the shipped configuration."""

    name = "HAProxy"

    def __init__(self, place, stable, canary=None, changes=(), expected=None):
        self.port = free_port()
        self.socket = str(Path(place) / f"haproxy-{self.port}.sock")
        text = HAPROXY_CONFIG.read_text()
        for change in changes:
            text = change(text)
        text = self.replace(text, "/run/haproxy/admin.sock", self.socket)
        text = self.replace(text, "bind :8080", f"bind 127.0.0.1:{self.port}")
        for at in range(3):
            line = rf"( +server weir-{at + 1}) weir-{at + 1}:8000"
            assert re.search(line, text)
            there = at < len(stable)
            text = re.sub(line + ("" if there else ".*\n"), rf"\1 {stable[at].address}" if there else "", text)
        line = r"( +server weir-canary) weir-canary:8000"
        text = re.sub(line, rf"\1 {canary.address}", text) if canary else re.sub(line + ".*\n", "", text)
        path = Path(place) / f"haproxy-{self.port}.cfg"
        path.write_text(text)
        self.process = Process([haproxy_program(), "-db", "-f", str(path)], Path(place) / f"haproxy-{self.port}.log")
        count, canaries = expected or len(stable), int(bool(canary))
        # HAProxy takes a server for healthy until it has asked it once.
        until("HAProxy finds its replicas healthy", lambda: self.all_asked() and self.in_rotation() == count
              and self.up("weir-canary") == canaries)

    @staticmethod
    def replace(text, old, new):
        assert text.count(old) == 1, f"{HAPROXY_CONFIG} has {old!r} {text.count(old)} times"
        return text.replace(old, new)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def rows(self):
        with socket.socket(socket.AF_UNIX) as admin:
            try:
                admin.connect(self.socket)
            except OSError:
                assert self.process.child.poll() is None, f"HAProxy ended:\n{self.process.log.read_text()}"
                return []
            admin.sendall(b"show stat\n")
            text = b"".join(iter(lambda: admin.recv(1 << 16), b"")).decode()
        return list(csv.DictReader(io.StringIO(text.lstrip("# "))))

    def servers(self, backend):
        rows = [row for row in self.rows() if row["pxname"] == backend]
        return [row for row in rows if row["svname"] not in ("BACKEND", "FRONTEND")]

    def all_asked(self):
        return all(row["check_status"] not in ("", "INI") for b in BACKENDS for row in self.servers(b))

    def up(self, backend):
        return sum(row["status"].startswith("UP") for row in self.servers(backend))

    def in_rotation(self):
        # Each backend asks by itself; -1 while they disagree.
        json, grpc = self.up("weir"), self.up("weir-grpc")
        return json if json == grpc else -1

    def total(self, column):
        return sum(int(row[column] or 0) for b in BACKENDS for row in self.servers(b))

    def retries(self):
        return self.total("wretr") + self.total("wredis")

    def sent(self):
        # `stot` counts the sessions that reached a server; a retry is counted again.
        return self.total("stot") + self.total("wretr")

    def sent_to(self, replica):
        return sum(int(row["stot"] or 0) for row in self.places(replica))

    def places(self, replica):
        return [row for b in BACKENDS for row in self.servers(b) if row["addr"] == replica.address]

    def holds_json(self, replica):
        return any(int(row["scur"]) > 0 for row in self.places(replica) if "grpc" not in row["pxname"])

    def leaves_out(self, replica):
        return all(row["status"].startswith("DOWN") for row in self.places(replica))

    def end(self):
        self.process.kill()
