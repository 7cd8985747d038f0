//! `tests/scenarios/both/v2.yaml`: one suite, replayed over every form that a request has (JSON
//! and JSON with bytes over REST; typed, raw and streamed messages over gRPC), each against a
//! server of its own. What comes back must be the same: code, wording, tensors to the bit.

mod answers;
mod messages;
mod rest;

use std::{collections::BTreeMap, fs};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::{client::Client, tensors::Tensor};
use crate::{
    matching::text,
    server::{Server, root},
    v2clients,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// What the file shows.
    #[allow(dead_code)] // for the reader
    title: String,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    /// A model, with a version behind a slash where one is asked for.
    model: Option<String>,
    /// An inference request, as its JSON.
    infer: Option<Value>,
    /// Another question: `server`, `live`, `ready`, `metadata`, `config`, `statistics`,
    /// `index`, `load`, `unload`, `trace`, `logging`.
    ask: Option<String>,
    /// Settings to change.
    #[serde(default)]
    change: BTreeMap<String, Value>,
    /// The gRPC code.
    #[serde(default = "ok")]
    code: String,
    /// The message of an error: a pattern.
    message: Option<String>,
    /// What the answer holds: values of the outputs, or parts of an answer.
    expect: Option<Value>,
    /// Why the forms word this differently. Code and pattern hold for all of them still.
    worded: Option<String>,
}

fn ok() -> String {
    "OK".into()
}

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Binary,
    Typed,
    Raw,
    Streamed,
}

const FORMS: [Form; 5] = [Form::Json, Form::Binary, Form::Typed, Form::Raw, Form::Streamed];

/// What came back, whatever the form.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Tensors {
        model: String,
        version: String,
        id: String,
        outputs: Vec<Tensor>,
    },
    Answer(Value),
    Refused(Code, String),
    /// The form has no such thing: BF16 as JSON, FP16 as typed contents.
    Unsayable,
}

impl Step {
    fn target(&self) -> (&str, &str) {
        let model = self.model.as_deref().unwrap_or_default();
        model.split_once('/').unwrap_or((model, ""))
    }

    fn inputs(&self) -> Vec<Tensor> {
        let inputs = self.infer.as_ref().and_then(|i| i["inputs"].as_array()).into_iter().flatten();
        inputs.map(Tensor::from_json).collect()
    }
}

/// What does not depend on the clock, and not on how a transport writes numbers.
fn comparable(mut answer: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                for key in ["ns", "last_inference"] {
                    entries.remove(key);
                }
                entries.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut answer);
    answer
}

/// What one form got, step by step, and what of it is not as the suite says.
async fn replay(suite: &Suite, form: Form) -> (Vec<Outcome>, Vec<String>) {
    let place = TempDir::new().unwrap();
    v2clients::lay_out(place.path());
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    let client = Client::connect(server.address).await;
    let (mut outcomes, mut problems) = (Vec::new(), Vec::new());
    for step in &suite.steps {
        let outcome = match form {
            Form::Json | Form::Binary => rest::ask(step, server.address, form),
            _ => messages::ask(step, &client, form).await,
        };
        problems.extend(check(step, &outcome, form).map(|p| format!("{form:?}: {}: {p}", step.name)));
        outcomes.push(outcome);
    }
    server.stop();
    (outcomes, problems)
}

fn check(step: &Step, outcome: &Outcome, form: Form) -> Option<String> {
    match outcome {
        Outcome::Unsayable => None,
        Outcome::Refused(code, message) => {
            let known = form == Form::Streamed && *code == Code::Unknown;
            if !known && step.code != code_name(*code) {
                return Some(format!("{code:?} {message:?}, expected {}", step.code));
            }
            if step.code == "OK" {
                return Some(format!("refused: {message}"));
            }
            text(&format!("re:{}", step.message.as_deref().unwrap_or_default()), message)
        }
        _ if step.code != "OK" => Some(format!("{outcome:?}, expected {}", step.code)),
        Outcome::Answer(answer) => {
            let rules = crate::matching::Rules { partial: true, approx: 0.0 };
            let wanted = step.expect.as_ref()?;
            let found = crate::matching::differences(wanted, answer, rules);
            (!found.is_empty()).then(|| found.join("; "))
        }
        Outcome::Tensors { outputs, .. } => {
            let wanted = step.expect.as_ref()?;
            let got: Value = outputs.iter().map(|o| (o.name.clone(), json!(o.values))).collect();
            (*wanted != got).then(|| format!("{got}, expected {wanted}"))
        }
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        _ => "another code",
    }
}

/// How what two forms got differs.
fn difference(step: &Step, a: &Outcome, b: &Outcome) -> Option<String> {
    match (a, b) {
        (Outcome::Unsayable, _) | (_, Outcome::Unsayable) => None,
        // Codes were checked against the suite's.
        (Outcome::Refused(_, _), Outcome::Refused(_, _)) if step.worded.is_some() => None,
        (Outcome::Refused(_, one), Outcome::Refused(_, other)) if one == other => None,
        _ if a == b => None,
        _ => Some(format!("{a:?}\n      and {b:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_has_the_same_answers() {
    let path = root().join("tests/scenarios/both/v2.yaml");
    let suite: Suite = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut problems, mut replayed) = (Vec::new(), Vec::new());
    for form in FORMS {
        let (outcomes, wrong) = replay(&suite, form).await;
        problems.extend(wrong);
        replayed.push(outcomes);
    }
    for (i, step) in suite.steps.iter().enumerate() {
        let said: Vec<usize> = (0..FORMS.len()).filter(|f| replayed[*f][i] != Outcome::Unsayable).collect();
        assert!(said.len() >= 2, "`{}` was compared with nothing", step.name);
        for f in &said[1..] {
            let found = difference(step, &replayed[said[0]][i], &replayed[*f][i]);
            problems.extend(found.map(|d| {
                format!("{:?} and {:?} differ: {}:\n      {d}", FORMS[said[0]], FORMS[*f], step.name)
            }));
        }
    }
    assert!(problems.is_empty(), "{} problems\n  {}", problems.len(), problems.join("\n  "));
    println!("{} steps over {} forms", suite.steps.len(), FORMS.len());
}
