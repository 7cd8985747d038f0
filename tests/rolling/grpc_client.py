"""A gRPC client as users have it: grpcio, with the retry policy that deploy/envoy/grpc-client.json has."""

import struct
import threading

import grpc

from processes import ROOT

POLICY = ROOT / "deploy/envoy/grpc-client.json"
NAMES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")


def field(number, content):
    """A length-delimited field of protobuf; shorter than 128 bytes, as all here are."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def infer_request(row):
    """A ModelInferRequest of one row of housing: model_name, inputs, raw_input_contents."""
    tensor = field(1, b"input") + field(2, b"FP32") + field(3, bytes([1, 8]))
    values = struct.pack("<8f", *(row[name] for name in NAMES))
    return field(1, b"housing") + field(5, tensor) + field(7, values)


class Callers:
    """Some threads that ask one after the other, until they are stopped."""

    def __init__(self, port, row, policy, threads=8, pause=0.02):
        options = [("grpc.service_config", POLICY.read_text())] if policy else [("grpc.enable_retries", 0)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self.infer = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self.request, self.pause = infer_request(row), pause
        self.answered, self.failed, self.done = 0, [], threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.done.is_set():
            try:
                assert self.infer(self.request, timeout=30)
                with self.lock:
                    self.answered += 1
            except grpc.RpcError as error:
                with self.lock:
                    self.failed.append(f"{error.code()}: {error.details()}")
            self.done.wait(self.pause)

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join()
        self.channel.close()
