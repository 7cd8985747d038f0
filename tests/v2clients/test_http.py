"""tritonclient.http: the client that most of Triton's users have."""

import json
import unittest

import numpy as np
import tritonclient.http as client
from tritonclient.utils import InferenceServerException

from common import ADDRESS, BF16, TYPES, bits


def ask(name, data, word, *, binary, outputs=None, **more):
    tensor = client.InferInput("INPUT0", list(data.shape), word)
    tensor.set_data_from_numpy(data, binary_data=binary)
    outputs = outputs or [client.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    with client.InferenceServerClient(ADDRESS) as server:
        return server.infer(name, [tensor], outputs=outputs, **more)


class Types(unittest.TestCase):
    def test_every_type_comes_back_binary_and_json(self):
        for word, (datatype, values) in TYPES.items():
            for binary in [True, False]:
                if word == "fp16" and not binary:
                    continue  # The client itself has no FP16 in JSON.
                with self.subTest(word=word, binary=binary):
                    answer = ask(f"identity_{word}", values, datatype, binary=binary)
                    self.assertEqual(answer.get_output("OUTPUT0")["datatype"], datatype)
                    self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(values))

    def test_bf16_goes_raw(self):
        answer = ask("identity_bf16", BF16, "BF16", binary=True)
        self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(BF16))

    def test_no_rows_are_an_answer_of_no_rows(self):
        answer = ask("identity_fp32", np.zeros((0, 3), np.float32), "FP32", binary=True)
        self.assertEqual(answer.as_numpy("OUTPUT0").size, 0)
        self.assertEqual(answer.get_output("OUTPUT0")["shape"][0], 0)


class Arithmetic(unittest.TestCase):
    def test_inputs_may_mix_json_and_blobs_in_any_order(self):
        for word, kind in [("int32", np.int32), ("fp32", np.float32), ("int8", np.int8)]:
            a = np.arange(32, dtype=kind).reshape(2, 16)
            b = np.ones((2, 16), dtype=kind)
            for first, second in [(True, False), (False, True), (True, True), (False, False)]:
                with self.subTest(word=word, first=first, second=second):
                    datatype = word.upper()
                    inputs = [client.InferInput(n, [2, 16], datatype) for n in ["INPUT1", "INPUT0"]]
                    inputs[0].set_data_from_numpy(b, binary_data=first)
                    inputs[1].set_data_from_numpy(a, binary_data=second)
                    outputs = [client.InferRequestedOutput("OUTPUT1", binary_data=first),
                               client.InferRequestedOutput("OUTPUT0", binary_data=second)]
                    with client.InferenceServerClient(ADDRESS) as server:
                        answer = server.infer(f"add_sub_{word}", inputs, outputs=outputs, request_id="r-1")
                    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), a + b)
                    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), a - b)
                    self.assertEqual(answer.get_response()["id"], "r-1")

    def test_only_what_is_asked_for_is_sent(self):
        a = np.ones((1, 16), np.int32)
        inputs = [client.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in range(2)]
        for tensor in inputs:
            tensor.set_data_from_numpy(a)
        with client.InferenceServerClient(ADDRESS) as server:
            some = server.infer("add_sub_int32", inputs,
                                outputs=[client.InferRequestedOutput("OUTPUT1")]).get_response()
            everything = server.infer("add_sub_int32", inputs).get_response()
        self.assertEqual([o["name"] for o in some["outputs"]], ["OUTPUT1"])
        self.assertEqual([o["name"] for o in everything["outputs"]], ["OUTPUT0", "OUTPUT1"])

    def test_async_answers_belong_to_their_requests(self):
        with client.InferenceServerClient(ADDRESS, concurrency=8) as server:
            waiting = []
            for i in range(64):
                tensor = client.InferInput("x", [i + 1, 1], "FP32")
                tensor.set_data_from_numpy(np.full((i + 1, 1), i, np.float32))
                waiting.append(server.async_infer("steps", [tensor], request_id=str(i)))
            for i, request in enumerate(waiting):
                answer = request.get_result()
                self.assertEqual(answer.get_response()["id"], str(i))
                np.testing.assert_array_equal(answer.as_numpy("y"), np.full((i + 1, 1), i + 10, np.float32))


class Compression(unittest.TestCase):
    def test_both_ways_with_each_coding(self):
        values = np.tile(np.arange(4, dtype=np.float32), (500, 1))
        for request in [None, "gzip", "deflate"]:
            for response in [None, "gzip", "deflate"]:
                for binary in [True, False]:
                    with self.subTest(request=request, response=response, binary=binary):
                        answer = ask("identity_fp32", values, "FP32", binary=binary,
                                     request_compression_algorithm=request,
                                     response_compression_algorithm=response)
                        np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), values)


class Classification(unittest.TestCase):
    def test_the_best_come_with_index_and_label(self):
        scores = np.array([[0.25, 0.5, 0.125], [3.0, 1.0, 2.0]], np.float32)
        for binary in [True, False]:
            outputs = [client.InferRequestedOutput("OUTPUT0", binary_data=binary, class_count=2)]
            answer = ask("classes", scores, "FP32", binary=binary, outputs=outputs)
            found = bits(answer.as_numpy("OUTPUT0"))
            self.assertEqual(found, ["0.5:1:dog", "0.25:0:cat", "3:0:cat", "2:2:eel"])


