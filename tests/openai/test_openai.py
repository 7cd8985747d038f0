"""The Python client of OpenAI aimed at /v1/embeddings: numbers and base64, plain and async, and
how errors look to its users. Vectors are those that onnxruntime gives for the same folders
(crates/weir-artifact/tests/formats/answers.json)."""

import base64
import json
import os
import unittest
from pathlib import Path

import numpy as np
import openai
from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAI

URL = f"http://{os.environ.get('WEIR_ADDRESS', '127.0.0.1:8000')}/v1"
FORMATS = Path(__file__).parents[2] / "crates/weir-artifact/tests/formats"
ANSWERS = json.loads((FORMATS / "answers.json").read_text())
TEXTS = [row["text"] for row in ANSWERS["hf/embedder-mean"]["rows"]]
# Words and pieces of words with [CLS] and [SEP]; the fourth text has 82 and is cut to 12.
TOKENS = [5, 2, 9, 12, 8]


def expected(name):
    return np.array(ANSWERS[f"hf/{name}"]["answers"])


def vectors(answer):
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data])


class Plain(unittest.TestCase):
    def setUp(self):
        self.client = OpenAI(base_url=URL, api_key="unused", max_retries=0)
        self.addCleanup(self.client.close)

    def create(self, input=TEXTS, model="embedder-mean", **more):
        return self.client.embeddings.create(input=input, model=model, **more)

    def test_vectors_are_those_of_onnxruntime(self):
        for name in ["embedder-mean", "embedder-cls", "embedder-max"]:
            for more in [{}, {"encoding_format": "float"}]:
                with self.subTest(name=name, more=more):
                    answer = self.create(model=name, **more)
                    np.testing.assert_allclose(vectors(answer), expected(name), atol=1e-6)
                    self.assertEqual((answer.object, answer.model), ("list", name))

    def test_base64_holds_the_bits_of_the_numbers(self):
        numbers = vectors(self.create(encoding_format="float"))
        raw = self.create(encoding_format="base64")
        self.assertIsInstance(raw.data[0].embedding, str)
        bits = np.array([np.frombuffer(base64.b64decode(one.embedding), "<f4") for one in raw.data])
        np.testing.assert_array_equal(bits, numbers.astype(np.float32))

    def test_usage_counts_what_the_model_read(self):
        for text, tokens in zip(TEXTS, TOKENS):
            usage = self.create(text).usage
            self.assertEqual((usage.prompt_tokens, usage.total_tokens), (tokens, tokens), text)
        self.assertEqual(self.create().usage.prompt_tokens, sum(TOKENS))

    def test_one_text_is_a_list_of_one(self):
        answer = self.create(TEXTS[0], user="somebody", dimensions=16)
        self.assertEqual(len(answer.data), 1)
        np.testing.assert_allclose(vectors(answer), expected("embedder-mean")[:1], atol=1e-6)

    def test_models_that_can_be_asked_are_listed(self):
        listed = list(self.client.models.list())
        self.assertEqual([m.id for m in listed], ["embedder-cls", "embedder-max", "embedder-mean"])
        # 2024: the artefacts were written later than that.
        self.assertTrue(all(m.object == "model" and m.created > 1_704_067_200 for m in listed))

    def refused(self, kind, parameter, words, **request):
        with self.assertRaises(kind) as caught:
            self.create(**request)
        error = caught.exception
        self.assertEqual(error.param, parameter)
        self.assertIn(words, error.message)
        return error

    def test_errors_are_the_clients_own(self):
        wrong = openai.BadRequestError
        error = self.refused(openai.NotFoundError, "model", "there is no model `nothing`", model="nothing")
        self.assertEqual((error.code, error.type), ("model_not_found", "invalid_request_error"))
        self.refused(wrong, "model", "embeds no texts; models that do: embedder-cls, ", model="classifier")
        self.refused(wrong, "input", "token ids are not taken", input=[[1, 2], [3]])
        self.refused(wrong, "input", "token ids are not taken", input=[1, 2])
        self.refused(wrong, "input", "empty list", input=[])
        self.refused(wrong, "input", "at most 100000", input="x" * 100_001)
        self.refused(wrong, "dimensions", "gives 16 dimensions", dimensions=8)
        self.refused(wrong, "encoding_format", "float or base64, got `int8`", encoding_format="int8")
        self.refused(wrong, None, "`truncate` is not taken", extra_body={"truncate": True})
        error = self.refused(openai.APIStatusError, None, "larger than the limit", input="x" * 3_000_000)
        self.assertEqual((error.status_code, error.code), (413, "too_large"))
        error = self.refused(openai.APIStatusError, None, "the body is JSON", extra_headers={"Content-Type": "text/plain"})
        self.assertEqual(error.status_code, 415)

    def test_a_model_that_cannot_answer_now_says_when_to_try_again(self):
        error = self.refused(openai.InternalServerError, "model", "broken", model="broken")
        self.assertEqual((error.status_code, error.type), (503, "server_error"))
        self.assertEqual(error.response.headers["retry-after"], "1")

    def test_a_deadline_that_passes(self):
        error = self.refused(openai.InternalServerError, None, "deadline", extra_headers={"Request-Timeout": "0"})
        self.assertEqual((error.status_code, error.code), (504, "deadline_exceeded"))


class Async(unittest.IsolatedAsyncioTestCase):
    async def ask(self, client):
        answer = await client.embeddings.create(input=TEXTS, model="embedder-mean")
        np.testing.assert_allclose(vectors(answer), expected("embedder-mean"), atol=1e-6)
        with self.assertRaises(openai.NotFoundError):
            await client.embeddings.create(input="a", model="nothing")

    async def test_async(self):
        async with AsyncOpenAI(base_url=URL, api_key="unused", max_retries=0) as client:
            await self.ask(client)

    async def test_async_over_aiohttp(self):
        http = DefaultAioHttpClient()
        async with AsyncOpenAI(base_url=URL, api_key="unused", max_retries=0, http_client=http) as client:
            await self.ask(client)


if __name__ == "__main__":
    unittest.main()
