//! An ONNX file of any kind: refused, or so sound that all its constants can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_artifact::onnx::{self, GateLimits};

fuzz_target!(|data: &[u8]| {
    let limits =
        GateLimits { max_bytes: 1 << 20, max_nodes: 1000, max_tensors: 1000, ..GateLimits::default() };
    match onnx::read(data, &limits) {
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().all(|p| !p.is_empty()), "refused without a word");
            // A file must not be able to fill a log: names in messages are cut.
            assert!(problems.iter().all(|p| p.len() < 2000), "{problems:?}");
        }
        Ok(read) => {
            let constants = read.model.graph.iter().flat_map(|graph| &graph.initializer);
            for constant in constants {
                if let Ok(tensor) = onnx::tensor(constant) {
                    // Never more memory than the file itself can justify.
                    assert!(tensor.data().len() <= 8 * data.len().max(1));
                }
            }
        }
    }
});
