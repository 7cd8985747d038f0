"""kserve.InferenceGRPCClient."""

import unittest

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

from common import ADDRESS, TYPES, bits


class KServe(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = InferenceGRPCClient(ADDRESS, retries=0)

    async def asyncTearDown(self):
        await self.client.close()

    async def infer(self, model, values, datatype, binary):
        found = InferInput("INPUT0", list(values.shape), datatype)
        found.set_data_from_numpy(values, binary_data=binary)
        return await self.client.infer(InferRequest(model_name=model, infer_inputs=[found], request_id="r-1"))

    async def test_types_raw_and_typed(self):
        for word, (datatype, values) in TYPES.items():
            for binary in [True, False]:
                if word == "fp16" and not binary:
                    continue  # The protocol has no typed FP16.
                with self.subTest(word=word, binary=binary):
                    answer = await self.infer(f"identity_{word}", values, datatype, binary)
                    self.assertEqual(answer.id, "r-1")
                    self.assertEqual(bits(answer.outputs[0].as_numpy()), bits(values))

    async def test_health_and_refusal(self):
        self.assertTrue(await self.client.is_server_live() and await self.client.is_server_ready())
        self.assertTrue(await self.client.is_model_ready("steps"))
        with self.assertRaises(grpc.RpcError) as caught:
            await self.infer("nothing", np.zeros((1, 3), np.int64), "INT64", True)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)


if __name__ == "__main__":
    unittest.main()
