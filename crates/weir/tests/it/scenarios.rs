//! `tests/scenarios/*.yaml`, a test a file.

use std::{collections::BTreeSet, fs};

use crate::scenario::{folder, replay};

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! { bodies cache cache_default cli config embeddings entities http ids models operations partial query reload routes state timeouts v2 validation }

#[test]
fn every_file_is_replayed() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let names: BTreeSet<_> =
        yaml.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ALL.iter().map(|name| (*name).to_owned()).collect());
}
