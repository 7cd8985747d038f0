"""The peer: both demo models behind FastAPI, Pydantic and onnxruntime.

Written to be fast, as someone would who knows these libraries: one process, uvloop and
httptools, handlers that run inline (a thread pool would only add to microseconds of
model time), one onnxruntime thread on the one core there is, no access log.

`PEER_MODELS` says which models are loaded (`housing`, `sentiment`), `PEER_ROOT` where the
repository is.
"""

import json
import os
import struct
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(os.environ["PEER_ROOT"])
MODELS = os.environ["PEER_MODELS"].split(",")
FIELDS = ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"]

app = FastAPI()


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class House(BaseModel):
    """The same rules as examples/models/housing/model.toml."""

    model_config = ConfigDict(extra="forbid")
    MedInc: float = Field(ge=0)
    HouseAge: float = Field(ge=0)
    AveRooms: float = Field(ge=0)
    AveBedrms: float = Field(ge=0)
    Population: float = Field(ge=0)
    AveOccup: float = Field(ge=0)
    Latitude: float = Field(ge=-90, le=90)
    Longitude: float = Field(ge=-180, le=180)


class Houses(BaseModel):
    model_config = ConfigDict(extra="forbid")
    houses: list[House]


class Prediction(BaseModel):
    prediction: float


class Predictions(BaseModel):
    predictions: list[float]


class Texts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: list[str]


class Score(BaseModel):
    label: str
    score: float


class Scores(BaseModel):
    predictions: list[list[Score]]


def serve_housing():
    model = session(ROOT / "examples/models/housing/model.onnx")

    def probabilities(houses):
        rows = np.array([[getattr(h, f) for f in FIELDS] for h in houses], dtype=np.float32)
        return model.run(["probabilities"], {"input": rows})[0][:, 1].tolist()

    @app.post("/lab/predict")
    async def predict(house: House) -> Prediction:
        return Prediction(prediction=probabilities([house])[0])

    @app.post("/lab/bulk-predict")
    async def bulk_predict(body: Houses) -> Predictions:
        return Predictions(predictions=probabilities(body.houses))


def read_head(path):
    """`weight` and `bias` of a safetensors file: 8 bytes of length, JSON, data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])

    def tensor(name):
        begin, end = header[name]["data_offsets"]
        flat = np.frombuffer(data[8 + length + begin : 8 + length + end], dtype=np.float32)
        return flat.reshape(header[name]["shape"])

    return tensor("weight"), tensor("bias")


def serve_sentiment():
    from tokenizers import Tokenizer

    folder = ROOT / ".cache/sentiment"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    encoder = session(folder / "encoder.onnx")
    weight, bias = read_head(folder / "head.safetensors")

    def scores(texts):
        encoded = tokenizer.encode_batch(texts)
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        inputs = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        hidden = encoder.run(["last_hidden_state"], inputs)[0]
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        logits = pooled @ weight.T + bias
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (e / e.sum(axis=1, keepdims=True)).tolist()

    @app.post("/project/predict")
    async def predict(body: Texts) -> Scores:
        rows = scores(body.text) if body.text else []
        labels = ("NEGATIVE", "POSITIVE")
        return Scores(predictions=[[Score(label=n, score=s) for n, s in zip(labels, row)] for row in rows])


if "housing" in MODELS:
    serve_housing()
if "sentiment" in MODELS:
    serve_sentiment()
