//! Models that another server runs: `model.toml` says where, the server's metadata says what.

mod table;

use weir_config::{Places, Problem};
use weir_types::{Dim, Signature, TensorSpec};

pub use table::{BreakerTable, EncodingWord, LimitTable, RemoteTable, RetryTable, TensorTable};

use crate::{
    Candidate, EngineChoice, Manifest, ModelSpec,
    load::{describe, resolve},
    onnx::{OnnxModel, proto::ModelProto},
    report::Report,
};

/// What is written about a model that another server runs. [`describe`](Self::describe) makes
/// a model of it once that server was asked.
#[derive(Debug, Clone)]
pub struct RemoteDraft {
    candidate: Candidate,
    manifest: Manifest,
    table: RemoteTable,
    places: Places,
}

/// What the other server says of the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteFacts {
    /// Name and version of the server, for example `triton 2.50.0`: it is part of the digest.
    pub server: String,
    /// Format and engine, by the server's name.
    pub platform: String,
    /// Inputs and outputs; empty where the server does not tell.
    pub signature: Signature,
    /// Most rows that it takes in one request, where it says so.
    pub max_rows: Option<usize>,
}

/// Reads the description of a model that another server runs; asks nobody yet.
///
/// # Errors
/// All that is wrong with it whatever the server says.
pub fn read_remote(candidate: &Candidate) -> Result<RemoteDraft, Vec<Problem>> {
    let loaded = describe(candidate.manifest.as_deref())?;
    let manifest = loaded.value;
    let Some(table) = manifest.remote.clone() else {
        return Err(vec![Problem::new(&candidate.artifact, "has no [remote]")]);
    };
    let draft = RemoteDraft { candidate: candidate.clone(), manifest, table, places: loaded.places };
    let mut report = draft.report();
    draft.check(&mut report);
    if report.problems.is_empty() { Ok(draft) } else { Err(report.problems) }
}

impl RemoteDraft {
    /// `[remote]`.
    pub fn table(&self) -> &RemoteTable {
        &self.table
    }

    /// What the server calls the model.
    pub fn model(&self) -> &str {
        self.table.model.as_deref().unwrap_or(self.candidate.name.as_str())
    }

    /// Whether asking twice is as good as asking once.
    pub fn repeatable(&self) -> bool {
        self.manifest.deterministic && !self.manifest.stateful
    }

    fn report(&self) -> Report {
        Report::new(&self.candidate.artifact, Some(self.places.clone()))
    }

    fn check(&self, report: &mut Report) {
        let Manifest { artifact, engine, graph, text, sequence, .. } = &self.manifest;
        for (key, written) in [
            ("artifact", artifact.is_some()),
            ("engine", *engine != EngineChoice::Auto),
            ("graph", graph.is_some()),
            ("text", text.is_some()),
            ("sequence", sequence.is_some()),
        ] {
            if written {
                report
                    .at(key, format!("`{key}` and `[remote]` exclude each other: the model runs elsewhere"));
            }
        }
        report.keep("remote.url", check_url(&self.table.url));
        if self.table.is_grpc() && self.table.encoding == EncodingWord::Json {
            report.at("remote.encoding", "over gRPC tensors are always bytes: leave `encoding` out");
        }
        let named = [("remote.model", Some(self.model())), ("remote.version", self.table.version.as_deref())];
        for (key, name) in named {
            if name.is_some_and(|name| name.is_empty() || name.len() > 256 || name.contains(char::is_control))
            {
                report.at(key, "a name has 1 to 256 bytes and no control characters");
            }
        }
        let limit = &self.table.limit;
        if limit.min > limit.max {
            report.at("remote.limit.min", format!("`min` ({}) is above `max` ({})", limit.min, limit.max));
        }
    }

    /// The model, as `facts` complete what is written.
    ///
    /// # Errors
    /// All problems at once: of the signature, and of what is written about fields, task and
    /// answers.
    pub fn describe(&self, facts: &RemoteFacts) -> Result<ModelSpec, Vec<Problem>> {
        let mut report = self.report();
        let signature = self.signature(&facts.signature, &mut report);
        let told = format!("{}\n{}\n{}", facts.server, facts.platform, signature_text(&signature));
        let bare = bare(signature, facts);
        let mut spec = resolve(&self.candidate, &self.manifest, told.as_bytes(), &bare, &mut report);
        spec.artifact_bytes = 0;
        spec.notes.push(format!(
            "it runs on {}, which may change it without a new version here: the digest covers address, name, \
             version and metadata, not its weights",
            facts.server
        ));
        if report.problems.is_empty() { Ok(spec) } else { Err(report.problems) }
    }

    /// What is written, where something is; else what the server says.
    fn signature(&self, told: &Signature, report: &mut Report) -> Signature {
        let side = |written: &[TensorTable], told: &[TensorSpec]| match written {
            [] => told.to_vec(),
            tensors => tensors.iter().map(spec).collect(),
        };
        let signature = Signature {
            inputs: side(&self.table.input, &told.inputs),
            outputs: side(&self.table.output, &told.outputs),
        };
        for (what, tensors) in [("input", &signature.inputs), ("output", &signature.outputs)] {
            if tensors.is_empty() {
                let message = format!("the server names no {what}s: describe them with [[remote.{what}]]");
                report.at("remote", message);
            }
            let twice =
                tensors.iter().enumerate().find(|(i, t)| tensors[..*i].iter().any(|o| o.name == t.name));
            if let Some((_, tensor)) = twice {
                report.at("remote", format!("two {what}s are called `{}`", tensor.name.escape_debug()));
            }
        }
        signature
    }
}

