"""A BERT of one layer with random weights, and a tokenizer of few words."""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HIDDEN, POSITIONS, HEADS = 16, 24, 2
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a the good bad film was not at all it ! ##s un ##known wo ##rd".split()


def tokenizer():
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    return made


class Builder:
    def __init__(self):
        self.rng = np.random.default_rng(11)
        self.nodes, self.constants, self.made = [], [], 0

    def op(self, kind, *inputs, **attributes):
        self.made += 1
        self.nodes.append(helper.make_node(kind, list(inputs), [f"v{self.made}"], **attributes))
        return f"v{self.made}"

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, *shape):
        return self.constant(self.rng.normal(size=shape).astype(np.float32) * 0.5)

    def dense(self, x, inner, outer):
        return self.op("Add", self.op("MatMul", x, self.weights(inner, outer)), self.weights(outer))

    def norm(self, x):
        return self.op("LayerNormalization", x, self.constant(np.ones(HIDDEN, np.float32)), self.weights(HIDDEN))

    def heads(self, x, order):
        split = self.op("Reshape", x, self.constant(np.array([0, 0, HEADS, HIDDEN // HEADS])))
        return self.op("Transpose", split, perm=order)


def attention(b, x, hidden_mask):
    query = b.heads(b.dense(x, HIDDEN, HIDDEN), [0, 2, 1, 3])
    key = b.heads(b.dense(x, HIDDEN, HIDDEN), [0, 2, 3, 1])
    value = b.heads(b.dense(x, HIDDEN, HIDDEN), [0, 2, 1, 3])
    scale = b.constant(np.float32((HIDDEN // HEADS) ** -0.5))
    scores = b.op("Add", b.op("Mul", b.op("MatMul", query, key), scale), hidden_mask)
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), value)
    joined = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.constant(np.array([0, 0, HIDDEN])))
    return b.norm(b.op("Add", x, b.dense(joined, HIDDEN, HIDDEN)))


def graph(labels, each_token=False, words=len(WORDS)):
    """`last_hidden_state`, or `logits` of `labels` classes: of a text, or of each of its tokens."""
    b = Builder()
    length = b.op("Gather", b.op("Shape", "input_ids"), b.constant(np.array([1])))
    zero, axis = b.constant(np.array([0])), b.constant(np.array([0]))
    places = b.op("Slice", b.weights(POSITIONS, HIDDEN), zero, length, axis)
    words = b.op("Gather", b.weights(words, HIDDEN), "input_ids")
    types = b.op("Gather", b.weights(2, HIDDEN), "token_type_ids")
    x = b.norm(b.op("Add", b.op("Add", words, types), places))
    mask = b.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = b.op("Mul", b.op("Sub", b.constant(np.float32(1)), mask), b.constant(np.float32(-1e9)))
    hidden = b.op("Unsqueeze", hidden, b.constant(np.array([1, 2])))
    x = attention(b, x, hidden)
    inner = b.op("Relu", b.dense(x, HIDDEN, 2 * HIDDEN))
    x = b.norm(b.op("Add", x, b.dense(inner, 2 * HIDDEN, HIDDEN)))
    name, shape = "last_hidden_state", ["texts", "tokens", HIDDEN]
    if each_token:
        x, name, shape = b.dense(x, HIDDEN, labels), "logits", ["texts", "tokens", labels]
    elif labels is not None:
        first = b.op("Gather", x, b.constant(np.array(0)), axis=1)
        x, name = b.dense(b.op("Tanh", b.dense(first, HIDDEN, HIDDEN)), HIDDEN, labels), "logits"
        shape = ["texts", labels]
    b.nodes.append(helper.make_node("Identity", [x], [name]))
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["texts", "tokens"])
              for n in ("input_ids", "attention_mask", "token_type_ids")]
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    made = helper.make_graph(b.nodes, "tiny-bert", inputs, [output], b.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="tinybert.py")
    model.ir_version = 8
    checker.check_model(model)
    return model
