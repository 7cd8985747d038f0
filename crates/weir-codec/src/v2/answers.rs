//! What holds for whatever another server answers: the fuzz target's check, and the corpus's.

use prost::bytes::Bytes;
use weir_types::{DType, Dim, Outputs, Signature, TensorSpec};

use super::{read_message, read_response};

/// Longest reason: it stands in a log and repeats bounded parts of what was answered.
const MAX_REASON_BYTES: usize = 2_000;

/// The request's.
const ID: &str = "7";

/// Checks that an answer is refused with a reason of bounded length, or is what was asked for: every
/// output of its type and shape, for these rows and no others, of no more elements than bytes. The first
/// byte of `file` is the form (0 JSON, 1 JSON with blobs, 2 gRPC), the second how many rows were
/// asked for; with blobs the next two are the length of the JSON.
///
/// # Errors
/// What does not hold.
pub fn check(file: &[u8]) -> Result<(), String> {
    let Some(([form, rows], body)) = file.split_first_chunk() else { return Ok(()) };
    let (signature, rows) = (signature(), usize::from(*rows % 9));
    let read = |rows: usize| read(&signature, rows, *form, body);
    let outputs = match read(rows) {
        Err(reason) if (1..MAX_REASON_BYTES).contains(&reason.len()) => return Ok(()),
        Err(reason) => return Err(format!("a reason of {} bytes", reason.len())),
        Ok(outputs) => outputs,
    };
    fits(&signature, rows, &outputs, body.len())?;
    match read(rows + 1) {
        Err(_) => Ok(()),
        Ok(_) => Err("an answer to a request of another size was believed".into()),
    }
}

fn signature() -> Signature {
    let spec = |name: &str, dtype, row: &[Dim]| TensorSpec {
        name: name.into(),
        dtype,
        shape: [&[Dim::Any(None)], row].concat(),
    };
    let outputs = vec![
        spec("a", DType::Float32, &[Dim::Fixed(2)]),
        spec("t", DType::String, &[]),
        spec("n", DType::Int64, &[Dim::Any(None)]),
    ];
    Signature { inputs: Vec::new(), outputs }
}

fn read(signature: &Signature, rows: usize, form: u8, body: &[u8]) -> Result<Outputs, String> {
    match form % 3 {
        0 => read_response(signature, rows, ID, None, body),
        1 => match body.split_first_chunk() {
            Some((length, body)) => {
                read_response(signature, rows, ID, Some(u16::from_le_bytes(*length).into()), body)
            }
            None => Err("too short".into()),
        },
        _ => read_message(signature, rows, ID, Bytes::copy_from_slice(body)),
    }
}

fn fits(signature: &Signature, rows: usize, outputs: &Outputs, body_bytes: usize) -> Result<(), String> {
    let tensors = signature.outputs.iter().zip(&outputs.tensors);
    let wrong = tensors.filter(|(spec, tensor)| {
        let dims = spec.shape.iter().zip(tensor.shape()).skip(1);
        tensor.data().dtype() != spec.dtype
            || tensor.rows() != rows
            || tensor.shape().len() != spec.shape.len()
            || !dims.into_iter().all(|(dim, n)| dim.fixed().is_none_or(|fixed| fixed == *n))
    });
    let elements: usize = outputs.tensors.iter().map(|tensor| tensor.data().len()).sum();
    match wrong.count() {
        0 if outputs.rows != rows || outputs.tensors.len() != signature.outputs.len() => {
            Err("another number of rows or outputs".into())
        }
        0 if elements > body_bytes => Err(format!("{elements} elements from {body_bytes} bytes")),
        0 => Ok(()),
        wrong => Err(format!("{wrong} outputs of another type or shape")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{prelude::*, sample::Index};

    use super::*;

    fn corpus() -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote_answers");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        files.map(|f| (f.file_name().into_string().unwrap(), fs::read(f.path()).unwrap())).collect()
    }

    proptest! {
        #[test]
        fn damaged_answers_hold(file: Index, edits in prop::collection::vec((any::<Index>(), any::<u8>(), 0..3), 1..5)) {
            let files = corpus();
            let (_, mut bytes) = file.get(&files).clone();
            for (at, byte, kind) in edits {
                // Form and number of rows stay.
                let at = 2 + at.index(bytes.len() - 2);
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ if bytes.len() > 3 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            prop_assert_eq!(check(&bytes), Ok(()));
        }
    }

    #[test]
    fn the_corpus_holds() {
        let files = corpus();
        assert!(files.len() >= 12, "{} files", files.len());
        for (name, bytes) in files {
            check(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            let read = read(&signature(), (bytes[1] % 9).into(), bytes[0], &bytes[2..]);
            assert_eq!(read.is_ok(), name.starts_with("ok-"), "{name}: {read:?}");
            // No part of an answer is one, and none panics.
            for cut in 2..bytes.len() {
                check(&bytes[..cut]).unwrap_or_else(|e| panic!("{name} to {cut}: {e}"));
            }
        }
    }

    #[test]
    fn a_check_that_fails_says_so() {
        let none = Outputs { rows: 1, tensors: Vec::new() };
        assert!(fits(&signature(), 1, &none, 100).is_err());
    }
}
