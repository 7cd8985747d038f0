//! A first `model.toml`, drafted from an artefact and a sample of training data.

mod column;
mod foreign;
mod sample;

use std::{fmt::Write, path::Path};

use toml::Value;
use weir_config::Problem;
use weir_types::{DType, TensorSpec};

use crate::{
    Candidate, Kind, MANIFEST_FILE, Manifest, SequenceTable, Task,
    discover::{discover, name_of_file},
    load::{read_artifact, resolve},
    onnx::OnnxModel,
    report::Report,
    sequence, task,
};
use column::Column;

/// Most columns of one input that get a field of their own.
const MAX_FIELDS: usize = 256;

/// Drafts a commented `model.toml` for `artifact`, a file or a model's folder: one of another
/// layout becomes what it says there. With the CSV file `csv_sample` (header
/// first) also field names, observed ranges, enums and examples. Ranges are comments: a
/// value that training did not see is unusual, not invalid. What it writes loads.
///
/// # Errors
/// All that keeps the artefact from being served, or the sample from being used.
pub fn draft(artifact: &Path, csv_sample: Option<&Path>) -> Result<String, Vec<Problem>> {
    if artifact.is_dir() {
        return folder(artifact, csv_sample);
    }
    let (bytes, graph) = read_artifact(artifact)?;
    let folder = artifact.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let columns = csv_sample.map(sample::read).transpose().map_err(|problem| vec![problem])?;
    let name = model_name(&name_of_file(artifact, folder));
    let text = match is_encoder(&graph) {
        true => encoder(&name, artifact, &graph),
        false => tensors(&name, artifact, &graph, columns.as_deref())
            .map_err(|message| vec![Problem::new(csv_sample.unwrap_or(artifact), message)])?,
    };
    let candidate = candidate(&name, artifact, folder)?;
    check(&text, &candidate, &bytes, &graph)?;
    Ok(text)
}

/// Drafts for the newest version of the one model in a folder.
fn folder(path: &Path, csv_sample: Option<&Path>) -> Result<String, Vec<Problem>> {
    let mut found = discover(path).complete()?;
    let newest = found.pop().filter(|last| found.iter().all(|one| one.name == last.name));
    let Some(newest) = newest else {
        return Err(vec![Problem::new(path, "holds several models: name the folder of one of them")]);
    };
    if newest.kind == Kind::Graph {
        let message = "is made of other models: there is no artefact to draft a description from";
        return Err(vec![Problem::new(&newest.artifact, message)]);
    }
    let Some(foreign) = &newest.foreign else { return draft(&newest.artifact, csv_sample) };
    let columns = csv_sample.map(sample::read).transpose().map_err(|problem| vec![problem])?;
    let candidate = Candidate { manifest: None, ..newest.clone() };
    foreign::draft(&candidate, foreign, columns.as_deref(), csv_sample)
}

fn candidate(name: &str, artifact: &Path, folder: &Path) -> Result<Candidate, Vec<Problem>> {
    let name = name.parse();
    Ok(Candidate {
        name: name.map_err(|e: weir_types::NameError| vec![Problem::new(artifact, e.to_string())])?,
        version: weir_types::Version::default(),
        kind: Kind::Artifact,
        folder: folder.to_owned(),
        artifact: artifact.to_owned(),
        manifest: None,
        foreign: None,
    })
}

/// Loads what was drafted, so that whatever is wrong is told now.
fn check(text: &str, candidate: &Candidate, bytes: &[u8], graph: &OnnxModel) -> Result<(), Vec<Problem>> {
    let file = candidate.folder.join(MANIFEST_FILE);
    let loaded = weir_config::parse_with::<Manifest>(&file, text, &[])?;
    let candidate = Candidate { manifest: Some(file), ..candidate.clone() };
    let mut report = Report::new(&candidate.artifact, None);
    resolve(&candidate, &loaded.value, bytes, graph, &mut report);
    if report.problems.is_empty() { Ok(()) } else { Err(report.problems) }
}

