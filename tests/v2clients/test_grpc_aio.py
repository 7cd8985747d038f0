"""tritonclient.grpc.aio."""

import asyncio
import unittest

import numpy as np
import tritonclient.grpc.aio as client
from tritonclient.grpc import InferInput
from tritonclient.utils import InferenceServerException

from common import ADDRESS, TYPES, bits


def tensor(data, word):
    found = InferInput("INPUT0", list(data.shape), word)
    found.set_data_from_numpy(data)
    return found


class Aio(unittest.IsolatedAsyncioTestCase):
    async def test_every_type_at_once(self):
        async with client.InferenceServerClient(ADDRESS) as server:
            asked = {word: server.infer(f"identity_{word}", [tensor(values, datatype)])
                     for word, (datatype, values) in TYPES.items()}
            for word, answer in zip(asked, await asyncio.gather(*asked.values())):
                self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(TYPES[word][1]), word)

    async def test_a_stream_lives_on_behind_an_error(self):
        async def questions():
            for i in range(10):
                row = np.full((1, 3), i, dtype=np.int64)
                yield {"model_name": "nothing" if i == 4 else "identity_int64",
                       "inputs": [tensor(row, "INT64")], "request_id": str(i)}

        async with client.InferenceServerClient(ADDRESS) as server:
            seen = [pair async for pair in server.stream_infer(questions())]
        self.assertEqual([error is None for _, error in seen], [i != 4 for i in range(10)])
        for i, (result, error) in enumerate(seen):
            if error is None:
                self.assertEqual(result.as_numpy("OUTPUT0")[0, 0], i)

    async def test_a_refusal_and_the_server_about_itself(self):
        async with client.InferenceServerClient(ADDRESS) as server:
            self.assertTrue(await server.is_server_live() and await server.is_server_ready())
            self.assertEqual((await server.get_server_metadata()).name, "weir")
            with self.assertRaises(InferenceServerException) as caught:
                await server.infer("nothing", [tensor(np.zeros((1, 3), np.int64), "INT64")])
            self.assertEqual(caught.exception.status(), "StatusCode.NOT_FOUND")


if __name__ == "__main__":
    unittest.main()
