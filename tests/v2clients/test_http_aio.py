"""tritonclient.http.aio: the same protocol from an event loop, over aiohttp."""

import asyncio
import unittest

import numpy as np
import tritonclient.http.aio as client
from tritonclient.utils import InferenceServerException

from common import ADDRESS, BF16, TYPES, bits


async def ask(server, name, data, word, *, binary, **more):
    tensor = client.InferInput("INPUT0", list(data.shape), word)
    tensor.set_data_from_numpy(data, binary_data=binary)
    outputs = [client.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    return await server.infer(name, [tensor], outputs=outputs, **more)


class Aio(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.server = client.InferenceServerClient(ADDRESS)
        self.addAsyncCleanup(self.server.close)

    async def test_every_type_comes_back_binary_and_json(self):
        for word, (datatype, values) in TYPES.items():
            for binary in [True, False]:
                if word == "fp16" and not binary:
                    continue
                with self.subTest(word=word, binary=binary):
                    answer = await ask(self.server, f"identity_{word}", values, datatype, binary=binary)
                    self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(values))
        answer = await ask(self.server, "identity_bf16", BF16, "BF16", binary=True)
        self.assertEqual(bits(answer.as_numpy("OUTPUT0")), bits(BF16))

    async def test_many_at_once_keep_their_answers(self):
        async def one(i):
            values = np.full((1 + i % 7, 3), i, np.int32)
            answer = await ask(self.server, "identity_int32", values, "INT32", binary=i % 2 == 0,
                               request_id=str(i))
            self.assertEqual(answer.get_response()["id"], str(i))
            np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), values)

        await asyncio.gather(*(one(i) for i in range(200)))

    async def test_compression_both_ways(self):
        values = np.tile(np.arange(4, dtype=np.float32), (500, 1))
        for coding in ["gzip", "deflate"]:
            for binary in [True, False]:
                answer = await ask(self.server, "identity_fp32", values, "FP32", binary=binary,
                                   request_compression_algorithm=coding,
                                   response_compression_algorithm=coding)
                np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), values)

    async def test_about(self):
        self.assertTrue(await self.server.is_server_live())
        self.assertTrue(await self.server.is_server_ready())
        self.assertTrue(await self.server.is_model_ready("steps", "10"))
        self.assertEqual((await self.server.get_model_metadata("steps"))["versions"], ["1", "2", "10"])
        self.assertEqual((await self.server.get_model_config("steps"))["name"], "steps")
        self.assertEqual((await self.server.get_server_metadata())["name"], "weir")
        self.assertTrue(await self.server.get_model_repository_index())
        self.assertTrue(await self.server.get_inference_statistics())

    async def test_mistakes_are_told(self):
        with self.assertRaisesRegex(InferenceServerException, "no model"):
            await ask(self.server, "nothing", np.ones((1, 1), np.float32), "FP32", binary=True)


if __name__ == "__main__":
    unittest.main()
