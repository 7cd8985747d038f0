//! `tests/golden/NAME.toml` and what is said about it, `NAME.txt`. After a change on
//! purpose: `UPDATE_GOLDEN=1 cargo test -p weir-config`, then read the difference.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use weir_config::{Problem, parse};

use crate::shape::Config;

#[allow(clippy::disallowed_methods)] // a test's switch, not configuration
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn told(name: &str, text: &str) -> String {
    match parse::<Config>(Path::new(name), text) {
        Ok(config) => format!("{config:#?}\n"),
        Err(problems) => problems.iter().map(|p: &Problem| format!("{p}\n")).collect(),
    }
}

#[test]
fn every_golden_file_is_told_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() >= 8, "the golden files are gone");
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let got = told(&name, &std::fs::read_to_string(&file).unwrap());
        let expected = file.with_extension("txt");
        if updating() {
            std::fs::write(&expected, &got).unwrap();
        }
        let want = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(got, want, "{name}: if this is as it should be, run UPDATE_GOLDEN=1 cargo test");
    }
}

#[test]
fn a_huge_file_is_refused_unread() {
    let problems = parse::<Config>(Path::new("f"), &"#".repeat(weir_config::MAX_BYTES + 1)).unwrap_err();
    assert_eq!(problems.len(), 1);
}

#[test]
fn no_more_problems_are_told_than_a_person_reads() {
    let text: String = (0..10_000).map(|i| format!("k{i} = 1\n")).collect();
    let problems = parse::<Config>(Path::new("f"), &text).unwrap_err();
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].message, "and 9900 more problems");
    assert_eq!(problems[99].at, Some((100, 1)), "the first ones are kept");
}

/// Pieces from which something close to a configuration can be made.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[server]\n",
        "[[route]]\n",
        "[names]\n",
        "listen",
        "workers",
        "route",
        "log",
        "path",
        "request",
        " = ",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        ".",
        "1",
        "-1",
        "nan",
        "inf",
        "true",
        "1979-05-27",
        "rows",
        "kind",
        "\\u0000",
        "é",
        "0x7fffffffffffffff",
        "1e999",
        "#",
        "\"\"\"",
        "'''",
        "\r",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse::<Config>(Path::new("f"), &text);
    }

    #[test]
    fn arbitrary_fragments_never_panic_and_problems_have_places(text in fragments()) {
        if let Err(problems) = parse::<Config>(Path::new("f"), &text) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let lines = text.split('\n').count();
                prop_assert!(problem.at.is_none_or(|(line, column)| line >= 1 && line <= lines && column >= 1), "{}", problem);
            }
        }
    }

    /// What the checker lets through, serde takes: all problems are told at once.
    #[test]
    fn serde_finds_nothing_that_the_check_missed(workers in any::<i32>(), sample in any::<f32>(), word in "one|raw|two|") {
        let text = format!("[server]\nworkers = {workers}\nsample = {sample:?}\n[[route]]\npath = ''\nrequest = '{word}'\n");
        let text = text.replace("NaN", "nan");
        let expected = usize::from(!(1..=64).contains(&workers))
            + usize::from(!(0.0..=1.0).contains(&sample))
            + usize::from(word != "one" && word != "raw");
        let got = parse::<Config>(Path::new("f"), &text).err().map_or(0, |p| p.len());
        prop_assert_eq!(got, expected.max(usize::from(sample.is_nan())), "{}", text);
    }
}
