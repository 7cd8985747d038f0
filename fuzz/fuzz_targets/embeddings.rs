//! The body of a request for embeddings.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(problem) = weir_api::fuzzed::embeddings(bytes) {
        panic!("{problem}");
    }
});
