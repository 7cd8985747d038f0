//! An archive of a model, of any bytes: refused, or unpacked into its folder and nowhere else, where
//! every file is what the listing says. Run it with `TMPDIR=/dev/shm`: files are written through.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use weir_artifact::archive::{ArchiveLimits, unpack, verify};

const LIMITS: ArchiveLimits = ArchiveLimits { entries: 100, bytes: 1 << 20, ratio: 200 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(place) = tempfile::TempDir::new() else { return };
    let folder = place.path().join("model");
    fs::create_dir(&folder).expect("a folder in a new folder");
    if unpack(bytes, &folder, &LIMITS).is_ok() {
        verify(&folder).expect("what was unpacked is what the listing says");
    }
    let beside = fs::read_dir(place.path()).expect("it is there").count();
    assert_eq!(beside, 1, "something was written outside of the folder");
});
