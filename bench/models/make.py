#!/usr/bin/env python3
"""Writes models whose weights are random: they answer nonsense in the time of a real one.

    make.py encoder FOLDER --tokenizer FILE   a text classifier of DistilBERT's size:
                                              6 layers of 768, 12 heads, 2 labels
    make.py burner FOLDER --layers N          a tensor model of N dense layers of 512 that share
                                              one weight; N is chosen for a time
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN, HEADS, INNER, LAYERS, VOCABULARY, POSITIONS = 768, 12, 3072, 6, 30522, 512
BURNER_WIDTH = 512

MANIFEST = """\
name = "encoder"
task = "text-classification"
labels = ["NEGATIVE", "POSITIVE"]

[text]
tokenizer = "tokenizer.json"

[[input.field]]
name = "text"
dtype = "string"
"""


class Graph:
    """Nodes and weights as they are added; every value gets a fresh name."""

    def __init__(self, seed=7):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def add(self, kind, *inputs, name=None, **attributes):
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape, scale=0.02):
        return self.constant(self.random.normal(0, scale, shape).astype(np.float32))

    def dense(self, value, inputs, outputs):
        product = self.add("MatMul", value, self.weight(inputs, outputs))
        return self.add("Add", product, self.weight(outputs))

    def norm(self, value):
        ones = self.constant(np.ones(HIDDEN, np.float32))
        zeros = self.constant(np.zeros(HIDDEN, np.float32))
        return self.add("LayerNormalization", value, ones, zeros, axis=-1, epsilon=1e-12)

    def save(self, file, inputs, outputs):
        graph = helper.make_graph(self.nodes, "random", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, file)


def heads(graph, value, transposed):
    """[N, S, hidden] as [N, heads, S, size], or with the last two swapped."""
    shape = graph.constant(np.array([0, 0, HEADS, HIDDEN // HEADS], np.int64))
    split = graph.add("Reshape", value, shape)
    return graph.add("Transpose", split, perm=[0, 2, 3, 1] if transposed else [0, 2, 1, 3])


def attention(graph, value, bias):
    query, key, content = (graph.dense(value, HIDDEN, HIDDEN) for _ in range(3))
    scale = graph.constant(np.float32((HIDDEN // HEADS) ** -0.5))
    scores = graph.add("MatMul", heads(graph, query, False), heads(graph, key, True))
    weights = graph.add("Softmax", graph.add("Add", graph.add("Mul", scores, scale), bias), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, heads(graph, content, False)), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.constant(np.array([0, 0, HIDDEN], np.int64)))
    return graph.dense(joined, HIDDEN, HIDDEN)


def gelu(graph, value):
    scaled = graph.add("Mul", value, graph.constant(np.float32(2**-0.5)))
    shifted = graph.add("Add", graph.add("Erf", scaled), graph.constant(np.float32(1)))
    return graph.add("Mul", graph.add("Mul", value, shifted), graph.constant(np.float32(0.5)))


def mask_bias(graph):
    """0 where the mask keeps a token, a large negative number where it does not."""
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    dropped = graph.add("Sub", graph.constant(np.float32(1)), mask)
    bias = graph.add("Mul", dropped, graph.constant(np.float32(-1e9)))
    return graph.add("Unsqueeze", bias, graph.constant(np.array([1, 2], np.int64)))


def embeddings(graph):
    words = graph.add("Gather", graph.weight(VOCABULARY, HIDDEN), "input_ids")
    length = graph.add("Gather", graph.add("Shape", "input_ids"), graph.constant(np.int64(1)), axis=0)
    end = graph.add("Unsqueeze", length, graph.constant(np.array([0], np.int64)))
    zero = graph.constant(np.array([0], np.int64))
    places = graph.add("Slice", graph.weight(POSITIONS, HIDDEN), zero, end, zero)
    return graph.norm(graph.add("Add", words, places))


def encoder(folder, tokenizer):
    graph = Graph()
    bias, value = mask_bias(graph), embeddings(graph)
    for _ in range(LAYERS):
        value = graph.norm(graph.add("Add", value, attention(graph, value, bias)))
        inner = gelu(graph, graph.dense(value, HIDDEN, INNER))
        value = graph.norm(graph.add("Add", value, graph.dense(inner, INNER, HIDDEN)))
    first = graph.add("Gather", value, graph.constant(np.int64(0)), axis=1)
    pooled = graph.add("Relu", graph.dense(first, HIDDEN, HIDDEN))
    product = graph.add("MatMul", pooled, graph.weight(HIDDEN, 2))
    graph.add("Add", product, graph.weight(2), name="logits")
    tokens = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
              for name in ("input_ids", "attention_mask")]
    logits = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])]
    graph.save(folder / "model.onnx", tokens, logits)
    shutil.copy(tokenizer, folder / "tokenizer.json")
    (folder / "model.toml").write_text(MANIFEST)


def burner(folder, layers):
    graph = Graph()
    value = graph.dense("x", 8, BURNER_WIDTH)
    # One weight for all layers: it stays in the core's cache, so that the time does not
    # depend on what else the machine moves through memory.
    weight = graph.weight(BURNER_WIDTH, BURNER_WIDTH)
    for _ in range(layers):
        value = graph.add("Tanh", graph.add("MatMul", value, weight))
    product = graph.add("MatMul", value, graph.weight(BURNER_WIDTH, 1))
    graph.add("Add", product, graph.weight(1), name="y")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    graph.save(folder / "model.onnx", [x], [y])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["encoder", "burner"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--layers", type=int, default=100)
    options = parser.parse_args()
    if options.kind == "encoder" and not options.tokenizer:
        parser.error("an encoder needs --tokenizer FILE")
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.kind == "encoder":
        encoder(options.folder, options.tokenizer)
    else:
        burner(options.folder, options.layers)


if __name__ == "__main__":
    main()