class Settings(unittest.TestCase):
    """Triton's trace and logging extensions, read and changed as its clients do."""

    def setUp(self):
        self.server = client.InferenceServerClient(ADDRESS)
        self.addCleanup(self.server.close)

    def test_trace_settings_of_all_and_of_one(self):
        before = self.server.get_trace_settings()
        self.assertEqual((before["trace_level"], before["trace_rate"]), (["OFF"], "1000"))
        changed = self.server.update_trace_settings(settings={"trace_rate": "5", "log_frequency": "0"})
        self.assertEqual(changed["trace_rate"], "5")
        own = self.server.update_trace_settings("steps", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
        self.assertEqual((own["trace_level"], own["trace_rate"]), (["TIMESTAMPS"], "1"))
        self.assertEqual(self.server.get_trace_settings()["trace_level"], ["OFF"])
        self.assertEqual(self.server.get_trace_settings("classes")["trace_rate"], "5")
        x = client.InferInput("x", [1, 1], "FP32")
        x.set_data_from_numpy(np.zeros((1, 1), np.float32))
        self.server.infer("steps", [x], request_id="traced")
        # What was read can be sent back, and None clears.
        self.server.update_trace_settings("steps", own)
        cleared = self.server.update_trace_settings("steps", {"trace_level": None, "trace_rate": None})
        self.assertEqual((cleared["trace_level"], cleared["trace_rate"]), (["OFF"], "5"))
        self.assertEqual(self.server.update_trace_settings(settings={"trace_rate": None}), before)

    def test_what_cannot_be_set_is_said(self):
        for settings in [{"trace_file": "/tmp/x"}, {"trace_level": ["TENSORS"]}, {"trace_rate": "0"}, {"x": "1"}]:
            with self.assertRaises(InferenceServerException) as caught:
                self.server.update_trace_settings(settings=settings)
            self.assertIn(list(settings)[0].replace("trace_level", "TENSORS"), caught.exception.message())
        for settings in [{"log_file": "/tmp/x"}, {"log_format": "ISO8601"}, {"log_info": "yes"}]:
            with self.assertRaises(InferenceServerException) as caught:
                self.server.update_log_settings(settings)
            self.assertIn(list(settings)[0], caught.exception.message())

    def test_log_settings(self):
        before = self.server.get_log_settings()
        self.assertEqual((before["log_info"], before["log_verbose_level"], before["log_file"]), (True, 0, ""))
        changed = self.server.update_log_settings({"log_verbose_level": 1, "log_warning": False})
        self.assertEqual((changed["log_verbose_level"], changed["log_warning"]), (1, False))
        self.assertEqual(self.server.update_log_settings(before), before)

    def test_a_name_in_capitals_is_the_models(self):
        self.assertTrue(self.server.is_model_ready("Steps"))
        self.assertEqual(self.server.get_model_metadata("STEPS")["name"], "steps")


class About(unittest.TestCase):
    def setUp(self):
        self.server = client.InferenceServerClient(ADDRESS)
        self.addCleanup(self.server.close)

    def test_health(self):
        self.assertTrue(self.server.is_server_live())
        self.assertTrue(self.server.is_server_ready())
        self.assertTrue(self.server.is_model_ready("steps"))
        self.assertTrue(self.server.is_model_ready("steps", "2"))
        self.assertFalse(self.server.is_model_ready("steps", "3"))
        self.assertFalse(self.server.is_model_ready("nothing"))

    def test_metadata(self):
        server = self.server.get_server_metadata()
        self.assertEqual(server["name"], "weir")
        self.assertIn("binary_tensor_data", server["extensions"])
        model = self.server.get_model_metadata("steps")
        self.assertEqual(model["versions"], ["1", "2", "10"])
        self.assertEqual(model["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}])
        for word, (datatype, _) in TYPES.items():
            found = self.server.get_model_metadata(f"identity_{word}")
            self.assertEqual(found["outputs"], [{"name": "OUTPUT0", "datatype": datatype, "shape": [-1, -1]}])

    def test_configuration(self):
        config = self.server.get_model_config("add_sub_int8")
        self.assertEqual(config["input"][0], {"name": "INPUT0", "data_type": "TYPE_INT8", "dims": [16]})
        self.assertGreater(config["max_batch_size"], 0)
        self.assertNotIn("dynamic_batching", config)

    def test_versions_answer_for_themselves_and_the_latest_is_numeric(self):
        tensor = client.InferInput("x", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
        for version, expected in [("1", 1), ("2", 2), ("10", 10), ("", 10)]:
            answer = self.server.infer("steps", [tensor], model_version=version)
            self.assertEqual(answer.as_numpy("y").item(), expected)
            self.assertEqual(answer.get_response()["model_version"], version or "10")

    def test_statistics_count_requests_and_rows(self):
        def now():
            [one] = self.server.get_inference_statistics("identity_int16", "1")["model_stats"]
            return one

        before = now()
        for _ in range(2):
            ask("identity_int16", np.ones((3, 2), np.int16), "INT16", binary=True)
        after = now()
        self.assertEqual(after["inference_count"] - before["inference_count"], 6)
        success = after["inference_stats"]["success"]
        self.assertEqual(success["count"] - before["inference_stats"]["success"]["count"], 2)
        self.assertGreater(success["ns"], after["inference_stats"]["compute_infer"]["ns"])
        self.assertGreater(after["last_inference"], 1_600_000_000_000)
        every = self.server.get_inference_statistics()["model_stats"]
        self.assertGreater(len(every), 20)
        self.assertEqual(len(self.server.get_inference_statistics("steps")["model_stats"]), 3)

    def test_the_index_says_why_a_version_does_not_serve(self):
        index = {(e["name"], e["version"]): e for e in self.server.get_model_repository_index()}
        self.assertEqual(index["half_broken", "1"]["state"], "READY")
        broken = index["half_broken", "2"]
        self.assertEqual(broken["state"], "UNAVAILABLE")
        self.assertEqual(broken["reason"], "wrong at model.onnx; the log says what")

    def test_models_are_unloaded_and_loaded(self):
        self.assertIn("model_repository", self.server.get_server_metadata()["extensions"])
        self.server.unload_model("identity_uint32")
        self.assertFalse(self.server.is_model_ready("identity_uint32"))
        self.server.load_model("identity_uint32")
        self.assertTrue(self.server.is_model_ready("identity_uint32"))
        with self.assertRaises(InferenceServerException):
            self.server.load_model("nothing")


class Mistakes(unittest.TestCase):
    def refused(self, name, data, word, status="400", **more):
        with self.assertRaises(InferenceServerException) as caught:
            ask(name, data, word, binary=True, **more)
        self.assertEqual(caught.exception.status(), status)
        return caught.exception.message()

    def test_the_message_says_what_is_wrong(self):
        ones = np.ones((1, 2), np.float32)
        self.assertIn("INPUT0", self.refused("identity_int8", ones, "FP32"))
        self.assertIn("shape", self.refused("classes", ones, "FP32"))
        self.assertIn("no model", self.refused("nothing", ones, "FP32", status="404"))
        self.assertIn("version", self.refused("classes", ones, "FP32", status="404", model_version="7"))

    def test_a_deadline_that_cannot_be_met_is_504(self):
        rows = np.ones((10_000, 100), np.float32)
        text = self.refused("identity_fp32", rows, "FP32", status="504", timeout=1)
        self.assertIn("deadline", text)


class Typed(unittest.TestCase):
    """A table: one tensor by default, one input a column where model.toml says so."""

    ROWS = np.array([[8.3252, 41.0, 6.98, 1.02, 322.0, 2.55, 37.88, -122.23],
                     [1.5, 20.0, 4.0, 1.1, 1500.0, 3.0, 34.0, -118.0]], np.float32)

    def typed(self, server, names):
        rows = [dict(zip(names, map(float, row))) for row in self.ROWS]
        body = json.dumps({"instances": rows})
        answer = server._post("v1/models/housing:predict", body, {}, {"outputs": "probability:high"})
        return [row["probability:high"] for row in json.loads(answer.read())["predictions"]]

    def test_tensor_columns_and_typed_rows_answer_the_same(self):
        with client.InferenceServerClient(ADDRESS) as server:
            [table] = server.get_model_metadata("housing")["inputs"]
            whole = client.InferInput(table["name"], [2, 8], "FP32")
            whole.set_data_from_numpy(self.ROWS)
            columns = server.get_model_metadata("housing_columns")["inputs"]
            self.assertEqual([c["shape"] for c in columns], [[-1, 1]] * 8)
            inputs = []
            for i, column in enumerate(columns):
                tensor = client.InferInput(column["name"], [2, 1], column["datatype"])
                tensor.set_data_from_numpy(np.ascontiguousarray(self.ROWS[:, i : i + 1]))
                inputs.insert(0, tensor)
            first = server.infer("housing", [whole])
            second = server.infer("housing_columns", inputs)
            for output in first.get_response()["outputs"]:
                name = output["name"]
                np.testing.assert_array_equal(first.as_numpy(name), second.as_numpy(name))
            typed = np.array(self.typed(server, [c["name"] for c in columns]), np.float32)
            np.testing.assert_array_equal(first.as_numpy("probabilities")[:, 1], typed)

    def test_the_rules_hold(self):
        rows = self.ROWS.copy()
        rows[1, 6] = 91
        with client.InferenceServerClient(ADDRESS) as server:
            [table] = server.get_model_metadata("housing")["inputs"]
            whole = client.InferInput(table["name"], [2, 8], "FP32")
            whole.set_data_from_numpy(rows)
            with self.assertRaises(InferenceServerException) as caught:
                server.infer("housing", [whole])
        self.assertIn("`Latitude` of row 1", caught.exception.message())


if __name__ == "__main__":
    unittest.main()
