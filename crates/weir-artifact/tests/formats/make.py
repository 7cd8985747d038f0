"""Write the folders beside this script, each as another library makes or means it, and
`answers.json`: what onnxruntime answers for them, computed here without Weir.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python make.py            # and, with `make fetch` done, the MiniLM answers

MLmodel files hold a date and random identifiers, so those differ from run to run.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers
from mlflow.models.signature import ModelSignature, infer_signature
from mlflow.types.schema import ColSpec, Schema

import tinybert

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
ANSWERS = {}
TEXTS = ["a good film", "", "the film was not good at all", "good bad good bad " * 20, "Unknown wörds!"]
PAIRS = [("good film", "the film was good"), ("", "a bad film"), ("was it good", "not at all " * 30)]


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def mlflow_models():
    import mlflow
    import pandas
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression, LinearRegression

    rng = np.random.default_rng(3)
    rows = pandas.DataFrame({
        "sepal length (cm)": rng.normal(5, 1, 60), "sepal width (cm)": rng.normal(3, 1, 60),
        "number of petals": rng.integers(1, 9, 60)})
    x = rows.to_numpy(np.float32)
    classes = (x[:, 0] + x[:, 2] > 9).astype(int) + (x[:, 1] > 3)
    columns = to_onnx(LogisticRegression(max_iter=500).fit(x, classes), x[:1], options={"zipmap": False})
    save(mlflow, columns, "columns", infer_signature(rows))
    record("mlflow/columns", rows.head(4).to_dict("records"),
           session(HERE / "mlflow/columns/model.onnx").run(["probabilities"], {"X": x[:4]})[0])
    tensor = to_onnx(LinearRegression().fit(x, x[:, 0] * 2 - x[:, 1]), x[:1])
    save(mlflow, tensor, "tensor", infer_signature(x))
    record("mlflow/tensor", [{"X": row} for row in x[:4].tolist()],
           session(HERE / "mlflow/tensor/model.onnx").run(None, {"X": x[:4]})[0])
    save(mlflow, columns, "wrong", ModelSignature(inputs=Schema([
        ColSpec("string", "a"), ColSpec("datetime", "b"), ColSpec("long", "c", required=False)])))
    folder = HERE / "mlflow/sklearn"
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.sklearn.save_model(LinearRegression().fit(x, classes), folder, pip_requirements=["scikit-learn"],
                              serialization_format="cloudpickle")
    keep(folder, {"MLmodel"})


def save(mlflow, model, name, signature):
    folder = HERE / "mlflow" / name
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.onnx.save_model(model, str(folder), signature=signature, pip_requirements=["onnxruntime"])
    keep(folder, {"MLmodel", "model.onnx"})


def keep(folder, names):
    """Leaves what a server reads; the rest describes the Python environment."""
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def record(name, rows, answers):
    ANSWERS[name] = {"rows": rows, "answers": np.asarray(answers, np.float64).reshape(len(rows), -1).tolist()}


def tiny_models():
    labels = {"0": "bad", "1": "fine", "2": "good"}
    head = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "id2label": labels,
            "label2id": {v: int(k) for k, v in labels.items()}, "max_position_embeddings": tinybert.POSITIONS}
    rows = [{"text": text} for text in TEXTS]
    logits = folder("hf/classifier", head, "onnx/model.onnx", labels=3, texts=TEXTS)
    record("hf/classifier", rows, softmax(logits))
    several = {**head, "problem_type": "multi_label_classification"}
    logits = folder("hf/multi-label", several, "model.onnx", labels=3, texts=TEXTS)
    record("hf/multi-label", rows, sigmoid(logits))
    one = {**head, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
           "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    logits = folder("hf/reranker", one, "onnx/model.onnx", labels=1, texts=PAIRS)
    record("hf/reranker", [{"query": q, "text": t} for q, t in PAIRS], sigmoid(logits))
    encoder = {**head, "architectures": ["BertModel"]}
    for key in ("id2label", "label2id"):
        encoder.pop(key)
    for mode in ("mean", "cls", "max"):
        vectors = folder(f"hf/embedder-{mode}", encoder, "onnx/model.onnx", labels=None, texts=TEXTS, limit=12)
        sentence(HERE / f"hf/embedder-{mode}", mode, normalize=mode != "max")
        pooled = np.stack([pool(one, mode) for one in vectors])
        record(f"hf/embedder-{mode}", rows, unit(pooled) if mode != "max" else pooled)


def folder(name, config, artifact, labels, texts, limit=tinybert.POSITIONS):
    """A Hugging Face folder; gives what the graph answers for each text alone."""
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    (path / artifact).parent.mkdir(parents=True)
    write(path / "config.json", config)
    tokenizer = tinybert.tokenizer()
    # As all-MiniLM-L6-v2 has it: padding and truncation of the training set-up.
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(path / "tokenizer.json"))
    write(path / "tokenizer_config.json", {"model_max_length": int(1e30)})
    (path / artifact).write_bytes(tinybert.graph(labels).SerializeToString(deterministic=True))
    return [answer(path / artifact, tokenizer, text, limit) for text in texts]


def answer(artifact, tokenizer, text, limit, names=("input_ids", "attention_mask", "token_type_ids")):
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    encoding = tokenizer.encode(*text) if isinstance(text, tuple) else tokenizer.encode(text)
    values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask,
              "token_type_ids": encoding.type_ids}
    inputs = {name: np.array([values[name]], np.int64) for name in names}
    return session(artifact).run(None, inputs)[0][0]


def sentence(path, mode, normalize):
    """The files of sentence-transformers."""
    kind = "sentence_transformers.models"
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{kind}.Transformer"},
               {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}.Pooling"}]
    if normalize:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{kind}.Normalize"})
    write(path / "modules.json", modules)
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    switches = {f"pooling_mode_{n}": n == names[mode] for n in [*names.values(), "mean_sqrt_len_tokens"]}
    write(path / "1_Pooling/config.json", {"word_embedding_dimension": tinybert.HIDDEN, **switches})
    write(path / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": False})


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def pool(tokens, mode):
    tokens = np.asarray(tokens, np.float64)
    return {"mean": tokens.mean(0), "cls": tokens[0], "max": tokens.max(0)}[mode]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def softmax(logits):
    e = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def minilm():
    """The real all-MiniLM-L6-v2, whose configuration files are in `minilm/`."""
    files = ROOT / ".cache/sentiment"
    if not (files / "encoder.onnx").exists():
        raise SystemExit("the encoder is missing: run `make fetch`")
    path = files / "encoder.onnx"
    names = [i.name for i in session(path).get_inputs()]
    texts = ["I love you!", "", "A long and tedious text. " * 60]
    tokenizer = tokenizers.Tokenizer.from_file(str(files / "tokenizer.json"))
    pooled = np.stack([pool(answer(path, tokenizer, text, 256, names), "mean") for text in texts])
    record("minilm", [{"text": text} for text in texts], unit(pooled))


mlflow_models()
tiny_models()
minilm()
(HERE / "answers.json").write_text(json.dumps(ANSWERS, indent=1, sort_keys=True) + "\n")
