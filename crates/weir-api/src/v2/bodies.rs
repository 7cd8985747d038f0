//! What holds for a request body of any kind: the fuzz targets' check, and the corpus's.

use serde::de::IgnoredAny;
use weir_types::{Error, ErrorCode};

use super::{
    core::{InferRequest, InferResponse, NamedTensor, OutputTensor},
    json::{Most, is_json, read, write_response},
};

const MOST: Most = Most { inputs: 8, outputs: 8 };

/// Longest error that a body may cause: it repeats bounded parts of what was sent.
const MAX_MESSAGE_BYTES: usize = 1000;

/// Checks that a body with `json_bytes` of JSON before its blobs is refused with a reason of
/// bounded length, or read into tensors that its size justifies and that survive being
/// written and read again.
///
/// # Errors
/// What does not hold.
pub fn check(body: &[u8], json_bytes: usize) -> Result<(), String> {
    let (json, blobs) = body.split_at(json_bytes.min(body.len()));
    check_grammar(json)?;
    match read(json, blobs, MOST) {
        Err(error) => check_error(&error),
        Ok(request) => check_request(request, body.len()),
    }
}

/// What we take for JSON is JSON, but for the words that it does not have.
fn check_grammar(json: &[u8]) -> Result<(), String> {
    let ours = is_json(json);
    let text = String::from_utf8_lossy(json);
    let special = text.contains("NaN") || text.contains("Infinity") || text.starts_with('\u{feff}');
    let theirs = serde_json::from_slice::<IgnoredAny>(json).is_ok();
    if ours && !special && !theirs { Err("taken for JSON by us alone".into()) } else { Ok(()) }
}

fn check_error(error: &Error) -> Result<(), String> {
    let length = error.message.len();
    let sound = error.code == ErrorCode::InvalidArgument && (1..MAX_MESSAGE_BYTES).contains(&length);
    if sound { Ok(()) } else { Err(format!("{:?} with {length} bytes of text", error.code)) }
}

fn check_request(request: InferRequest, body_bytes: usize) -> Result<(), String> {
    let elements: usize = request.inputs.iter().map(|i| i.tensor.data().len()).sum();
    if elements > body_bytes {
        return Err(format!("{elements} elements from {body_bytes} bytes"));
    }
    let output = |NamedTensor { name, tensor }| OutputTensor { name, tensor };
    let outputs: Vec<OutputTensor> = request.inputs.into_iter().map(output).collect();
    let response = InferResponse {
        model: "m".into(),
        version: "1".into(),
        id: request.id,
        outputs,
        cache: None,
        feature_asof: None,
    };
    // BF16 has no JSON; all else has, and it must be JSON.
    if let Ok(encoded) = write_response(&response, &[]) {
        serde_json::from_slice::<serde_json::Value>(&encoded.body).map_err(|e| format!("written: {e}"))?;
    }
    survives(&response)
}

/// The outputs of an answer have the form of a request's inputs: read as such, they are the
/// same bytes again.
fn survives(response: &InferResponse) -> Result<(), String> {
    let write = |response: &InferResponse| {
        write_response(response, &vec![true; response.outputs.len()]).map_err(|e| e.to_string())
    };
    let first = write(response)?;
    let (json, blobs) = first.body.split_at(first.json.unwrap_or(first.body.len()));
    let json = std::str::from_utf8(json).map_err(|e| e.to_string())?;
    let begin = json.find("\"outputs\":[").ok_or("an answer without outputs")?;
    let again = format!("{{\"inputs\":{}", &json[begin + "\"outputs\":".len()..]);
    let request = read(again.as_bytes(), blobs, MOST).map_err(|e| format!("read again: {e}"))?;
    let output = |NamedTensor { name, tensor }| OutputTensor { name, tensor };
    let outputs = request.inputs.into_iter().map(output).collect();
    let second = write(&InferResponse { outputs, ..response.clone() })?;
    // Compared as bytes: NaN is the same NaN there.
    if first.body == second.body { Ok(()) } else { Err("another tensor when read again".into()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The bodies of a folder of the corpus, by file name.
    fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
        let files = fs::read_dir(folder).unwrap().map(|f| f.unwrap());
        let mut files: Vec<_> =
            files.map(|f| (f.file_name().into_string().unwrap(), fs::read(f.path()).unwrap())).collect();
        files.sort();
        assert!(files.len() >= 10, "the corpus is not there");
        files
    }

    /// As the fuzz target reads it: the first two bytes are the length of the JSON.
    fn check_binary(file: &[u8]) -> Result<(), String> {
        let Some((length, body)) = file.split_first_chunk() else { return Ok(()) };
        check(body, u16::from_le_bytes(*length).into())
    }

    #[test]
    fn the_corpus_holds() {
        for (name, body) in corpus("v2_json") {
            check(&body, body.len()).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        for (name, file) in corpus("v2_binary") {
            check_binary(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    /// xorshift64*: the same bodies in every run, so that a failure comes back.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
        }

        /// A few small damages: bytes replaced, left out, put in, or a piece said twice.
        pub(crate) fn damaged(&mut self, body: &[u8]) -> Vec<u8> {
            const TELLING: &[u8] = b"{}[]\",:-0189.eEtfnNI\\u \x00\x7f\xff";
            let mut out = body.to_vec();
            for _ in 0..=self.below(4) {
                let at = self.below(out.len());
                match self.below(4) {
                    _ if out.is_empty() => out.push(b'{'),
                    0 => out[at] = TELLING[self.below(TELLING.len())],
                    1 => drop(out.remove(at)),
                    2 => out.insert(at, TELLING[self.below(TELLING.len())]),
                    _ => {
                        let piece = out[at..(at + self.below(40)).min(out.len())].to_vec();
                        out.splice(at..at, piece);
                    }
                }
            }
            out
        }
    }

    #[test]
    fn damaged_bodies_hold() {
        let mut random = Random(20_260_711);
        let (json, binary) = (corpus("v2_json"), corpus("v2_binary"));
        for round in 0..200 {
            for (name, body) in &json {
                let body = random.damaged(body);
                check(&body, body.len()).unwrap_or_else(|e| panic!("{name}, round {round}: {e}: {body:?}"));
            }
            for (name, file) in &binary {
                let file = random.damaged(file);
                check_binary(&file).unwrap_or_else(|e| panic!("{name}, round {round}: {e}: {file:?}"));
            }
        }
    }

    #[test]
    fn a_check_that_fails_says_so() {
        let error = Error::invalid("x".repeat(MAX_MESSAGE_BYTES));
        assert!(check_error(&error).is_err() && check_error(&Error::internal("x")).is_err());
        assert!(check_request(InferRequest::default(), 0).is_ok());
    }
}
