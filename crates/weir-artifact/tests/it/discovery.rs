//! Folders of every shape.

use std::path::Path;

use weir_artifact::{discover, load};

use crate::support::{Folder, assert_golden};

/// `name version artefact manifest` of everything found.
fn found(folder: &Folder, path: &str) -> String {
    let root = folder.path();
    let short = |p: &Path| p.strip_prefix(root).unwrap().display().to_string();
    match discover(&root.join(path)).complete() {
        Ok(all) => {
            let line = |c: &weir_artifact::Candidate| {
                let manifest = c.manifest.as_deref().map_or("-".to_owned(), short);
                format!("{} {} {} {manifest}", c.name, c.version, short(&c.artifact))
            };
            all.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Err(problems) => folder.told(&problems),
    }
}

#[test]
fn a_single_file_is_a_model() {
    let folder = Folder::new().with("a/churn.onnx", "").with("a/README.md", "").with("b/model.onnx", "");
    assert_eq!(found(&folder, "a/churn.onnx"), "churn 1 a/churn.onnx -");
    assert_eq!(found(&folder, "b/model.onnx"), "b 1 b/model.onnx -");
}

#[test]
fn a_single_file_is_described_by_the_manifest_beside_it() {
    let folder = Folder::new()
        .with("a/one.onnx", "")
        .with("a/two.onnx", "")
        .with("a/model.toml", "name = 'first'\nartifact = 'one.onnx'")
        .with("m/7/model.onnx", "")
        .with("m/model.toml", "");
    assert_eq!(found(&folder, "a/one.onnx"), "first 1 a/one.onnx a/model.toml");
    assert_eq!(found(&folder, "a/two.onnx"), "two 1 a/two.onnx -");
    assert_eq!(found(&folder, "m/7/model.onnx"), "m 7 m/7/model.onnx m/model.toml");
}

#[test]
fn a_folder_of_folders_and_versions() {
    let folder = Folder::new()
        .with("all/plain/net.onnx", "")
        .with("all/plain/train.py", "")
        .with("all/plain/README.md", "")
        .with("all/plain/data/x.csv", "")
        .with("all/named/model.toml", "name = 'other'")
        .with("all/named/m.onnx", "")
        .with("all/versions/model.toml", "")
        .with("all/versions/2/model.onnx", "")
        .with("all/versions/10/model.onnx", "")
        .with("all/versions/10/model.toml", "labels = ['a', 'b']")
        .with("all/versions/notes/x.txt", "")
        .with("all/.hidden/a.onnx", "")
        .with("all/__pycache__/a.onnx", "")
        .with("all/README.md", "");
    let expected = "\
other 1 all/named/m.onnx all/named/model.toml
plain 1 all/plain/net.onnx -
versions 2 all/versions/2/model.onnx all/versions/model.toml
versions 10 all/versions/10/model.onnx all/versions/10/model.toml";
    assert_eq!(found(&folder, "all"), expected);
    assert_eq!(found(&folder, "all/versions").lines().count(), 2);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let folder = Folder::new()
        .with("all/two/a.onnx", "")
        .with("all/two/b.onnx", "")
        .with("all/empty/README.md", "")
        .with("all/pickle/model.pkl", "")
        .with("all/Upper Case/model.onnx", "")
        .with("all/gone/model.toml", "\nartifact = 'x.onnx'")
        .with("all/gone/y.onnx", "")
        .with("all/typo/model.toml", "lable = 1")
        .with("all/typo/y.onnx", "")
        .with("all/same1/model.toml", "name = 'same'")
        .with("all/same1/y.onnx", "")
        .with("all/same2/model.toml", "name = 'same'")
        .with("all/same2/y.onnx", "")
        .with("all/both/1/y.onnx", "")
        .with("all/both/y.onnx", "")
        .with("all/bad-name/model.toml", "name = '../x'")
        .with("all/bad-name/y.onnx", "")
        .with("all/no-artefact/model.toml", "");
    assert_golden("discovery", &(found(&folder, "all") + "\n"));
}

#[test]
fn what_is_no_model_says_so() {
    let folder = Folder::new().with("model.pkl", "").with("x.txt", "").with("empty/.keep", "");
    assert_eq!(
        found(&folder, "model.pkl"),
        "model.pkl: can run code when it is loaded, so it is never loaded: export the model to ONNX"
    );
    assert_eq!(found(&folder, "x.txt"), "x.txt: is no artefact: an .onnx file is expected");
    assert!(found(&folder, "empty").starts_with("empty: no artefact here"));
    assert!(found(&folder, "nowhere").starts_with("nowhere: cannot be read"));
}

#[cfg(unix)]
#[test]
fn links_do_not_lead_out() {
    use std::os::unix::fs::symlink;
    let folder =
        Folder::new().with("secret/model.onnx", "").with("all/a/readme", "").with("all/c/model.toml", "");
    symlink("../../secret/model.onnx", folder.path().join("all/a/model.onnx")).unwrap();
    symlink("../secret", folder.path().join("all/b")).unwrap();
    let told = found(&folder, "all");
    assert!(told.contains("all/a/model.onnx leads outside the model folder"), "{told}");
    assert!(told.contains("all/b: leads outside the folder"), "{told}");
}

#[test]
fn a_loaded_version_uses_the_shared_manifest() {
    let folder = Folder::new()
        .with("m/model.toml", "task = 'classification'\nlabels = ['l', 'h']\nsamples = 's.jsonl'")
        .with("m/s.jsonl", "{\"input\": {}}")
        .with_model("m/3/model.onnx", "housing");
    let all = discover(folder.path()).complete().unwrap();
    let spec = load(&all[0]).unwrap().spec;
    assert_eq!((spec.name.as_str(), spec.version.as_str()), ("m", "3"));
    assert_eq!((spec.labels, spec.samples.len()), (vec!["l".to_owned(), "h".to_owned()], 1));
}

#[test]
fn a_broken_folder_does_not_hide_its_neighbours() {
    let folder = Folder::new()
        .with("all/good/m.onnx", "")
        .with("all/typo/model.toml", "lable = 1")
        .with("all/typo/y.onnx", "")
        .with("all/versions/1/a.onnx", "")
        .with("all/versions/2/a.onnx", "")
        .with("all/versions/2/b.onnx", "")
        .with("all/same1/model.toml", "name = 'same'")
        .with("all/same1/y.onnx", "")
        .with("all/same2/model.toml", "name = 'same'")
        .with("all/same2/y.onnx", "");
    let all = discover(&folder.path().join("all"));
    let names: Vec<_> = all.found.iter().map(|c| format!("{} {}", c.name, c.version)).collect();
    assert_eq!(names, ["good 1", "versions 1"]);
    let short = |p: &Path| p.strip_prefix(folder.path().join("all")).unwrap().display().to_string();
    let folders: Vec<_> = all.problems.iter().map(|p| short(&p.folder)).collect();
    assert_eq!(folders, ["typo", "versions/2", "same1", "same2"]);
}
