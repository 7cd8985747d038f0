"""Write the models beside this script: small exports of other libraries' converters, and
hand-made graphs with the shapes that tests need. The exports of CatBoost and onnxmltools
hold a date or a random name, so those files differ from run to run.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python make.py
"""

import json
import struct
from pathlib import Path

import catboost
import lightgbm
import numpy as np
import onnx
import xgboost
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.svm import SVC, LinearSVC

HERE = Path(__file__).parent
INPUT = [("input", FloatTensorType([None, 4]))]


def data():
    """300 rows of 4 columns with a 0/1 target."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)


def exports():
    """One classifier of each library, by its usual exporter."""
    x, y = data()
    model = lightgbm.LGBMClassifier(n_estimators=3, num_leaves=4, verbose=-1).fit(x, y)
    save(convert_lightgbm(model, initial_types=INPUT, zipmap=False, target_opset=15), "lightgbm_onnxmltools")
    model = xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(x, y)
    save(convert_xgboost(model, initial_types=INPUT, target_opset=15), "xgboost_onnxmltools")
    model = catboost.CatBoostClassifier(iterations=3, depth=2, verbose=False, allow_writing_files=False)
    model.fit(x, y).save_model(str(HERE / "catboost.onnx"), format="onnx")
    exported = onnx.load(HERE / "catboost.onnx")
    # CatBoost writes its whole build log there; the first lines will do.
    exported.producer_version = "\n".join(exported.producer_version.splitlines()[:1])
    save(exported, "catboost")
    model = SVC(probability=False).fit(x[:40], y[:40])
    save(to_onnx(model, x[:1], options={"zipmap": False}, target_opset=15), "svc_margins")
    model = LinearSVC().fit(x, np.digitize(x[:, 0], [-0.5, 0.5]))
    save(to_onnx(model, x[:1], target_opset=15), "linear_svc")


def save(model, name):
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def graph(name, nodes, inputs, outputs, constants=()):
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes, name, [value(*i) for i in inputs], [value(*o) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="make.py")
    model.ir_version = 8
    onnx.checker.check_model(model)
    save(model, name)


def hand_made():
    tokens = [(n, TensorProto.INT64, ["texts", "tokens"]) for n in ("input_ids", "attention_mask")]
    table = ("table", np.arange(40, dtype=np.float32).reshape(10, 4))
    gather = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    cast = helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT)
    graph("encoder", [gather, cast], tokens,
          [("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", 4]),
           ("mask", TensorProto.FLOAT, ["texts", "tokens"])], [table])
    mean = helper.make_node("ReduceMean", ["last_hidden_state"], ["logits"], axes=[1], keepdims=0)
    graph("sequence_classifier", [gather, mean], tokens[:1],
          [("logits", TensorProto.FLOAT, ["texts", 4])], [table])
    # Several inputs: one value, a short list, a list of any length, a string.
    total = helper.make_node("ReduceSum", ["scores", "axis"], ["sum"], keepdims=1)
    add = helper.make_node("Add", ["sum", "age"], ["y"])
    same = helper.make_node("Identity", ["city"], ["where"])
    length = helper.make_node("ReduceSum", ["history", "axis"], ["past"], keepdims=1)
    graph("mixed", [total, add, same, length],
          [("city", TensorProto.STRING, ["N", 1]), ("age", TensorProto.FLOAT, ["N", 1]),
           ("scores", TensorProto.FLOAT, ["N", 3]), ("history", TensorProto.INT64, ["N", "events"])],
          [("y", TensorProto.FLOAT, ["N", 1]), ("where", TensorProto.STRING, ["N", 1]),
           ("past", TensorProto.INT64, ["N", 1])], [("axis", np.array([1], dtype=np.int64))])
    relu = helper.make_node("Relu", ["x"], ["y"])
    graph("scalar_input", [relu], [("x", TensorProto.FLOAT, [])], [("y", TensorProto.FLOAT, [])])
    graph("one_row", [relu], [("x", TensorProto.FLOAT, [1, 3])], [("y", TensorProto.FLOAT, [1, 3])])


def head(name, labels, hidden):
    """A linear head in the safetensors format."""
    weight, bias = np.ones((labels, hidden), np.float32), np.zeros(labels, np.float32)
    parts, at = {}, 0
    for key, array in (("bias", bias), ("weight", weight)):
        parts[key] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    header = json.dumps(parts, separators=(",", ":")).encode()
    (HERE / name).write_bytes(struct.pack("<Q", len(header)) + header + bias.tobytes() + weight.tobytes())


exports()
hand_made()
head("head.safetensors", 2, 4)
head("wide_head.safetensors", 2, 5)
(HERE / "tokenizer.json").write_text("{}\n")
