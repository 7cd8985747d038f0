"""tritonclient.grpc, and the health and reflection clients of the gRPC project."""

import queue
import unittest

import grpc
import numpy as np
import tritonclient.grpc as client
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory  # noqa: F401
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from common import ADDRESS, BF16, TYPES, bits


def tensor(name, data, word):
    found = client.InferInput(name, list(data.shape), word)
    found.set_data_from_numpy(data)
    return found


def ask(name, data, word, **more):
    with client.InferenceServerClient(ADDRESS) as server:
        return server.infer(name, [tensor("INPUT0", data, word)], **more)


class Types(unittest.TestCase):
    def test_every_type_comes_back_raw(self):
        for word, (datatype, values) in TYPES.items():
            with self.subTest(word=word):
                answer = ask(f"identity_{word}", values, datatype)
                self.assertEqual(answer.get_output("OUTPUT0").datatype, datatype)
                self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(values))
        answer = ask("identity_bf16", BF16, "BF16")
        self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(BF16))

    def test_the_true_bits_travel_raw(self):
        values = np.array([0x7FC00001, 0xFFC12345, 0x7F800000], dtype=np.uint32).view(np.float32)[None]
        answer = ask("identity_fp32", values, "FP32").as_numpy("OUTPUT0")
        np.testing.assert_array_equal(answer.view(np.uint32), values.view(np.uint32))

    def test_every_type_but_the_halves_comes_back_typed(self):
        lists = {"bool": "bool", "int64": "int64", "uint64": "uint64", "fp32": "fp32", "fp64": "fp64",
                 "bytes": "bytes", "int8": "int", "int16": "int", "int32": "int", "uint8": "uint",
                 "uint16": "uint", "uint32": "uint"}
        with grpc.insecure_channel(ADDRESS) as channel:
            stub = client.service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for word, field in lists.items():
                datatype, values = TYPES[word]
                flat = values.flatten().tolist()
                flat = [x.encode() for x in flat] if word == "bytes" else flat
                request = service_pb2.ModelInferRequest(model_name=f"identity_{word}")
                asked = request.inputs.add(name="INPUT0", datatype=datatype, shape=values.shape)
                getattr(asked.contents, f"{field}_contents").extend(flat)
                answer = stub.ModelInfer(request)
                with self.subTest(word=word):
                    self.assertEqual(len(answer.raw_output_contents), 0)
                    got = getattr(answer.outputs[0].contents, f"{field}_contents")
                    self.assertEqual(bits(np.array(list(got), dtype=object)), bits(np.array(flat, dtype=object)))

    def test_no_rows_are_an_answer_of_no_rows(self):
        answer = ask("identity_fp32", np.zeros((0, 3), np.float32), "FP32")
        self.assertEqual(list(answer.get_output("OUTPUT0").shape)[0], 0)


