"""What the client suites share: values of every type, and the server's address."""

import os

import ml_dtypes
import numpy as np

ADDRESS = os.environ.get("V2_ADDRESS", "127.0.0.1:8000")

# Word in the models' names, the protocol's name, values in two rows.
SPECIAL = [[0.1, float("nan"), float("inf")], [-float("inf"), -0.0, 65504.0]]
TYPES = {
    "bool": ("BOOL", np.array([[True, False, True], [False, False, True]])),
    **{
        f"{sign}int{bits}": (
            f"{sign.upper()}INT{bits}",
            np.array([[np.iinfo(f"{sign}int{bits}").min, 1, 2], [3, 4, np.iinfo(f"{sign}int{bits}").max]],
                     dtype=f"{sign}int{bits}"),
        )
        for sign in ["", "u"]
        for bits in [8, 16, 32, 64]
    },
    "fp16": ("FP16", np.array(SPECIAL, dtype=np.float16)),
    "fp32": ("FP32", np.array(SPECIAL, dtype=np.float32)),
    "fp64": ("FP64", np.array(SPECIAL, dtype=np.float64)),
    "bytes": ("BYTES", np.array([["", "ä", "x\n\"y"], ["long " * 50, "0", "\U0001f600"]], dtype=object)),
}
# Of its own: numpy has no such type, and the protocol no JSON for it.
BF16 = np.array([[0.5, float("inf"), -2.0, 1e38]], dtype=ml_dtypes.bfloat16)


def bits(array):
    """Comparable whatever the type: NaN equals itself, bytes equal text."""
    if array.dtype == object or array.dtype.kind in "SU":
        return [x.decode() if isinstance(x, bytes) else str(x) for x in array.flatten()]
    # NaN has many bit patterns and JSON has one.
    return ["nan" if x != x else x for x in array.flatten().tolist()]
