"""Write the models that sequences are tried on: tiny recurrent ONNX graphs.

    .cache/venvs/v2clients/bin/python tests/sequences/make_models.py

    running      adds up the rows of a sequence and counts its steps; every control there is, two
                 states that several sequences stack along different dimensions, a constant
    smoothing    cumulative sum over the rows of a request, where rows are moments in time: its
                 state has no dimension for other sequences
    counting     adds up and tells its controls, as a Triton repository has it: config.pbtxt

What is written depends on this script and the pinned `onnx` only.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

MODELS = Path(__file__).parent / "models"
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def save(name, nodes, inputs, outputs, constants=()):
    def info(tensors):
        return [helper.make_tensor_value_info(*tensor) for tensor in tensors]

    graph = helper.make_graph(nodes, name, info(inputs), info(outputs), list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(made)
    folder = MODELS / name / ("1" if name == "counting" else "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(made.SerializeToString(deterministic=True))


def running():
    node = helper.make_node
    nodes = [
        node("Add", ["x", "sum"], ["sum_out"]),
        node("Mul", ["sum_out", "scale"], ["y"]),
        node("Add", ["count", "one"], ["count_out"]),
        node("Squeeze", ["count_out", "first"], ["steps"]),
        node("Cast", ["ready"], ["ready_float"], to=FLOAT),
        node("Concat", ["start", "end", "ready_float"], ["told"], axis=1),
        node("Identity", ["id"], ["called"]),
    ]
    inputs = [
        ("start", FLOAT, ["rows", 1]), ("x", FLOAT, ["rows", 2]), ("sum", FLOAT, ["rows", 2]),
        ("count", INT64, [1, "rows", 1]), ("end", FLOAT, ["rows", 1]), ("ready", INT32, ["rows", 1]),
        ("id", INT64, ["rows", 1]), ("scale", FLOAT, []),
    ]
    outputs = [
        ("sum_out", FLOAT, ["rows", 2]), ("y", FLOAT, ["rows", 2]), ("count_out", INT64, [1, "rows", 1]),
        ("steps", INT64, ["rows", 1]), ("told", FLOAT, ["rows", 3]), ("called", INT64, ["rows", 1]),
    ]
    constants = [
        helper.make_tensor("one", INT64, [1], [1]), helper.make_tensor("first", INT64, [1], [0]),
    ]
    save("running", nodes, inputs, outputs, constants)


def smoothing():
    node = helper.make_node
    nodes = [
        node("CumSum", ["x", "axis"], ["inside"]),
        node("Add", ["inside", "h"], ["y"]),
        node("ReduceSum", ["x", "axes"], ["all"], keepdims=1),
        node("Add", ["all", "h"], ["h_out"]),
    ]
    inputs = [("x", FLOAT, ["moments", 1]), ("h", FLOAT, [1, 1])]
    outputs = [("y", FLOAT, ["moments", 1]), ("h_out", FLOAT, [1, 1])]
    constants = [helper.make_tensor("axis", INT64, [], [0]), helper.make_tensor("axes", INT64, [1], [0])]
    save("smoothing", nodes, inputs, outputs, constants)


def counting():
    node = helper.make_node
    nodes = [
        node("Add", ["INPUT", "INPUT_STATE"], ["OUTPUT_STATE"]),
        node("Identity", ["OUTPUT_STATE"], ["OUTPUT"]),
        node("Concat", ["START", "END", "READY"], ["TOLD"], axis=1),
        node("Identity", ["CORRID"], ["CALLED"]),
    ]
    inputs = [(name, INT32, ["rows", 1]) for name in ["INPUT", "INPUT_STATE", "START", "END", "READY"]]
    outputs = [(name, INT32, ["rows", 1]) for name in ["OUTPUT", "OUTPUT_STATE"]]
    save("counting", nodes, inputs + [("CORRID", INT64, ["rows", 1])],
         outputs + [("TOLD", INT32, ["rows", 3]), ("CALLED", INT64, ["rows", 1])])


if __name__ == "__main__":
    running()
    counting()
    smoothing()
