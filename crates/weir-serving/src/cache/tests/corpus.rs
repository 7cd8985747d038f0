//! Values of Redis that once mattered, replayed: the seeds of the fuzz target `cache_value`.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use weir_types::{Outputs, Tensor, TensorData};

use crate::cache::record::{Dates, Stored, bare_answer, stored_answer, write_answer};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cache_value")
}

/// Answers of every kind, by name.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let all = [
        TensorData::Bool(vec![true, false]),
        TensorData::Int8(vec![-1, 1]),
        TensorData::Int64(vec![i64::MIN, 1]),
        TensorData::Float16(vec![0x3c00, 0x7e00]),
        TensorData::Float32(vec![0.5, f32::NAN]),
        TensorData::Float64(vec![0.5, f64::INFINITY]),
        TensorData::String(vec!["a".into(), "ä".into()]),
    ];
    let tensors = all.into_iter().map(|data| Tensor::new(vec![2, 1], data).unwrap()).collect();
    let every = Outputs { rows: 2, tensors };
    let none = Outputs { rows: 0, tensors: vec![] };
    let written = |outputs: &Outputs, row, tokens| {
        let mut bytes = Vec::new();
        write_answer(&mut bytes, outputs, row, tokens, 1_000);
        bytes
    };
    let row = written(&every, Some(1), Some(&[9][..]));
    let dates = Dates { computed_ms: 1_700_000_000_000, fresh_ms: 3_600_000, stale_ms: 0 };
    let stored = Stored { dates, identity: b"a row", answer: &row }.write();
    let empty_rows =
        Outputs { rows: 0, tensors: vec![Tensor::new(vec![0, 3], TensorData::Uint8(vec![])).unwrap()] };
    vec![
        ("whole", written(&every, None, Some(&[1, 70_000][..]))),
        ("row", row),
        ("stored", stored),
        ("none", written(&none, None, None)),
        ("no-rows", written(&empty_rows, None, None)),
        // 2^62 elements of a string each, in a few bytes.
        ("large", vec![1, 1, 13, 2, 255, 255, 255, 255, 255, 255, 255, 255, 63, 1, 0, 0]),
        ("endless-number", vec![255; 12]),
    ]
}

/// Writes the seeds. Files that a fuzzer found are added by hand.
#[test]
#[ignore = "writes the corpus"]
fn write_seeds() {
    fs::create_dir_all(folder()).unwrap();
    seeds().into_iter().for_each(|(name, bytes)| fs::write(folder().join(name), bytes).unwrap());
}

#[test]
fn the_corpus_is_read_or_refused() {
    let mut read = 0;
    for file in fs::read_dir(folder()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        for outputs in [stored_answer(&bytes), bare_answer(&bytes)].into_iter().flatten() {
            read += 1;
            for tensor in outputs.tensors {
                assert_eq!(tensor.shape().iter().product::<usize>(), tensor.data().len());
            }
        }
        // Every shorter one is another value, or none.
        (0..bytes.len()).for_each(|n| drop(bare_answer(&bytes[..n])));
    }
    assert!(read >= 5, "{read}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// What a fuzzer would try first: bytes of a seed changed, cut out and doubled.
    #[test]
    fn bytes_that_changed_are_an_answer_that_holds_together_or_none(
        seed in 0usize..7, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6)
    ) {
        let mut bytes = seeds().swap_remove(seed).1;
        for (at, byte, kind) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        for tensor in bare_answer(&bytes).into_iter().flat_map(|outputs| outputs.tensors) {
            prop_assert_eq!(tensor.shape().iter().product::<usize>(), tensor.data().len());
        }
    }
}