class Models(unittest.TestCase):
    def test_several_inputs_and_outputs_and_every_compression(self):
        for word, kind in [("int32", np.int32), ("fp32", np.float32), ("int8", np.int8)]:
            a, b = np.arange(64, dtype=kind).reshape(4, 16), np.ones((4, 16), dtype=kind)
            inputs = [tensor("INPUT1", b, word.upper()), tensor("INPUT0", a, word.upper())]
            outputs = [client.InferRequestedOutput(name) for name in ["OUTPUT1", "OUTPUT0"]]
            for coding in [None, "gzip", "deflate"]:
                with self.subTest(word=word, coding=coding), client.InferenceServerClient(ADDRESS) as server:
                    answer = server.infer(f"add_sub_{word}", inputs, outputs=outputs, request_id="r-1",
                                          compression_algorithm=coding)
                    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), a + b)
                    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), a - b)
                    self.assertEqual(answer.get_response().id, "r-1")
                    self.assertEqual([o.name for o in answer.get_response().outputs], ["OUTPUT1", "OUTPUT0"])

    def test_versions_differ_and_the_latest_is_the_highest_number(self):
        with client.InferenceServerClient(ADDRESS) as server:
            metadata = server.get_model_metadata("steps")
            self.assertEqual(sorted(metadata.versions), ["1", "10", "2"])
            spec = metadata.inputs[0]
            shape = [1 if n < 0 else n for n in spec.shape]
            kind = client.InferInput(spec.name, shape, spec.datatype)
            zeros = np.zeros(shape, dtype={"FP32": np.float32, "INT32": np.int32}[spec.datatype])
            kind.set_data_from_numpy(zeros)
            out = metadata.outputs[0].name
            for version, want in [("1", 1), ("2", 2), ("10", 10), ("", 10)]:
                answer = server.infer("steps", [kind], model_version=version)
                self.assertEqual(answer.as_numpy(out).flatten()[0], want)
                self.assertEqual(answer.get_response().model_version, version or "10")

    def test_classification(self):
        outputs = [client.InferRequestedOutput("OUTPUT0", class_count=2)]
        scores = np.array([[0.25, 0.5, 0.125]], dtype=np.float32)
        answer = ask("classes", scores, "FP32", outputs=outputs).as_numpy("OUTPUT0")
        self.assertEqual(answer.flatten().tolist(), [b"0.5:1:dog", b"0.25:0:cat"])

    def test_statistics_config_and_index(self):
        with client.InferenceServerClient(ADDRESS) as server:
            before = server.get_inference_statistics("identity_int64").model_stats[0]
            ask("identity_int64", np.zeros((5, 3), np.int64), "INT64")
            after = server.get_inference_statistics("identity_int64", as_json=True)["model_stats"][0]
            self.assertEqual(int(after["inference_count"]) - before.inference_count, 5)
            self.assertEqual(int(after["inference_stats"]["success"]["count"])
                             - before.inference_stats.success.count, 1)
            config = server.get_model_config("add_sub_int8").config
            self.assertEqual([i.name for i in config.input], ["INPUT0", "INPUT1"])
            self.assertEqual(config.input[0].data_type, model_config_pb2.TYPE_INT8)
            self.assertFalse(config.HasField("dynamic_batching"))
            index = {(m.name, m.version): m for m in server.get_model_repository_index().models}
            self.assertEqual(index["half_broken", "1"].state, "READY")
            broken = [m for (name, _), m in index.items() if name == "half_broken" and m.reason]
            self.assertEqual(len(broken), 1)
            self.assertTrue(server.is_server_live() and server.is_server_ready())
            self.assertTrue(server.is_model_ready("half_broken") and not server.is_model_ready("nothing"))

    def test_control(self):
        with client.InferenceServerClient(ADDRESS) as server:
            server.unload_model("identity_uint8")
            self.assertFalse(server.is_model_ready("identity_uint8"))
            server.load_model("identity_uint8")
            self.assertTrue(server.is_model_ready("identity_uint8"))


