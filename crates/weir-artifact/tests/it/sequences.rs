//! Models that keep state: what their files say of sequences.

use std::{fmt::Write, path::Path};

use weir_artifact::LoadedModel;

use crate::support::{Folder, assert_golden};

fn models() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sequences/models")
}

/// The model `name`, with another `model.toml` if one is given.
fn folder(name: &str, manifest: Option<&str>) -> Folder {
    let read = |file: &str| std::fs::read(models().join(name).join(file)).unwrap();
    let folder = Folder::new();
    folder.write("m/model.onnx", &read("model.onnx"));
    let own = String::from_utf8(read("model.toml")).unwrap();
    folder.with("m/model.toml", manifest.unwrap_or(&own))
}

fn triton(name: &str, config: &str) -> Folder {
    let onnx = std::fs::read(models().join(name).join("model.onnx")).unwrap();
    let folder = Folder::new().with("m/config.pbtxt", config);
    folder.write("m/1/model.onnx", &onnx);
    folder
}

/// Everything about the sequences of a model, or all that is wrong with it.
fn told(folder: &Folder) -> String {
    match folder.load() {
        Ok(model) => shown(&model),
        Err(problems) => folder.told(&problems) + "\n",
    }
}

fn shown(model: &LoadedModel) -> String {
    let spec = &model.spec;
    let sequence = spec.sequence.as_ref().unwrap();
    let mut text =
        format!("rows {}, stateful {}, merges {}\n", spec.limits.max_rows, spec.stateful, sequence.merges);
    let _ = writeln!(
        text,
        "idle {:?}, at most {}, queue {}, {:?}, {} bytes",
        sequence.ttl,
        sequence.max_sequences,
        sequence.queue,
        sequence.store,
        sequence.state_bytes()
    );
    for (side, tensors) in [("in", &spec.signature.inputs), ("out", &spec.signature.outputs)] {
        tensors.iter().for_each(|t| writeln!(text, "{side} {t}").unwrap());
    }
    for (feed, input) in sequence.feeds.iter().zip(&model.graph.signature.inputs) {
        let _ = writeln!(text, "{} <- {feed:?}", input.name);
    }
    sequence.states.iter().for_each(|state| writeln!(text, "{state:?}").unwrap());
    spec.notes.iter().for_each(|note| writeln!(text, "note: {note}").unwrap());
    text
}

#[test]
fn what_the_server_feeds_is_hidden_from_clients() {
    let all = ["running", "smoothing"].map(|name| format!("# {name}\n{}", told(&folder(name, None))));
    assert_golden("sequences", &all.join("\n"));
}

#[test]
fn everything_wrong_with_a_sequence_is_told_at_once() {
    const RUNNING: &str = "[[sequence.state]]\ninput = \"sum\"\noutput = \"sum_out\"\n";
    let mut all = String::new();
    for manifest in [
        "[sequence]\nttl = \"0s\"\nmax_sequences = 0\nqueue = 0\nstore = \"disk\"".to_owned(),
        "[sequence]\nttl = \"0s\"".to_owned(),
        "[[sequence.state]]\ninput = \"nothing\"\noutput = \"sum_out\"\n[[sequence.state]]\ninput = \"sum\"\noutput = \"nowhere\"".to_owned(),
        "[[sequence.state]]\ninput = \"sum\"\noutput = \"count_out\"\n[[sequence.state]]\ninput = \"sum\"\noutput = \"count_out\"".to_owned(),
        "[[sequence.state]]\ninput = \"count\"\noutput = \"count_out\"\nshape = [1, 2, 1]\n".to_owned() + RUNNING + "shape = [3]\n[[sequence.state]]\ninput = \"x\"\noutput = \"y\"\ninitial = \"a\"\nbatch_axis = 7",
        RUNNING.to_owned() + "[[sequence.control]]\ninput = \"x\"\nkind = \"id\"\n[[sequence.control]]\ninput = \"start\"\nkind = \"start\"\nvalues = [\"no\", \"yes\"]\n[[sequence.control]]\ninput = \"end\"\nkind = \"middle\"",
        RUNNING.to_owned() + "[[sequence.control]]\ninput = \"x\"\nkind = \"id\"\n[[sequence.control]]\ninput = \"start\"\nkind = \"start\"\nvalues = [\"no\", \"yes\"]",
        RUNNING.to_owned() + "[[sequence.constant]]\ninput = \"scale\"\nvalue = true\n[[sequence.constant]]\ninput = \"sum\"\nvalue = 1",
    ] {
        let _ = writeln!(all, "# {}\n{}", manifest.replace('\n', " | "), told(&folder("running", Some(&manifest))));
    }
    let whole = "[[sequence.state]]\ninput = \"h\"\noutput = \"h_out\"\n[[sequence.state]]\ninput = \"x\"\noutput = \"y\"\nshape = [1, 1]";
    let _ = writeln!(all, "# nothing left\n{}", told(&folder("smoothing", Some(whole))));
    let merged = "[batching]\nmerge = true\n[[sequence.state]]\ninput = \"h\"\noutput = \"h_out\"";
    let _ = writeln!(all, "# merged\n{}", told(&folder("smoothing", Some(merged))));
    assert_golden("sequences_wrong", &all);
}

#[test]
fn a_triton_model_with_implicit_state_is_read() {
    let config = std::fs::read_to_string(models().join("counting/config.pbtxt")).unwrap();
    let smoothing = "sequence_batching { oldest { max_candidate_sequences: 4 } state { input_name: \"h\" output_name: \"h_out\" data_type: TYPE_FP32 dims: [ 1, -1 ] } }";
    let wrong = "sequence_batching { iterative_sequence: true slots: 2 control_input { name: \"h\" } control_input { name: \"x\" control { kind: CONTROL_SEQUENCE_MIDDLE int32_false_true: [ 1 ] } }\n state { input_name: \"h\" use_growable_memory: true }\n state { input_name: \"h\" output_name: \"h_out\" initial_state { data_file: \"f\" } } }";
    let all = format!(
        "# counting\n{}\n# no batch dimension\n{}\n# wrong\n{}",
        told(&triton("counting/1", &config)),
        told(&triton("smoothing", smoothing)),
        told(&triton("smoothing", wrong)),
    );
    assert_golden("sequences_triton", &all);
}

#[test]
fn a_draft_knows_states_by_their_names() {
    let folder = folder("smoothing", Some(""));
    let path = folder.path().join("m");
    std::fs::remove_file(path.join("model.toml")).unwrap();
    let text = weir_artifact::draft(&path.join("model.onnx"), None).map_err(|p| folder.told(&p)).unwrap();
    assert!(text.contains("[[sequence.state]]\ninput = \"h\"\noutput = \"h_out\""), "{text}");
    assert_eq!(text.matches("[[input.field]]").count(), 1, "{text}");
    folder.write("m/model.toml", text.as_bytes());
    assert!(folder.load().unwrap().spec.sequence.is_some());
}

#[test]
fn how_long_and_where_states_are_kept_changes_no_answer_and_what_they_are_does() {
    let own = std::fs::read_to_string(models().join("running/model.toml")).unwrap();
    let digest = |text: &str| folder("running", Some(text)).load().unwrap().spec.digest;
    let same = own.replace("30s", "40s").replace("max_sequences = 8", "store = \"redis\"");
    assert_eq!(digest(&own), digest(&same));
    assert_ne!(digest(&own), digest(&own.replace("initial = 100", "initial = 99")));
    assert_ne!(digest(&own), digest(&own.replace("value = 2.0", "value = 3.0")));
}
