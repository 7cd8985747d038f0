"""tritonclient's arguments for sequences, over HTTP, gRPC and a gRPC stream, on the model
`counting`: it adds up what it is given and tells its controls."""

import queue
import unittest

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from common import ADDRESS


def tensor(client, value):
    made = client.InferInput("INPUT", [1, 1], "INT32")
    made.set_data_from_numpy(np.array([[value]], np.int32))
    return [made]


def told(answer):
    """Sum, `[start, end, ready]` as the model saw them (its end is 2), id."""
    return (answer.as_numpy("OUTPUT")[0, 0], answer.as_numpy("TOLD")[0].tolist(), answer.as_numpy("CALLED")[0, 0])


class Both:
    def ask(self, value, **sequence):
        with self.client.InferenceServerClient(ADDRESS) as server:
            return told(server.infer("counting", tensor(self.client, value), **sequence))

    def refused(self, value, **sequence):
        with self.assertRaises(InferenceServerException) as caught:
            self.ask(value, **sequence)
        return caught.exception.message()

    def test_sequences_are_kept_apart(self):
        one, two = self.first, self.first + 1
        self.assertEqual(self.ask(1, sequence_id=one, sequence_start=True), (1, [1, 0, 1], one))
        self.assertEqual(self.ask(10, sequence_id=two, sequence_start=True), (10, [1, 0, 1], two))
        self.assertEqual(self.ask(2, sequence_id=one), (3, [0, 0, 1], one))
        self.assertEqual(self.ask(20, sequence_id=two), (30, [0, 0, 1], two))
        self.assertEqual(self.ask(3, sequence_id=one, sequence_end=True), (6, [0, 2, 1], one))
        self.assertIn("must specify the START flag", self.refused(4, sequence_id=one))
        self.assertEqual(self.ask(5, sequence_id=two, sequence_start=True)[0], 5, "begins again")

    def test_no_sequence_is_refused(self):
        self.assertIn("must specify a non-zero or non-empty correlation ID", self.refused(1))

    def test_a_text_is_no_id_for_a_model_that_takes_numbers(self):
        self.assertIn("as int64", self.refused(1, sequence_id="call-7", sequence_start=True))

    def test_the_server_says_so(self):
        with self.client.InferenceServerClient(ADDRESS) as server:
            metadata = server.get_server_metadata()
            extensions = metadata["extensions"] if isinstance(metadata, dict) else metadata.extensions
            self.assertIn("sequence", list(extensions))
            metadata = server.get_model_metadata("counting")
            inputs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
            names = [i["name"] if isinstance(i, dict) else i.name for i in inputs]
            self.assertEqual(names, ["INPUT"])


class Http(Both, unittest.TestCase):
    client, first = http, 100


class Grpc(Both, unittest.TestCase):
    client, first = grpc, 200

    def test_a_stream_sends_without_waiting_and_each_sequence_keeps_its_order(self):
        answers = queue.Queue()
        with grpc.InferenceServerClient(ADDRESS) as server:
            server.start_stream(lambda result, error: answers.put((result, error)))
            steps, sequences = 40, range(300, 304)
            for n in range(steps):
                for sequence in sequences:
                    server.async_stream_infer(
                        "counting", tensor(grpc, n), request_id=f"{sequence}-{n}", sequence_id=sequence,
                        sequence_start=n == 0, sequence_end=n == steps - 1)
            for n in range(steps):
                for sequence in sequences:
                    result, error = answers.get(timeout=60)
                    self.assertIsNone(error)
                    self.assertEqual(result.get_response().id, f"{sequence}-{n}")
                    self.assertEqual(told(result)[0], n * (n + 1) // 2)
            server.stop_stream()


if __name__ == "__main__":
    unittest.main()
