//! Delivery: the gates of `scripts/deliver.py`, `scripts/promote.py` on the overlays, and the rules for
//! workflows, all in `tests/delivery`.

use std::process::Command;

use regex::Regex;

use crate::server::root;

#[test]
fn gates_promotion_and_workflows() {
    let python = root().join(".cache/venvs/delivery/bin/python");
    assert!(python.exists(), "{} is not there: run `make venvs`", python.display());
    let output = Command::new(python)
        .args(["-m", "unittest", "discover", "-s"])
        .arg(root().join("tests/delivery"))
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let count = Regex::new(r"Ran (\d+) tests").unwrap().captures(&text).map(|found| found[1].parse());
    let count: u32 = count.unwrap_or_else(|| panic!("no count:\n{text}")).unwrap();
    println!("delivery: {count} tests");
    assert!(count >= 21 && !text.contains("skipped"), "{text}");
}
