"""kserve's InferenceRESTClient: JSON and binary, and its own idea of health."""

import unittest

import httpx
import numpy as np
from kserve import InferInput, InferRequest, InferenceRESTClient
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from common import ADDRESS, TYPES, bits

URL = f"http://{ADDRESS}"


class Rest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))

    async def ask(self, name, values, datatype, binary):
        tensor = InferInput("INPUT0", list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        outputs = [RequestedOutput("OUTPUT0", parameters={"binary_data": binary})]
        request = InferRequest(model_name=name, infer_inputs=[tensor], request_id="k", request_outputs=outputs)
        return await self.client.infer(URL, request, model_name=name)

    async def test_every_type_comes_back_binary_and_json(self):
        for word, (datatype, values) in TYPES.items():
            for binary in [True, False]:
                if word == "fp16" and not binary:
                    continue
                if not binary and values.dtype.kind == "f":
                    values = np.nan_to_num(values)  # The client's JSON writer has no NaN.
                with self.subTest(word=word, binary=binary):
                    answer = await self.ask(f"identity_{word}", values, datatype, binary)
                    self.assertEqual(answer.id, "k")
                    self.assertEqual(bits(answer.outputs[0].as_numpy()), bits(values))

    async def test_health(self):
        self.assertTrue(await self.client.is_server_live(URL))
        self.assertTrue(await self.client.is_server_ready(URL))
        self.assertTrue(await self.client.is_model_ready(URL, "steps"))

    async def test_an_errors_text_is_shown(self):
        with self.assertRaises(httpx.HTTPStatusError) as caught:
            await self.ask("nothing", np.ones((1, 1), np.float32), "FP32", False)
        self.assertIn("there is no model `nothing`", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
