//! A V2 request with blobs behind its JSON, of any kind. The first two bytes are the JSON's
//! length (little-endian), the rest is the body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((length, body)) = input.split_first_chunk() else { return };
    if let Err(problem) = weir_api::v2_bodies::check(body, u16::from_le_bytes(*length).into()) {
        panic!("{problem}");
    }
});
