//! Bodies that once mattered, replayed: the seeds of the fuzz target.

use crate::{agree, schemas};

#[test]
fn every_seed_is_answered_alike_by_both_paths() {
    let folder = schemas::root().join("crates/weir-codec/tests/corpus");
    let mut seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 20, "the corpus has {} files", seeds.len());
    for seed in seeds {
        let body = std::fs::read(&seed).unwrap();
        for (_, decoder) in schemas::decoders() {
            agree::agree(&decoder, &body);
            if let Err(rejection) = decoder.decode(&body) {
                let mut out = Vec::new();
                rejection.write_body(&mut out);
                serde_json::from_slice::<serde_json::Value>(&out).unwrap();
            }
        }
    }
}
