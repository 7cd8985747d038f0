#!/usr/bin/env python3
"""The engine called directly, without a server: what batching is measured against.

    direct.py MODEL.onnx TOKENIZER.json TEXTS.json --sizes 1,16 --seconds 4

Runs in the peers' environment, on one thread. Every text is tokenised each time, as a server
has to; batches take the texts in their order and are padded to their longest. One JSON object
a batch size: texts a second and the median milliseconds of a call.
"""

import argparse
import json
import statistics
import time

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def call(engine, tokenizer, texts):
    encoded = tokenizer.encode_batch(texts)
    columns = {"input_ids": [e.ids for e in encoded], "attention_mask": [e.attention_mask for e in encoded],
               "token_type_ids": [e.type_ids for e in encoded]}
    wanted = {i.name for i in engine.get_inputs()}
    return engine.run(None, {name: np.array(ids, np.int64) for name, ids in columns.items() if name in wanted})


def measure(engine, tokenizer, texts, size, seconds):
    times, at = [], 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        batch = [texts[(at + i) % len(texts)] for i in range(size)]
        at += size
        begun = time.perf_counter()
        call(engine, tokenizer, batch)
        times.append(time.perf_counter() - begun)
    return {"size": size, "texts_per_s": size * len(times) / sum(times), "call_ms": 1e3 * statistics.median(times)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tokenizer")
    parser.add_argument("texts")
    parser.add_argument("--sizes", default="1,2,4,8,16")
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    engine, tokenizer = session(options.model), Tokenizer.from_file(options.tokenizer)
    tokenizer.enable_padding()
    with open(options.texts) as file:
        texts = json.load(file)
    call(engine, tokenizer, texts[:16])
    for size in map(int, options.sizes.split(",")):
        print(json.dumps(measure(engine, tokenizer, texts, size, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