class Settings(unittest.TestCase):
    """Triton's trace and logging extensions, read and changed as its clients do."""

    def setUp(self):
        self.server = client.InferenceServerClient(ADDRESS)
        self.addCleanup(self.server.close)

    def shown(self, answer):
        return {name: list(value.value) for name, value in answer.settings.items()}

    def test_trace_settings_of_all_and_of_one(self):
        before = self.shown(self.server.get_trace_settings())
        self.assertEqual((before["trace_level"], before["trace_rate"]), (["OFF"], ["1000"]))
        self.server.update_trace_settings(settings={"trace_rate": "5"})
        own = self.server.update_trace_settings("steps", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
        self.assertEqual(self.shown(own)["trace_level"], ["TIMESTAMPS"])
        self.assertEqual(self.shown(self.server.get_trace_settings())["trace_level"], ["OFF"])
        self.assertEqual(self.shown(self.server.get_trace_settings("classes"))["trace_rate"], ["5"])
        self.server.infer("steps", [tensor("x", np.zeros((1, 1), np.float32), "FP32")], request_id="traced")
        cleared = self.server.update_trace_settings("steps", {"trace_level": None, "trace_rate": None})
        self.assertEqual(self.shown(cleared)["trace_level"], ["OFF"])
        self.assertEqual(self.shown(self.server.update_trace_settings(settings={"trace_rate": None})), before)

    def test_what_cannot_be_set_is_said(self):
        for settings, code in [({"trace_file": "/tmp/x"}, "UNIMPLEMENTED"), ({"trace_rate": "0"}, "INVALID_ARGUMENT")]:
            with self.assertRaises(InferenceServerException) as caught:
                self.server.update_trace_settings(settings=settings)
            self.assertEqual(caught.exception.status(), f"StatusCode.{code}")
        with self.assertRaises(InferenceServerException) as caught:
            self.server.update_log_settings({"log_file": "/tmp/x"})
        self.assertIn("log_file", caught.exception.message())

    def test_log_settings(self):
        def of(answer, name):
            value = answer.settings[name]
            return getattr(value, value.WhichOneof("parameter_choice"))

        before = self.server.get_log_settings()
        self.assertEqual((of(before, "log_info"), of(before, "log_verbose_level")), (True, 0))
        changed = self.server.update_log_settings({"log_verbose_level": 2, "log_error": False})
        self.assertEqual((of(changed, "log_verbose_level"), of(changed, "log_error")), (2, False))
        back = self.server.update_log_settings({"log_verbose_level": 0, "log_error": True})
        self.assertEqual(back, before)


def rpc_messages():
    """google.rpc's Status and RetryInfo, as googleapis' error_details.proto has them."""
    file = descriptor_pb2.FileDescriptorProto(
        name="weir/rpc.proto", package="google.rpc", syntax="proto3",
        dependency=["google/protobuf/any.proto", "google/protobuf/duration.proto"])
    for message, name, number, kind, label, of in [
        ("Status", "code", 1, "TYPE_INT32", "LABEL_OPTIONAL", None),
        ("Status", "message", 2, "TYPE_STRING", "LABEL_OPTIONAL", None),
        ("Status", "details", 3, "TYPE_MESSAGE", "LABEL_REPEATED", ".google.protobuf.Any"),
        ("RetryInfo", "retry_delay", 1, "TYPE_MESSAGE", "LABEL_OPTIONAL", ".google.protobuf.Duration"),
    ]:
        found = [m for m in file.message_type if m.name == message]
        field = (found or [file.message_type.add(name=message)])[0].field.add(
            name=name, number=number, type=kind, label=label)
        if of:
            field.type_name = of
    pool = descriptor_pool.Default()
    pool.Add(file)
    of = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
    return of("Status"), of("RetryInfo")


class Retries(unittest.TestCase):
    def test_what_may_be_tried_again_says_when(self):
        Status, RetryInfo = rpc_messages()
        request = service_pb2.ModelInferRequest(model_name="half_broken", model_version="2")
        with grpc.insecure_channel(ADDRESS) as channel:
            stub = client.service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with self.assertRaises(grpc.RpcError) as caught:
                stub.ModelInfer(request)
        error = caught.exception
        self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
        metadata = dict(error.trailing_metadata())
        self.assertEqual(metadata["retry-after"], "1")
        status = Status.FromString(metadata["grpc-status-details-bin"])
        self.assertEqual((status.code, status.message), (error.code().value[0], error.details()))
        info = RetryInfo()
        self.assertTrue(status.details[0].Unpack(info), status)
        self.assertEqual(info.retry_delay.ToTimedelta().total_seconds(), 1)


class Refusals(unittest.TestCase):
    def refused(self, code, name, inputs, **more):
        with client.InferenceServerClient(ADDRESS) as server:
            with self.assertRaises(InferenceServerException) as caught:
                server.infer(name, inputs, **more)
            self.assertEqual(caught.exception.status(), f"StatusCode.{code}", caught.exception.message())
            return caught.exception.message()

    def test_the_reason_and_its_code_are_told(self):
        row = np.zeros((1, 3), np.float32)
        self.assertIn("no model", self.refused("NOT_FOUND", "nothing", [tensor("INPUT0", row, "FP32")]))
        self.refused("NOT_FOUND", "steps", [tensor("INPUT0", row, "FP32")], model_version="7")
        self.refused("INVALID_ARGUMENT", "identity_fp32", [tensor("X", row, "FP32")])
        self.refused("INVALID_ARGUMENT", "identity_fp32", [tensor("INPUT0", row.astype(np.float64), "FP64")])
        shared = client.InferInput("INPUT0", [1, 3], "FP32")
        shared.set_shared_memory("region", 12)
        self.refused("UNIMPLEMENTED", "identity_fp32", [shared])
        self.refused("DEADLINE_EXCEEDED", "identity_fp32", [tensor("INPUT0", row, "FP32")], timeout=1)


class Streams(unittest.TestCase):
    def test_answers_in_order_errors_in_the_stream(self):
        answers = queue.Queue()
        row = np.arange(3, dtype=np.int64)[None]
        with client.InferenceServerClient(ADDRESS) as server:
            server.start_stream(lambda result, error: answers.put((result, error)))
            for i in range(20):
                name = "nothing" if i == 7 else "identity_int64"
                server.async_stream_infer(name, [tensor("INPUT0", row + i, "INT64")], request_id=str(i),
                                          enable_empty_final_response=True)
            for i in range(20):
                result, error = answers.get(timeout=30)
                if i == 7:
                    self.assertIn("no model", error.message())
                    continue
                self.assertIsNone(error)
                self.assertEqual(result.get_response().id, str(i))
                self.assertTrue(result.get_response().parameters["triton_final_response"].bool_param)
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row + i)
            server.stop_stream()

    def test_async_calls(self):
        answers = queue.Queue()
        with client.InferenceServerClient(ADDRESS) as server:
            for i in range(50):
                row = np.full((1, 3), i, dtype=np.int64)
                server.async_infer("identity_int64", [tensor("INPUT0", row, "INT64")],
                                   lambda result, error: answers.put((result, error)), request_id=str(i))
            for _ in range(50):
                result, error = answers.get(timeout=30)
                self.assertIsNone(error)
                self.assertEqual(result.as_numpy("OUTPUT0")[0, 0], int(result.get_response().id))


