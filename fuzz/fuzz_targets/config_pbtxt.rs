//! A Triton model whose `config.pbtxt` is any bytes: read, or refused with problems that can be printed.

#![no_main]

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use weir_artifact::{discover, load};

const ARTIFACT: &[u8] = include_bytes!("../../crates/weir-artifact/tests/models/mixed.onnx");

/// The model's folder, one a process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = env::temp_dir().join(format!("weir-fuzz-config_pbtxt-{}/m", process::id()));
    let artifact = folder.join("1/model.onnx");
    fs::create_dir_all(artifact.parent().unwrap()).unwrap();
    fs::write(artifact, ARTIFACT).unwrap();
    folder
});

fuzz_target!(|bytes: &[u8]| {
    fs::write(FOLDER.join("config.pbtxt"), bytes).unwrap();
    let all = discover(&FOLDER);
    let mut problems: Vec<_> = all.problems.into_iter().map(|p| p.problem).collect();
    assert_eq!(all.found.is_empty(), !problems.is_empty(), "{problems:?}");
    problems.extend(all.found.iter().filter_map(|one| load(one).err()).flatten());
    for problem in problems {
        let text = problem.to_string();
        assert!(!problem.message.is_empty() && text.len() < 8_000, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
});
