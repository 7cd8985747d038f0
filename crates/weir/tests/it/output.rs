//! What becomes of output that nobody can take.

use std::{fs::File, path::Path, process::Stdio};

use crate::server::weir;

fn default_config_into(output: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = weir(Path::new("."));
    let child = command.args(["config", "default"]).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    let done = child.wait_with_output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_full_disk_is_no_success() {
    let (code, told) = default_config_into(File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(code, Some(1));
    assert!(told.contains("standard output cannot be written"), "{told}");
}

#[test]
fn a_reader_that_went_away_is_no_mistake() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(default_config_into(writer), (Some(0), String::new()));
}
