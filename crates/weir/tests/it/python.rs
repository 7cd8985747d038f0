//! Suites of Python's `unittest`, aimed at the real binary.

use std::{path::PathBuf, process::Command};

use regex::Regex;

use crate::server::root;

/// The interpreter of the environment `name`, to be given a suite.
pub(crate) fn python(name: &str) -> Command {
    let python: PathBuf = root().join(".cache/venvs").join(name).join("bin/python");
    assert!(python.exists(), "{} is not there: run `make venvs`", python.display());
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a suite that must pass, and skip nothing; how many tests it ran.
pub(crate) fn passed(name: &str, suite: &mut Command) -> u32 {
    let output = suite.output().unwrap();
    let [said, text] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Tables that a suite prints, of what was sent and answered.
    print!("{said}");
    assert!(output.status.success() && !text.contains("skipped"), "{said}{text}");
    let count = Regex::new(r"Ran (\d+) tests").unwrap().captures(&text).map(|found| found[1].parse());
    let count = count.unwrap_or_else(|| panic!("no count:\n{text}")).unwrap();
    println!("{name}: {count} tests");
    count
}
