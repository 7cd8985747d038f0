"""The same rows through each face of the server: typed JSON, V2 as JSON, V2 with binary tensors, V2 over gRPC.

Each face asks for the probabilities alone, the one output that the typed face gives. Every face
has 16 requests on the way: HTTP/1.1 and gRPC on 16 connections each, and gRPC once more as its
clients do it, 16 streams on one connection.
"""

import json
import statistics
import struct
import subprocess
import sys
from dataclasses import dataclass

import load
import protobuf
import report
import servers
from machine import ROOT, note
from servers import WORK

ROWS = (1, 32, 1000)
CONCURRENCY = 16
TYPED = "typed JSON"
BINARY = "V2 binary tensors"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
OUTPUT = "probabilities"
ROUTES = {
    "/row": ['model = "housing"', 'response = { prediction = "prediction" }'],
    "/rows": ['model = "housing"', 'request = { rows = "houses" }', 'response = { predictions = "prediction" }'],
}


@dataclass
class Grpc(load.Workload):
    """Calls of one message each, sent by bench/h2."""

    connections: int = CONCURRENCY

    def command(self, port, path, *more):
        headers = [word for pair in self.headers.items() for word in ("--header", ":".join(pair))]
        return [servers.h2_load(), "--address", f"127.0.0.1:{port}", "--path", path, "--bodies", self.file(),
                *headers, *more]

    def answers(self, server, path):
        file = WORK / f"{self.name}.answers"
        run = subprocess.run(self.command(server.port, path, "--answers", file), capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"bench: {server.name} answered {path} with {run.stderr[-500:]}")
        return [(200, body) for body in load.read_bodies(file)]

    def generator(self, port, path, seconds):
        return self.command(port, path, "--seconds", seconds, "--connections", self.connections,
                            "--streams", self.concurrency // self.connections)


def head(rows, **more):
    """A V2 request up to its data."""
    return {"inputs": [{"name": "input", "shape": [rows, 8], "datatype": "FP32", **more}]}


def typed(rows):
    return json.dumps({"houses": rows} if len(rows) > 1 else rows[0])


def v2_json(rows):
    data = [value for row in rows for value in row.values()]
    return json.dumps({**head(len(rows), data=data), "outputs": [{"name": OUTPUT}]})


def floats(rows):
    return struct.pack(f"<{8 * len(rows)}f", *(value for row in rows for value in row.values()))


def binary_head(rows):
    size = {"binary_data_size": 32 * rows}
    wanted = [{"name": OUTPUT, "parameters": {"binary_data": True}}]
    return json.dumps({**head(rows, parameters=size), "outputs": wanted}).encode()


def grpc(rows):
    message = protobuf.infer_request("housing", "input", "FP32", [len(rows), 8], OUTPUT, floats(rows))
    return b"\0" + struct.pack(">I", len(message)) + message


def read_blob(rows):
    """The numbers of a binary answer: the blob is all that follows the JSON."""
    return lambda raw: list(struct.unpack(f"<{2 * rows}f", raw[-8 * rows:]))


def read_grpc(raw):
    blob = protobuf.first_raw_output(raw[5:])
    return list(struct.unpack(f"<{len(blob) // 4}f", blob))


def read_v2_json(raw):
    return json.loads(raw)["outputs"][0]["data"]


def workloads(count):
    """The same rows as each face takes them, by the face's name."""
    chosen = load.rotated(count)
    rows = [[sample["input"] for sample in samples] for samples in chosen]
    high = [[sample["prediction"] for sample in samples] for samples in chosen]
    both = [[p for one in some for p in (1 - one, one)] for some in high]
    binary = {"content-type": "application/octet-stream",
              "inference-header-content-length": str(len(binary_head(count)))}
    protobuf_headers = {"content-type": "application/grpc", "te": "trailers"}
    infer = "/v2/models/housing/infer"
    blobs = [binary_head(count) + floats(some) for some in rows]
    calls = [grpc(some) for some in rows]

    def face(kind, name, path, bodies, expected, headers, read, **more):
        title = f"housing, {count} row{'s' if count > 1 else ''}"
        return kind(f"{name}-{count}", title, path, bodies, expected, 1e-6, CONCURRENCY, headers, read, **more)

    return {
        TYPED: face(load.Workload, "typed", "/row" if count == 1 else "/rows",
                    [typed(some) for some in rows], high, load.JSON, load.numbers_of_json),
        "V2 JSON": face(load.Workload, "v2-json", infer, [v2_json(some) for some in rows], both, load.JSON, read_v2_json),
        BINARY: face(load.Workload, "v2-binary", infer, blobs, both, binary, read_blob(count)),
        "V2 gRPC, 16 connections": face(Grpc, "grpc", MODEL_INFER, calls, both, protobuf_headers, read_grpc),
        "V2 gRPC, 1 connection": face(Grpc, "grpc-1", MODEL_INFER, calls, both, protobuf_headers, read_grpc,
                                      connections=1),
    }


def measure(options):
    """Of each number of rows: the workload's title and rows, and the contestants."""
    config = servers.write_config("faces", ROOT / "examples/models/housing", ROUTES)
    measured = []
    with servers.weir(config) as weir:
        for count in ROWS:
            faces = workloads(count)
            first = faces[TYPED]
            if not measured:
                weir.first_answer_s(first.path, first.bodies[0])
            note(f"faces, {first.title}: {options.rounds} rounds")
            for workload in faces.values():
                load.check(workload, weir, workload.path)
            contestants = [load.Contestant(name, weir, w.path, workload=w) for name, w in faces.items()]
            load.race(first, contestants, options.rounds, options.seconds)
            measured.append({"title": first.title, "rows": count, "contestants": contestants})
    return measured


def goals(measured):
    (found,) = [m for m in measured if m["rows"] == 32]
    by_name = {c.name: c for c in found["contestants"]}
    return [report.goal(f"V2 binary tensors, {found['title']}, against typed JSON", 1.5,
                        **load.ratios(by_name[BINARY], by_name[TYPED]))]


def as_json(measured):
    """Each face beside the typed one: ratios of stretches that ran next to each other."""
    rows = []
    for contestant in measured["contestants"]:
        ratios = load.ratios(contestant, measured["contestants"][0])
        per_s = measured["rows"] * contestant.median("requests_per_s")
        size = statistics.mean(len(body) for body in contestant.workload.bodies)
        rows.append({**report.as_row(contestant), **ratios, "rows_per_s": per_s, "body_bytes": round(size)})
    return {"title": measured["title"], "rows": measured["rows"], "contestants": rows}


def markdown(tables):
    lines = []
    for table in tables:
        lines += [f"### {table['title']}, each face, concurrency {CONCURRENCY}", "",
                  "| face | body, bytes | req/s | rows/s | p50 / p99 ms | CPU ms a request | "
                  "against typed JSON, by rate / by CPU |", "| --- | --- | --- | --- | --- | --- | --- |"]
        for row in table["contestants"]:
            s = report.significant
            lines.append(f"| {row['name']} | {row['body_bytes']:,} | {s(row['requests_per_s'])} | {s(row['rows_per_s'])} | "
                         f"{s(row['p50_ms'])} / {s(row['p99_ms'])} | {s(row['cpu_ms'])} | "
                         f"{s(row['by_rate'])} × / {s(row['by_cpu'])} × |")
        lines.append("")
    return lines
