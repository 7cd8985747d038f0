//! An answer of another server, over REST or gRPC; see the check for the form of the input.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(problem) = weir_codec::v2::answers::check(bytes) {
        panic!("{problem}");
    }
});
