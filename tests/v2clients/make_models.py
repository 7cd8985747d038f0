"""Write the models that the clients are tried on: tiny ONNX graphs, each the smallest that
shows one thing.

    .cache/venvs/v2clients/bin/python tests/v2clients/make_models.py

    add_sub_<type>    OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1
    identity_<type>   OUTPUT0 = INPUT0, one for every type of the protocol
    steps             versions 1, 2 and 10 add their own number
    half_broken       version 1 is good, version 2 ends in the middle
    classes           a row of three scores, with labels

What is written depends on this script and the pinned `onnx` only.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

MODELS = Path(__file__).parent / "models"
OPSET, IR = 18, 9

TYPES = {
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bytes": TensorProto.STRING,
}


def model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(made)
    return made.SerializeToString(deterministic=True)


def tensor(name, kind, *row):
    return helper.make_tensor_value_info(name, kind, ["rows", *row])


def write(name, version, content, manifest=""):
    folder = MODELS / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    if manifest:
        (folder / "model.toml").write_text(manifest)


def add_sub(kind):
    def arithmetic(op, output):
        if kind != TensorProto.INT8:
            return [helper.make_node(op, ["INPUT0", "INPUT1"], [output])]
        # Runtimes have no kernel for int8: wide in between, and narrow again.
        wide = f"{output}_wide"
        return [
            helper.make_node(op, ["WIDE0", "WIDE1"], [wide]),
            helper.make_node("Cast", [wide], [output], to=kind),
        ]

    widen = [
        helper.make_node("Cast", [f"INPUT{i}"], [f"WIDE{i}"], to=TensorProto.INT32)
        for i in range(2 if kind == TensorProto.INT8 else 0)
    ]
    nodes = widen + arithmetic("Add", "OUTPUT0") + arithmetic("Sub", "OUTPUT1")
    inputs = [tensor(f"INPUT{i}", kind, 16) for i in range(2)]
    return model(nodes, inputs, [tensor(f"OUTPUT{i}", kind, 16) for i in range(2)])


def identity(kind, *row):
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    return model([node], [tensor("INPUT0", kind, *row)], [tensor("OUTPUT0", kind, *row)])


def step(by):
    constant = helper.make_tensor("by", TensorProto.FLOAT, [1], [float(by)])
    node = helper.make_node("Add", ["x", "by"], ["y"])
    return model([node], [tensor("x", TensorProto.FLOAT, 1)], [tensor("y", TensorProto.FLOAT, 1)], [constant])


def main():
    for word in ["int32", "fp32", "int8"]:
        write(f"add_sub_{word}", 1, add_sub(TYPES[word]))
    for word, kind in TYPES.items():
        write(f"identity_{word}", 1, identity(kind, "n"))
    for version in [1, 2, 10]:
        write("steps", version, step(version))
    good = step(1)
    write("half_broken", 1, good)
    write("half_broken", 2, good[: len(good) // 2])
    labels = 'task = "classification"\nlabels = ["cat", "dog", "eel"]\n'
    write("classes", 1, identity(TYPES["fp32"], 3), labels)


if __name__ == "__main__":
    main()