class Standard(unittest.TestCase):
    def test_health(self):
        with grpc.insecure_channel(ADDRESS) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ["", "inference.GRPCInferenceService"]:
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
                self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)
            watched = stub.Watch(health_pb2.HealthCheckRequest())
            self.assertEqual(next(watched).status, health_pb2.HealthCheckResponse.SERVING)
            watched.cancel()

    def test_what_reflection_describes_is_what_the_clients_were_built_from(self):
        """Every field of ours has the name, number, type and label that it has in theirs."""
        published = {}
        for module in [service_pb2, model_config_pb2, health_pb2]:
            proto = descriptor_pb2.FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(proto)
            collect(proto, published)
        with grpc.insecure_channel(ADDRESS) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = set(database.get_services())
            ours = {}
            for service in ["inference.GRPCInferenceService", "grpc.health.v1.Health"]:
                self.assertIn(service, services)
                collect(database.FindFileContainingSymbol(service), ours)
            collect(database.FindFileByName("inference/model_config.proto"), ours)
        self.assertGreater(len(ours), 150)
        for name, what in ours.items():
            self.assertEqual(published.get(name), what, name)


def collect(file, into):
    """Full name of each field, enum value and method → everything that is on the wire."""
    def message(prefix, m):
        name = f"{prefix}.{m.name}"
        for f in m.field:
            oneof = m.oneof_decl[f.oneof_index].name if f.HasField("oneof_index") else None
            into[f"{name}.{f.name}"] = (f.number, f.type, f.label, f.type_name, oneof, f.options.SerializeToString())
        for nested in m.nested_type:
            message(name, nested)
        for e in m.enum_type:
            enum(name, e)

    def enum(prefix, e):
        for v in e.value:
            into[f"{prefix}.{e.name}.{v.name}"] = v.number

    for m in file.message_type:
        message(file.package, m)
    for e in file.enum_type:
        enum(file.package, e)
    for s in file.service:
        for m in s.method:
            into[f"{file.package}.{s.name}.{m.name}"] = (
                m.input_type, m.output_type, m.client_streaming, m.server_streaming)


if __name__ == "__main__":
    unittest.main()
