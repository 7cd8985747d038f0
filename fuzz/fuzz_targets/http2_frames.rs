//! What an HTTP/2 connection sends behind the preface: which frames are a flood.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(problem) = weir_api::fuzzed::frames(bytes) {
        panic!("{problem}");
    }
});
