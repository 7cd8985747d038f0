//! A V2 request of JSON alone, of any kind.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Err(problem) = weir_api::v2_bodies::check(body, body.len()) {
        panic!("{problem}");
    }
});
