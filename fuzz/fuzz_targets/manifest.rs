//! A `model.toml` of any kind: accepted, or refused with problems that can be printed.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weir_artifact::Manifest;

fuzz_target!(|text: &str| {
    if let Err(problems) = weir_config::parse::<Manifest>(Path::new("model.toml"), text) {
        assert!(!problems.is_empty(), "refused without a word");
        let lines = text.lines().count() + 1;
        for problem in problems {
            assert!(!problem.message.is_empty());
            assert!(
                problem.at.is_none_or(|(line, column)| (1..=lines).contains(&line) && column >= 1),
                "{problem}"
            );
        }
    }
});
