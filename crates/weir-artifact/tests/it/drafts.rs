//! What `weir init` writes.

use weir_artifact::draft;

use crate::support::{Folder, assert_golden, model, tests};

/// Drafts for the model, then loads it with the draft beside it.
fn drafted(name: &str, csv: Option<&str>) -> String {
    let folder = Folder::new().with_model("m/model.onnx", name);
    folder.write("m/tokenizer.json", &std::fs::read(tests("models/tokenizer.json")).unwrap());
    let sample = csv.map(|text| {
        folder.write("sample.csv", text.as_bytes());
        folder.path().join("sample.csv")
    });
    let text = draft(&folder.path().join("m/model.onnx"), sample.as_deref()).unwrap();
    folder.write("m/model.toml", text.as_bytes());
    folder.load().map_err(|p| folder.told(&p)).unwrap();
    text
}

fn refused(name: &str, csv: &str) -> String {
    let folder = Folder::new().with("sample.csv", csv);
    folder.told(&draft(&model(name), Some(&folder.path().join("sample.csv"))).unwrap_err())
}

const HOUSES: &str =
    "\u{feff}MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,target
8.3252,41,6.98,1.02,322,2.55,37.88,-122.23,1
8.3014,,6.23,0.97,2401,2.10,37.86,-122.22,1
0.5,52,8.28,1.07,496,2.80,37.85,-122.24,0
";

#[test]
fn housing_with_a_sample() {
    assert_golden("draft_housing", &drafted("housing", Some(HOUSES)));
}

#[test]
fn housing_without_a_sample() {
    let text = drafted("housing", None);
    assert_eq!(text.matches("[[input.field]]").count(), 8);
    assert!(text.contains("name = \"input_7\""), "{text}");
}

#[test]
fn several_inputs_take_their_columns_by_name() {
    let mut csv = String::from("age,city\n");
    (0..20).for_each(|i| csv.push_str(&format!("{i},{}\n", ["Rome", "Oslo"][i % 2])));
    // `mixed` has inputs that are no columns: the sample cannot describe it.
    assert!(refused("mixed", &csv).contains("are no table"), "{}", refused("mixed", &csv));
    assert_golden("draft_mixed", &drafted("mixed", None));
}

#[test]
fn text_models_get_a_text_table() {
    assert_golden("draft_encoder", &drafted("encoder", None));
    assert!(drafted("sequence_classifier", None).contains("labels = [\"LABEL_0\""));
    let folder = Folder::new().with("tokenizer.json", "{}");
    folder.write("model.onnx", &std::fs::read(tests("formats/hf/tagger/model.onnx")).unwrap());
    let text = draft(&folder.path().join("model.onnx"), None).map_err(|p| folder.told(&p)).unwrap();
    assert!(text.contains("task = \"token-classification\"\nlabels = [\"LABEL_0\""), "{text}");
    assert!(text.contains("\naggregation = \"simple\""), "{text}");
}

#[test]
fn every_export_drafts_to_something_that_loads() {
    for name in ["lightgbm_onnxmltools", "xgboost_onnxmltools", "catboost", "one_row"] {
        drafted(name, None);
    }
}

#[test]
fn a_sample_that_does_not_fit_is_refused() {
    assert!(refused("housing", "a,b\n1,2\n").contains("the sample has 2 columns, the model takes 8"));
    assert!(refused("housing", "1,2,3\n4,5,6\n").contains("the first line must name the columns"));
    assert!(refused("housing", "a,b\n1\n").contains("is no CSV file"));
    assert!(refused("scalar_input", "a\n1\n").contains("no leading dimension"));
}

#[test]
fn names_from_a_sample_cannot_break_out_of_their_strings() {
    let csv =
        "\"a\"\"b\",\"new\nline\",\"]] = x\",\"# no\",\"e\u{1b}\",ff,\"\"\"\"\"\"\"\",h\n1,2,3,4,5,6,7,8\n";
    let text = drafted("housing", Some(csv));
    assert_eq!(text.matches("[[input.field]]").count(), 8, "{text}");
}
