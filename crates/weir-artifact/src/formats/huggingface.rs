//! A Hugging Face folder: `config.json`, `tokenizer.json` and an ONNX export, with the files
//! of sentence-transformers where there are any.
//!
//! What is honoured is what `transformers`' pipelines and `sentence_transformers` do with the
//! same folder.

mod pooling;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use weir_config::Problem;

use super::{Described, Source};
use crate::{
    Activation, Aggregation, Manifest, Pooling, Task, TextTable,
    files::{self, Folders},
    onnx::OnnxModel,
};

/// Largest JSON file that is read here; label lists of tens of thousands fit.
const MAX_BYTES: u64 = 16 << 20;

/// Where exporters put the graph: `optimum-cli` at the root, models of the hub in `onnx/`.
const ARTIFACTS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// Most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

const TOKENIZER: &str = "tokenizer.json";

/// Positions that RoBERTa and its kin keep for padding: texts cannot have as many tokens as
/// `max_position_embeddings` says.
const PADDED_POSITIONS: [&str; 6] =
    ["roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "roberta-prelayernorm"];

/// `config.json`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<usize>,
    problem_type: Option<String>,
    max_position_embeddings: Option<i64>,
    pad_token_id: Option<i64>,
    sbert_ce_default_activation_function: Option<String>,
    sentence_transformers: Option<SentenceTransformers>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SentenceTransformers {
    activation_fn: Option<String>,
}

/// `tokenizer_config.json`. Its limit is 1e30 where there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    truncation_side: Option<String>,
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SentenceConfig {
    max_seq_length: Option<i64>,
    do_lower_case: bool,
}

/// The exported graph: under its usual name, else the only one there is.
pub(super) fn artifact(source: &Source<'_>) -> Result<PathBuf, Vec<Problem>> {
    let folders = Folders::new(source.folder, None);
    let here = |name: &&&str| source.folder.join(name).symlink_metadata().is_ok();
    if let Some(name) = ARTIFACTS.iter().find(here) {
        return folders.find(name).map_err(|message| source.refuse(message));
    }
    match exports(source.folder).as_slice() {
        [one] => folders.find(one).map_err(|message| source.refuse(message)),
        [] => Err(source.refuse(
            "no model.onnx and no onnx/model.onnx here: export the model with `optimum-cli export onnx --model FOLDER \
             FOLDER`",
        )),
        many => Err(source.refuse(format!(
            "several exports and no model.onnx among them: {}. `weir init` of one of them drafts a model.toml",
            many[..many.len().min(5)].join(", ")
        ))),
    }
}

/// All `.onnx` files where exporters put them, by their paths within the folder.
fn exports(folder: &Path) -> Vec<String> {
    let onnx = |name: &String| Path::new(name).extension().is_some_and(|e| e == "onnx");
    let mut found: Vec<String> = Vec::new();
    for below in ["", "onnx/"] {
        let listed = std::fs::read_dir(folder.join(below)).into_iter().flatten().take(MAX_ENTRIES).flatten();
        let names = listed.filter_map(|e| e.file_name().into_string().ok()).filter(onnx);
        found.extend(names.map(|name| format!("{below}{name}")));
    }
    found.sort();
    found
}

/// What the folder says about its graph.
pub(super) fn describe(
    source: &Source<'_>,
    graph: &OnnxModel,
    artifact: &Path,
) -> Result<Described, Vec<Problem>> {
    let mut folder = Folder { source, problems: Vec::new(), notes: Vec::new() };
    let Some(config) = folder.json::<Config>("config.json") else { return Err(folder.problems) };
    if !source.folder.join(TOKENIZER).is_file() {
        folder.problem(
            TOKENIZER,
            "is missing: AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER) writes it, if the model has a \
             fast tokenizer",
        );
    }
    let purpose = folder.purpose(&config, graph);
    let mut manifest = match purpose {
        Some(Purpose::Classify) => folder.classifier(&config),
        Some(Purpose::Tag) => folder.tagger(&config),
        Some(Purpose::Rerank) => folder.reranker(&config),
        Some(Purpose::Embed) => folder.embedder(graph),
        None => Manifest::default(),
    };
    manifest.limits.max_tokens = folder.max_tokens(&config);
    manifest.artifact = artifact.strip_prefix(source.folder).ok().map(|p| p.to_string_lossy().into_owned());
    match folder.problems.is_empty() {
        true => Ok(Described { manifest, notes: folder.notes, wanted: None }),
        false => Err(folder.problems),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Classify,
    Tag,
    Rerank,
    Embed,
}

/// A folder that is being read.
struct Folder<'a> {
    source: &'a Source<'a>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Folder<'_> {
    fn problem(&mut self, file: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(&self.source.folder.join(file), message));
    }

    /// A JSON file, `None` where there is none or it was refused.
    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let path = self.source.folder.join(name);
        path.symlink_metadata().ok()?;
        let read = Folders::new(self.source.folder, None).find(name);
        let read = read.and_then(|path| files::read(&path, MAX_BYTES));
        match read.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(e)) => {
                let text = e.to_string();
                let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
                let problem = Problem::new(&path, format!("is not as transformers writes it: {reason}"));
                self.problems.push(problem.at(e.line().max(1), e.column().max(1)));
            }
            Err(message) => self.problem(name, message),
        }
        None
    }

    /// What the model is for: sentence-transformers' modules say so, else the architecture.
    fn purpose(&mut self, config: &Config, graph: &OnnxModel) -> Option<Purpose> {
        let name = config.architectures.iter().flatten().next().cloned().unwrap_or_default();
        let labels = config.id2label.as_ref().map(BTreeMap::len).or(config.num_labels).unwrap_or(2);
        let logits = graph.signature.output("logits").is_some();
        if self.source.folder.join(pooling::MODULES).is_file() && !logits {
            return Some(Purpose::Embed);
        }
        let (_, head) = name.split_once("For").unwrap_or((&name, ""));
        match head {
            "SequenceClassification"
                if labels == 1 && config.problem_type.as_deref() != Some("regression") =>
            {
                Some(Purpose::Rerank)
            }
            "SequenceClassification" => Some(Purpose::Classify),
            "TokenClassification" => Some(Purpose::Tag),
            // Pretraining heads are not in an export of the encoder.
            "" | "MaskedLM" | "PreTraining" if !logits => Some(Purpose::Embed),
            _ => {
                let what = if name.is_empty() { "no architecture" } else { &name };
                let what: String = what.chars().take(64).collect();
                self.problem(
                    "config.json",
                    format!(
                        "{what} is not served: text classification and reranking (…ForSequenceClassification), \
                         token classification (…ForTokenClassification) and embedding (…Model) are; with a model.toml that says `artifact` alone, its tensors are served as they are"
                    ),
                );
                None
            }
        }
    }

    fn classifier(&mut self, config: &Config) -> Manifest {
        let (multi_label, activation) = match config.problem_type.as_deref() {
            None | Some("single_label_classification") => (false, None),
            Some("multi_label_classification") => (true, None),
            Some("regression") => (false, Some(Activation::None)),
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                self.problem("config.json", format!("problem_type `{other}` is none of transformers'"));
                (false, None)
            }
        };
        let text = TextTable { multi_label, activation, ..TextTable::default() };
        let (task, labels) = (Some(Task::TextClassification), Some(self.labels(config)));
        Manifest { task, labels, text: Some(text), ..Manifest::default() }
    }

    /// Entities in a text. The folder does not say how its tokens are joined: callers of the
    /// pipeline do, and where they do not, each token is an entity. A server's callers cannot,
    /// and a part of a word is of use to few of them; so it is `simple` here, as on the hub's
    /// own pages.
    fn tagger(&mut self, config: &Config) -> Manifest {
        self.notes.push(
            "tokens of one entity are joined (`simple`); a model.toml with another `aggregation` in [text] \
             joins them otherwise"
                .to_owned(),
        );
        let text = TextTable { aggregation: Some(Aggregation::default()), ..TextTable::default() };
        let (task, labels) = (Some(Task::TokenClassification), Some(self.labels(config)));
        Manifest { task, labels, text: Some(text), ..Manifest::default() }
    }

    /// A cross-encoder: one score for two texts.
    fn reranker(&mut self, config: &Config) -> Manifest {
        let nested = config.sentence_transformers.as_ref().and_then(|s| s.activation_fn.as_ref());
        let given = nested.or(config.sbert_ce_default_activation_function.as_ref());
        let activation = match given.and_then(|g| g.rsplit('.').next()) {
            None | Some("Sigmoid") => Activation::Sigmoid,
            Some("Identity") => Activation::None,
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                self.problem(
                    "config.json",
                    format!("the activation {other} is not served: Sigmoid and Identity are"),
                );
                Activation::None
            }
        };
        self.notes.push(
            "one score a row: served as a reranker of pairs `query`, `text`; if it scores single texts, a \
             model.toml with task = \"text-classification\" and its label says so"
                .to_owned(),
        );
        let text = TextTable { activation: Some(activation), ..TextTable::default() };
        Manifest { task: Some(Task::Rerank), text: Some(text), ..Manifest::default() }
    }

    fn embedder(&mut self, graph: &OnnxModel) -> Manifest {
        let (pooling, normalize) = self.modules(graph).unwrap_or((Pooling::None, false));
        let text = TextTable { pooling, normalize, ..TextTable::default() };
        Manifest { task: Some(Task::Embedding), text: Some(text), ..Manifest::default() }
    }

    /// The labels by their numbers, as `transformers` makes them up where there are none.
    fn labels(&mut self, config: &Config) -> Vec<String> {
        let Some(given) = &config.id2label else {
            return (0..config.num_labels.unwrap_or(2).min(100_000)).map(|i| format!("LABEL_{i}")).collect();
        };
        let numbered: Option<BTreeMap<usize, &String>> =
            given.iter().map(|(id, label)| Some((id.parse().ok()?, label))).collect();
        match numbered.filter(|all| all.keys().copied().eq(0..given.len())) {
            Some(all) => all.into_values().cloned().collect(),
            None => {
                self.problem(
                    "config.json",
                    "the keys of `id2label` are not the numbers from 0 up, each once",
                );
                Vec::new()
            }
        }
    }

    /// Tokens a text is cut to. sentence-transformers obeys its own file, and without one the
    /// lower of the tokenizer's limit and the model's positions.
    fn max_tokens(&mut self, config: &Config) -> usize {
        let sentence: SentenceConfig = self.json("sentence_bert_config.json").unwrap_or_default();
        if sentence.do_lower_case && !self.tokenizer_lowers() {
            self.problem(
                "sentence_bert_config.json",
                "`do_lower_case` lowers texts before the tokenizer, which does not do so itself: this is not served",
            );
        }
        let tokenizer: TokenizerConfig = self.json("tokenizer_config.json").unwrap_or_default();
        if tokenizer.truncation_side.is_some_and(|side| side != "right") {
            let message = "`truncation_side`: long texts are cut at their end, another side is not served";
            self.problem("tokenizer_config.json", message);
        }
        let own = tokenizer.model_max_length.filter(|n| (3.0..1e6).contains(n)).map(|n| n as usize);
        let positions = positions(config);
        let limit = |n: i64| usize::try_from(n).ok().filter(|n| (3..=1_000_000).contains(n));
        let (found, said) = match (sentence.max_seq_length.and_then(limit), own, positions) {
            (Some(n), ..) => (n, "sentence_bert_config.json"),
            (None, Some(n), positions) if positions.is_none_or(|p| n <= p) => (n, "tokenizer_config.json"),
            (None, _, Some(n)) => (n, "max_position_embeddings"),
            (None, _, None) => (512, "default"),
        };
        self.notes.push(format!("texts are cut to {found} tokens ({said})"));
        found
    }

    /// Whether the tokenizer lowers texts by itself.
    fn tokenizer_lowers(&mut self) -> bool {
        let tokenizer: Option<Value> = Folders::new(self.source.folder, None)
            .find(TOKENIZER)
            .and_then(|path| files::read(&path, files::limits::TOKENIZER_BYTES))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some(normalizer) = tokenizer.as_ref().and_then(|t| t.get("normalizer")) else { return false };
        let lowers = |n: &Value| {
            n.get("lowercase") == Some(&Value::Bool(true)) || n.get("type") == Some(&"Lowercase".into())
        };
        let several = normalizer.get("normalizers").and_then(Value::as_array);
        lowers(normalizer) || several.is_some_and(|all| all.iter().any(lowers))
    }
}

/// Positions that the encoder has for tokens.
fn positions(config: &Config) -> Option<usize> {
    let all = config.max_position_embeddings?;
    let padded = config.model_type.as_deref().is_some_and(|t| PADDED_POSITIONS.contains(&t));
    let kept = if padded { config.pad_token_id.unwrap_or(1).saturating_add(1) } else { 0 };
    usize::try_from(all.saturating_sub(kept)).ok().filter(|n| (3..=1_000_000).contains(n))
}