/// Only what the client can do, and nothing that would stand in a log as a secret.
fn check_url(url: &str) -> Result<(), String> {
    const FORM: &str = "an address has the form http://host:port or grpc://host:port";
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    match scheme {
        "http" | "grpc" => {}
        "https" | "grpcs" => return Err("TLS is not spoken yet: put a proxy between".into()),
        _ => return Err(FORM.into()),
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("an address with a password would stand in logs: use the network's own protection".into());
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#');
    if authority.is_empty() || rest.contains(odd) {
        return Err(FORM.into());
    }
    Ok(())
}

fn spec(table: &TensorTable) -> TensorSpec {
    let dim = |n: &i64| usize::try_from(*n).map_or(Dim::Any(None), Dim::Fixed);
    TensorSpec {
        name: table.name.clone(),
        dtype: table.dtype.into(),
        shape: table.shape.iter().map(dim).collect(),
    }
}

fn signature_text(signature: &Signature) -> String {
    let side =
        |tensors: &[TensorSpec]| tensors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    format!("{}\n\n{}", side(&signature.inputs), side(&signature.outputs))
}

/// The model as a graph of which only the rim is known, so that fields, task and answers are
/// settled by the same rules as for an artefact.
fn bare(signature: Signature, facts: &RemoteFacts) -> OnnxModel {
    OnnxModel {
        model: ModelProto::default(),
        signature,
        producer: facts.platform.clone(),
        opsets: Vec::new(),
        is_classic: false,
        class_labels: None,
        unsupported_ops_for_native: Vec::new(),
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use weir_types::DType;

    use super::*;
    use crate::{Kind, discover};

    fn draft(folder: &Path, text: &str) -> Result<RemoteDraft, Vec<Problem>> {
        let model = folder.join("far");
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("model.toml"), text).unwrap();
        let found = discover(&model).complete()?;
        assert_eq!(found[0].kind, Kind::Remote);
        read_remote(&found[0])
    }

    fn facts() -> RemoteFacts {
        let tensor = |name: &str, width| TensorSpec {
            name: name.into(),
            dtype: DType::Float32,
            shape: vec![Dim::Any(None), Dim::Fixed(width)],
        };
        let signature = Signature { inputs: vec![tensor("x", 2)], outputs: vec![tensor("y", 1)] };
        RemoteFacts { server: "triton 2.50".into(), signature, max_rows: Some(8), ..RemoteFacts::default() }
    }

    const PLAIN: &str = "[remote]\nurl = \"http://gpu:8000\"\n";

    #[test]
    fn what_is_written_completes_what_the_server_says() {
        let folder = tempfile::tempdir().unwrap();
        let fields = "[[input.field]]\nname = \"a\"\n[[input.field]]\nname = \"b\"\nge = 0.0\n";
        let draft = draft(folder.path(), &format!("task = \"regression\"\n{PLAIN}{fields}")).unwrap();
        assert_eq!((draft.model(), draft.repeatable()), ("far", true));
        let spec = draft.describe(&facts()).unwrap();
        assert_eq!(spec.schema.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(spec.artifact_bytes, 0);
    }

    #[test]
    fn the_digest_is_of_server_metadata_and_description() {
        let folder = tempfile::tempdir().unwrap();
        let digest = |text: &str, change: &dyn Fn(&mut RemoteFacts)| {
            let mut facts = facts();
            change(&mut facts);
            draft(folder.path(), text).unwrap().describe(&facts).unwrap().digest
        };
        let same = |_: &mut RemoteFacts| ();
        let mut all = vec![
            digest(PLAIN, &same),
            digest(&PLAIN.replace("gpu", "cpu"), &same),
            digest(&format!("{PLAIN}version = \"2\"\n"), &same),
            digest(&format!("{PLAIN}timeout = \"1s\"\n"), &same),
            digest(PLAIN, &|f| f.server = "triton 2.51".into()),
            digest(PLAIN, &|f| f.signature.inputs[0].shape[1] = Dim::Fixed(3)),
        ];
        assert_eq!(digest(&format!("description = \"d\"\n{PLAIN}"), &same), all[0]);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn mistakes_are_told_at_their_places_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let text = "engine = \"rten\"\n[remote]\nurl = \"https://gpu\"\nversion = \"\"\n[remote.limit]\nmin = 9\nmax = 3\n";
        let problems = draft(folder.path(), text).unwrap_err();
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in ["engine", "TLS", "1 to 256", "above `max`"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for bad in [
            "gpu:8000",
            "http://",
            "http://a b",
            "http://u:p@gpu",
            "http://gpu?x",
            "grpcs://gpu",
            "grpc:///x",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_that_names_no_tensors_is_helped_out() {
        let folder = tempfile::tempdir().unwrap();
        let silent = RemoteFacts { signature: Signature::default(), ..facts() };
        let problems = draft(folder.path(), PLAIN).unwrap().describe(&silent).unwrap_err();
        assert!(problems.iter().any(|p| p.message.contains("[[remote.input]]")), "{problems:?}");
        let tensors = "[[remote.input]]\nname = \"x\"\ndtype = \"float64\"\nshape = [-1, 4]\n\
                       [[remote.output]]\nname = \"y\"\ndtype = \"int64\"\nshape = [-1]\n";
        let spec = draft(folder.path(), &format!("{PLAIN}{tensors}")).unwrap().describe(&silent).unwrap();
        assert_eq!(spec.signature.inputs[0].to_string(), "x: float64[?, 4]");
    }

    #[test]
    fn an_artefact_beside_it_is_no_accident_to_be_guessed_about() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("far")).unwrap();
        fs::write(folder.path().join("far/model.onnx"), "x").unwrap();
        let problems = draft(folder.path(), PLAIN).unwrap_err();
        assert!(problems[0].message.contains("model.onnx"), "{problems:?}");
    }
}