/// The name with whatever may not stand in one replaced.
fn model_name(name: &str) -> String {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let name: String = name.to_lowercase().chars().map(|c| if valid(c) { c } else { '-' }).take(64).collect();
    let name = name.trim_matches(['-', '_']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

/// Whether the model takes tokens.
fn is_encoder(graph: &OnnxModel) -> bool {
    graph.signature.inputs.iter().any(|i| i.name == "input_ids")
}

fn head(out: &mut String, artifact: &Path, graph: &OnnxModel) {
    let producer = if graph.producer.is_empty() { "an unnamed exporter" } else { &graph.producer };
    let file = artifact.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let _ = writeln!(out, "# Drafted from {}, written by {}.", one_line(&file), one_line(producer));
    for (side, tensors) in [("in: ", &graph.signature.inputs), ("out:", &graph.signature.outputs)] {
        for tensor in tensors {
            let _ = writeln!(out, "#   {side} {}", one_line(&tensor.to_string()));
        }
    }
}

/// The first lines that are no comments.
fn title(out: &mut String, name: &str, artifact: &Path) {
    let file = artifact.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let _ = writeln!(out, "name = {}\nartifact = {}", quoted(name), quoted(&file));
    out.push_str("# description = \"one sentence for the docs page\"\n");
}

fn tensors(
    name: &str,
    artifact: &Path,
    graph: &OnnxModel,
    columns: Option<&[Column]>,
) -> Result<String, String> {
    let mut out = String::new();
    head(&mut out, artifact, graph);
    title(&mut out, name, artifact);
    let mut quiet = Report::new(artifact, None);
    let states = sequence::guess(&graph.signature);
    let seen = states.as_ref().map(|table| table.visible(&graph.signature));
    let seen = OnnxModel { signature: seen.unwrap_or_else(|| graph.signature.clone()), ..graph.clone() };
    let resolved = task::resolve(&Manifest::default(), &seen, &mut quiet);
    let _ = writeln!(out, "task = {}", quoted(resolved.task.as_str()));
    if resolved.task == Task::Classification {
        let labels = Value::from(resolved.labels.clone());
        let _ = writeln!(
            out,
            "labels = {labels}    # in the order of the score columns: rename them to what they mean"
        );
    }
    out.push_str("# samples = \"samples.jsonl\"    # golden rows: {\"input\": {…}, \"prediction\": …}, run at every load\n");
    out.push_str(
        "\n[input]\nextra = \"forbid\"               # or \"ignore\": skip keys that are no field\n",
    );
    fields(&mut out, &seen.signature.inputs, columns)?;
    if resolved.task == Task::Classification {
        output(&mut out, &resolved.labels);
    }
    states.iter().for_each(|table| sequences(&mut out, table));
    Ok(out)
}

/// The tensors that look like a state.
fn sequences(out: &mut String, table: &SequenceTable) {
    out.push_str("\n# By their names these go from one request to the next: the server keeps them.\n");
    let _ = writeln!(
        out,
        "[sequence]\nttl = \"{}\"                     # how long a sequence may be idle",
        table.ttl
    );
    for state in &table.state {
        let (input, output) = (quoted(&state.input), quoted(&state.output));
        let _ = writeln!(out, "\n[[sequence.state]]\ninput = {input}\noutput = {output}");
    }
}

fn output(out: &mut String, labels: &[String]) {
    out.push_str("\n[output]\n# What the word `prediction` means in a response; the default is the label.\n");
    if let Some(last) = labels.last() {
        let _ = writeln!(out, "# prediction = {}", quoted(&format!("probability:{last}")));
    }
}

/// One field a column, in the order of the inputs.
fn fields(out: &mut String, inputs: &[TensorSpec], columns: Option<&[Column]>) -> Result<(), String> {
    let widths: Vec<Option<usize>> = inputs.iter().map(TensorSpec::row_width).collect();
    let split = |width: &Option<usize>| width.is_some_and(|w| w <= MAX_FIELDS);
    let Some(columns) = columns else {
        for (input, width) in inputs.iter().zip(&widths) {
            unnamed(out, input, width.filter(|_| split(width)));
        }
        return Ok(());
    };
    if !widths.iter().all(split) {
        return Err(format!(
            "the model's inputs are no table of at most {MAX_FIELDS} columns: {}",
            task::list(inputs)
        ));
    }
    let by_name = |input: &TensorSpec| columns.iter().find(|c| c.name == input.name);
    let single = inputs.len() > 1 && widths.iter().all(|w| *w == Some(1));
    if single && inputs.iter().all(|i| by_name(i).is_some()) {
        inputs.iter().filter_map(|i| Some((i, by_name(i)?))).for_each(|(i, c)| c.write(out, i, None));
        return Ok(());
    }
    in_order(out, inputs, columns)
}

fn in_order(out: &mut String, inputs: &[TensorSpec], columns: &[Column]) -> Result<(), String> {
    let takes: usize = inputs.iter().filter_map(TensorSpec::row_width).sum();
    if columns.len() < takes {
        return Err(format!("the sample has {} columns, the model takes {takes}", columns.len()));
    }
    let unused: Vec<_> = columns[takes..].iter().map(|c| one_line(&c.name)).collect();
    out.push_str("# Columns of the sample in its order. Check that this is the order of training.\n");
    if !unused.is_empty() {
        let _ = writeln!(
            out,
            "# The last columns have no place in the model and were left out: {}.",
            unused.join(", ")
        );
    }
    let several = inputs.len() > 1;
    let owners = inputs.iter().flat_map(|i| std::iter::repeat_n(i, i.row_width().unwrap_or(0)));
    for (input, column) in owners.zip(columns) {
        column.write(out, input, several.then_some(input.name.as_str()));
    }
    Ok(())
}

/// Fields without a sample: columns by number, or the input as it is.
fn unnamed(out: &mut String, input: &TensorSpec, width: Option<usize>) {
    let Some(width) = width.filter(|w| *w > 1) else {
        let _ = writeln!(
            out,
            "\n[[input.field]]\nname = {}\ninput = {}",
            quoted(&input.name),
            quoted(&input.name)
        );
        let _ = writeln!(out, "dtype = {}", quoted(input.dtype.as_str()));
        return;
    };
    out.push_str(
        "\n# Rename these columns in their order; a sample of training data with a header names them.\n",
    );
    for column in 0..width {
        let field = format!("{}_{column}", input.name);
        let _ =
            writeln!(out, "\n[[input.field]]\nname = {}\ninput = {}", quoted(&field), quoted(&input.name));
        let _ = writeln!(out, "dtype = {}", quoted(input.dtype.as_str()));
    }
}

fn encoder(name: &str, artifact: &Path, graph: &OnnxModel) -> String {
    let mut out = String::new();
    head(&mut out, artifact, graph);
    title(&mut out, name, artifact);
    match scores(graph) {
        Some((task @ Task::TokenClassification, labels)) => {
            task_and_labels(&mut out, task, labels);
            out.push_str(
                "aggregation = \"simple\"          # none, simple, first, average or max: as in the pipeline\n",
            );
        }
        Some((task, labels)) => {
            task_and_labels(&mut out, task, labels);
            out.push_str("pooling = \"none\"                # the model answers one row of scores a text\n");
        }
        None => {
            out.push_str("task = \"embedding\"\n\n[text]\ntokenizer = \"tokenizer.json\"\n");
            let pooled = graph.signature.outputs.iter().any(|o| o.shape.len() == 3);
            let _ = writeln!(
                out,
                "pooling = \"{}\"                # none, mean, cls or max: as in training",
                if pooled { "mean" } else { "none" }
            );
            out.push_str("normalize = true                # divide the vector by its length\n");
        }
    }
    out.push_str(
        "\n[limits]\nmax_tokens = 256                # longer texts are cut, special tokens included\n",
    );
    out.push_str("\n[[input.field]]\nname = \"text\"\ndtype = \"string\"\nmax_length = 20000\n");
    out
}

/// What `logits` classify, and how many labels they have. As wide as a vocabulary, the scores
/// of tokens are those of a language model.
fn scores(graph: &OnnxModel) -> Option<(Task, usize)> {
    let logits = graph.signature.outputs.iter().find(|o| o.name == "logits")?;
    let labels = logits.shape.last()?.fixed().filter(|n| *n <= MAX_FIELDS);
    match logits.shape.len() {
        2 => Some((Task::TextClassification, labels.unwrap_or(2))),
        3 => Some((Task::TokenClassification, labels?)),
        _ => None,
    }
}

fn task_and_labels(out: &mut String, task: Task, labels: usize) {
    let names: Value = (0..labels).map(|i| format!("LABEL_{i}")).collect::<Vec<_>>().into();
    let _ = writeln!(
        out,
        "task = {}\nlabels = {names}    # rename them to what they mean",
        quoted(task.as_str())
    );
    out.push_str("\n[text]\ntokenizer = \"tokenizer.json\"\n");
}

/// A TOML string.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\n', "\\n")
}

/// Text as it may stand in a comment.
fn one_line(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A number as TOML writes it for `dtype`.
fn number(value: f64, dtype: DType) -> String {
    if dtype.is_float() { Value::Float(value).to_string() } else { format!("{value}") }
}
