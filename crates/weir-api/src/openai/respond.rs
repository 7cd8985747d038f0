//! Answers and errors in OpenAI's form.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Response, StatusCode};
use serde_json::json;
use weir_codec::{write_floats, write_string};
use weir_serving::Executed;
use weir_types::{Error, ErrorCode};

use super::{Refusal, request::Encoding};
use crate::{listener::Body, respond, v2::core::ModelView};

/// The kinds of errors that OpenAI's clients know.
pub(crate) const TYPES: [&str; 5] =
    ["invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"];

/// The answer to a request that was run.
///
/// # Errors
/// `Internal` where the engine answered no vectors, or did not count what it read.
pub(super) fn embeddings(
    view: &ModelView,
    executed: &Executed,
    encoding: Encoding,
) -> Result<Response<Body>, Error> {
    let broken = || Error::internal("the model failed to answer this request");
    let tensor = executed.outputs.tensors.first().ok_or_else(broken)?;
    let values = tensor.as_f32().ok_or_else(broken)?;
    let width = tensor.row_width();
    if width == 0 || tensor.rows() != executed.outputs.rows {
        return Err(broken());
    }
    let tokens = executed.tokens.ok_or_else(broken)?;
    let mut body = Vec::with_capacity(256 + executed.outputs.rows * (64 + 12 * width));
    body.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    let mut nulls = 0;
    for (index, vector) in values.chunks_exact(width).enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let start = format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":");
        body.extend_from_slice(start.as_bytes());
        nulls += write_vector(vector, encoding, &mut body);
        body.push(b'}');
    }
    body.extend_from_slice(b"],\"model\":");
    write_string(view.version().spec.name.as_str(), &mut body);
    let usage = format!(",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}");
    body.extend_from_slice(usage.as_bytes());
    let mut response = respond::json(StatusCode::OK, body);
    response.headers_mut().insert(respond::MODEL, view.named.clone());
    if nulls > 0 {
        response.headers_mut().insert(respond::NON_FINITE, nulls.into());
    }
    respond::cached(executed.cache, response.headers_mut());
    Ok(response)
}

/// Writes one vector; returns how many numbers JSON cannot say.
fn write_vector(vector: &[f32], encoding: Encoding, out: &mut Vec<u8>) -> usize {
    match encoding {
        Encoding::Float => write_floats(vector, out),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.push(b'"');
            out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
            0
        }
    }
}

/// An error in OpenAI's form.
pub(super) fn refusal(Refusal { error, parameter, .. }: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = match (error.code, parameter) {
        (ErrorCode::NotFound, Some("model")) => "model_not_found",
        (code, _) => code.as_str(),
    };
    let body = json!({"error": {
        "message": error.message,
        "type": kind(error.code),
        "param": parameter,
        "code": code,
    }});
    let mut response = respond::json(status, body.to_string());
    respond::advise(error, response.headers_mut());
    response
}

fn kind(code: ErrorCode) -> &'static str {
    let [invalid, authentication, permission, rate, server] = TYPES;
    match code {
        ErrorCode::Unauthenticated => authentication,
        ErrorCode::PermissionDenied => permission,
        ErrorCode::QuotaExceeded => rate,
        ErrorCode::Internal
        | ErrorCode::Unsupported
        | ErrorCode::Overloaded
        | ErrorCode::Unavailable
        | ErrorCode::DeadlineExceeded
        | ErrorCode::NotCached => server,
        ErrorCode::InvalidArgument
        | ErrorCode::NotFound
        | ErrorCode::Conflict
        | ErrorCode::RequestTimeout
        | ErrorCode::TooLarge
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::ValidationFailed => invalid,
    }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn vectors_are_numbers_or_their_bits() {
        let vector = [0.1, f32::NAN, -0.0];
        let mut out = Vec::new();
        assert_eq!(write_vector(&vector, Encoding::Float, &mut out), 1);
        assert_eq!(out, b"[0.1,null,-0.0]");
        out.clear();
        assert_eq!(write_vector(&vector, Encoding::Base64, &mut out), 0);
        // base64.b64encode(numpy.array([0.1, numpy.nan, -0.0], "<f4").tobytes())
        assert_eq!(out, b"\"zczMPQAAwH8AAACA\"");
        out.clear();
        write_vector(&[1.0], Encoding::Float, &mut out);
        assert_eq!(out, b"[1.0]", "a vector of one number is a list");
    }

    #[test]
    fn every_code_has_a_type_and_says_when_to_try_again() {
        for code in ErrorCode::ALL {
            let response = refusal(&Error::new(code, "why").into());
            assert_eq!(response.status().as_u16(), code.http_status());
            assert_eq!(response.headers().contains_key(RETRY_AFTER), matches!(code.http_status(), 429 | 503));
            assert_eq!(code.http_status() >= 500, kind(code) == "server_error", "{code:?}");
        }
    }
}
