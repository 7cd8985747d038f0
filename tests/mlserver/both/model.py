"""A model that MLServer runs: y = 2 x, and what was said, louder."""

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from mlserver.codecs import NumpyCodec, StringCodec


class Both(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        by_name = {i.name: i for i in payload.inputs}
        x = NumpyCodec.decode_input(by_name["x"])
        words = StringCodec.decode_input(by_name["word"])
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[
                NumpyCodec.encode_output("y", x * 2),
                StringCodec.encode_output("loud", [w.upper() for w in words], use_bytes=False),
            ],
        )
