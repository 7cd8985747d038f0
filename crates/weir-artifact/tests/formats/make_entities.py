"""Write `hf/tagger`, `hf/tagger-bpe` and `hf/tagger-unigram`, and `entities.json`: what transformers' own
`TokenClassificationPipeline.postprocess` makes of the logits that onnxruntime computes for them,
once for each aggregation strategy.

    python -m venv .venv && .venv/bin/pip install -r requirements-entities.txt
    .venv/bin/python make_entities.py

The pipeline is a real one but for PyTorch, which it needs for its tensors and for nothing that
is compared: the arrays below stand in for them.
"""

import json
import shutil
import types
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.pipelines import token_classification

import tinybert

HERE = Path(__file__).parent
LABELS = ["I-ORG", "I-LOC", "I-PER", "B-LOC", "B-PER", "MISC", "O", "B-MISC", "I-MISC"]
STRATEGIES = ["none", "simple", "first", "average", "max"]
TEXTS = [
    "the film was not good at all", "", "films unknown words!", "Unkn\u00f6wn, W\u00d6RDS \U0001f600 a film",
    "good bad film a the not " * 6, "e\u0301t\u00e9 \u4e2d\u6587 \U0001f468\u200d\U0001f469\u200d\U0001f467 it was!!! a-the", "  a  \t good\nfilm ",
    "itself films words goods badly at all of it", "\u0130stanbul \ufb01lm bad\u00a0good",
]


class Array(np.ndarray):
    """As much of a tensor of PyTorch as the pipeline asks for."""

    def numpy(self):
        return np.asarray(self)


token_classification.torch = types.SimpleNamespace(bfloat16=object(), float16=object())


def byte_level_bpe():
    """As RoBERTa has it: bytes, no prefix within words, a blank at the front of a word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("\u0120", "a"), ("f", "i"), ("fi", "l"), ("fil", "m"), ("g", "o"), ("\u0120", "t"), ("\u0120t", "h"), ("w", "as")]
    words = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "as", *("".join(m) for m in merges)]
    merges.insert(0, ("a", "s"))
    made = Tokenizer(models.BPE({w: i for i, w in enumerate(dict.fromkeys(words))}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return made


def unigram():
    """As XLM-RoBERTa has it: blanks are part of the pieces."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0), ("\u2581a", -2.5),
              ("\u2581the", -2.0), ("film", -2.5), ("\u2581film", -2.6), ("s", -2.2), ("\u2581not", -3.1), ("un", -3.3),
              ("known", -3.4), ("\u2581word", -3.2), ("!", -2.9), ("\u2581good", -3.0), ("bad", -3.1), ("\u00f6", -4.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>",
                                                        [("<s>", 0), ("</s>", 2)])
    return made


def folder(name, tokenizer, special):
    path = HERE / "hf" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    config = {"architectures": ["BertForTokenClassification"], "model_type": "bert",
              "id2label": {str(i): label for i, label in enumerate(LABELS)},
              "label2id": {label: i for i, label in enumerate(LABELS)},
              "max_position_embeddings": tinybert.POSITIONS}
    write(path / "config.json", config)
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(path / "tokenizer.json"))
    write(path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast",
                                           "model_max_length": tinybert.POSITIONS, **special})
    graph = tinybert.graph(len(LABELS), each_token=True, words=tokenizer.get_vocab_size())
    (path / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    return {strategy: [answer(path, text, strategy) for text in TEXTS] for strategy in STRATEGIES}


def answer(path, text, strategy):
    pipeline = object.__new__(token_classification.TokenClassificationPipeline)
    pipeline.tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    pipeline.model = types.SimpleNamespace(config=types.SimpleNamespace(id2label=LABELS))
    # What `preprocess` asks of the tokenizer.
    inputs = pipeline.tokenizer(text, return_tensors="np", truncation=True, return_special_tokens_mask=True,
                                return_offsets_mapping=True, return_token_type_ids=True)
    inputs = {name: value.astype(np.int64) for name, value in inputs.items()}
    session = onnxruntime.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})[0]
    outputs = {"logits": logits.view(Array), "sentence": text, "input_ids": inputs["input_ids"],
               "offset_mapping": inputs["offset_mapping"],
               "special_tokens_mask": inputs["special_tokens_mask"].view(Array)}
    strategy = token_classification.AggregationStrategy[strategy.upper()]
    entities = pipeline.postprocess([outputs], aggregation_strategy=strategy)
    return [{"entity": e.get("entity", e.get("entity_group")), "score": round(float(e["score"]), 8),
             "start": int(e["start"]), "end": int(e["end"]),
             # The pipeline's own word is put together from tokens, lower-cased and so on.
             "word": text[e["start"]:e["end"]]} for e in entities]


def write(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def piece(names):
    return dict(zip(["unk_token", "pad_token", "cls_token", "sep_token"], names))


MADE = {
    "hf/tagger": folder("tagger", tinybert.tokenizer(), piece(["[UNK]", "[PAD]", "[CLS]", "[SEP]"])),
    "hf/tagger-bpe": folder("tagger-bpe", byte_level_bpe(), piece(["<unk>", "<pad>", "<s>", "</s>"])),
    "hf/tagger-unigram": folder("tagger-unigram", unigram(), piece(["<unk>", "<pad>", "<s>", "</s>"])),
}
(HERE / "entities.json").write_text(json.dumps({"texts": TEXTS, "answers": MADE}, separators=(",", ":")) + "\n")
for name, strategies in MADE.items():
    for strategy, answers in strategies.items():
        print(name, strategy, [len(a) for a in answers], sorted({e["entity"] for a in answers for e in a}))
