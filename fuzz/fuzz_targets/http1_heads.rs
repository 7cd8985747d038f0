//! What an HTTP/1 connection sends: which head has two framings.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(problem) = weir_api::fuzzed::heads(bytes) {
        panic!("{problem}");
    }
});
