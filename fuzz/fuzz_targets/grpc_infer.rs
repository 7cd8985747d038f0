//! A `ModelInferRequest` of any bytes, up to the tensors: nothing may panic, and what is
//! refused is the caller's mistake.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_api::grpc::read_request;
use weir_types::ErrorCode;

fuzz_target!(|data: &[u8]| {
    match read_request(data.to_vec().into()) {
        // Two bytes at most make an element of BYTES, one any other.
        Ok(elements) => assert!(elements <= data.len(), "{elements} elements from {} bytes", data.len()),
        Err(error) => assert!(
            matches!(error.code, ErrorCode::InvalidArgument | ErrorCode::Unsupported),
            "{error:?}"
        ),
    }
});
