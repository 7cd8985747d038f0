//! The gate in front of the ONNX Runtime library, and the call that threads share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use weir_engine::{
    Context,
    onnx::{OrtLibrary, OrtLocation},
};
use weir_types::{Batch, Tensor, TensorData};

use crate::support::{Fixture, answer, library, location, ort, repository};

fn refused(explicit: PathBuf) -> String {
    // Whether or not a library is loaded already, a file that is none is refused.
    let location = OrtLocation { explicit: Some(explicit), candidates: location().candidates };
    OrtLibrary::find(&location).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_named_file_that_is_no_library_is_an_error_and_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("libonnxruntime.so");
    fs::write(&garbage, b"\x7fELF garbage").unwrap();
    for (path, words) in [
        (folder.path().join("absent.so"), "No such file"),
        (folder.path().to_owned(), "is not a file"),
        (garbage, "is not a library that can be loaded"),
    ] {
        let error = refused(path.clone());
        assert!(error.contains(words) && error.contains(path.to_str().unwrap()), "{error}");
    }
}

/// Compiles a library whose `OrtGetApiBase` is `body`.
fn fake(folder: &Path, name: &str, body: &str) -> PathBuf {
    let source = folder.join(format!("{name}.rs"));
    let library = folder.join(format!("lib{name}.so"));
    let text = format!(
        "#[repr(C)] pub struct Base {{ get: extern \"system\" fn(u32) -> *const u8, version: extern \"system\" fn() -> *const u8 }}
         extern \"system\" fn none(_: u32) -> *const u8 {{ std::ptr::null() }}
         extern \"system\" fn some(_: u32) -> *const u8 {{ 8 as *const u8 }}
         {body}"
    );
    fs::write(&source, text).unwrap();
    let mut rustc = Command::new("rustc");
    let rustc = rustc.current_dir(repository()).args(["--crate-type", "cdylib", "--edition", "2021", "-o"]);
    let output = rustc.arg(&library).arg(&source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

#[test]
fn a_library_that_is_too_old_or_something_else_is_told_from_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let base = |get: &str, version: &str| {
        format!(
            "extern \"system\" fn version() -> *const u8 {{ {version} }}
             static BASE: Base = Base {{ get: {get}, version }};
             #[no_mangle] pub extern \"system\" fn OrtGetApiBase() -> *const Base {{ &BASE }}"
        )
    };
    for (name, body, words) in [
        (
            "other",
            "#[no_mangle] pub extern \"C\" fn cos_of_nothing() {}".to_owned(),
            "it has no `OrtGetApiBase`",
        ),
        (
            "nothing",
            "#[no_mangle] pub extern \"system\" fn OrtGetApiBase() -> *const Base { std::ptr::null() }"
                .to_owned(),
            "`OrtGetApiBase` gives nothing",
        ),
        ("mute", base("some", "std::ptr::null()"), "does not say its version"),
        ("old", base("some", "b\"1.23.2\\0\".as_ptr()"), "is ONNX Runtime 1.23.2; 1.24 or newer is needed"),
        ("major", base("some", "b\"2.40.0\\0\".as_ptr()"), "is ONNX Runtime 2.40.0"),
        ("odd", base("some", "b\"x.y\\0\".as_ptr()"), "is ONNX Runtime x.y"),
        ("liar", base("none", "b\"1.40.0\\0\".as_ptr()"), "is ONNX Runtime 1.40.0"),
    ] {
        let error = refused(fake(folder.path(), name, &body));
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn one_library_serves_the_process() {
    let loaded = library();
    assert!(loaded.version().starts_with("1."), "{}", loaded.version());
    let again = OrtLocation { explicit: Some(loaded.path().to_owned()), candidates: Vec::new() };
    assert_eq!(OrtLibrary::find(&again).unwrap().path(), loaded.path());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libonnxruntime.so.1.99.0");
    fs::copy(loaded.path(), &copy).unwrap();
    let error = refused(copy);
    assert!(error.contains("is loaded already"), "{error}");
}

/// What the safety argument of the shared call rests on: many threads in one session, each
/// with its own inputs and shapes, and nobody gets another's answer.
#[test]
fn eight_threads_in_one_session_never_mix_their_answers() {
    const THREADS: usize = 8;
    const CALLS: usize = 5_000;
    let (mlp, strings) = (Fixture::load("mlp"), Fixture::load("identity_string"));
    let (mlp_model, strings_model) = (mlp.model(), strings.model());
    let (numbers, texts) =
        (ort(&mlp.bytes, &mlp_model).unwrap(), ort(&strings.bytes, &strings_model).unwrap());
    let batch = |seed: usize| {
        let rows = 1 + seed % 5;
        let data = (0..rows * 4).map(|i| ((seed * 31 + i * 17) % 101) as f32 / 50.0 - 1.0).collect();
        Batch { rows, inputs: vec![Tensor::new(vec![rows, 4], TensorData::Float32(data)).unwrap()] }
    };
    const KINDS: usize = 40;
    let expected: Vec<_> = (0..KINDS).map(|seed| answer(&*numbers, batch(seed)).unwrap()).collect();
    let mismatches = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (numbers, texts, expected, mismatches, batch) =
                (&numbers, &texts, &expected, &mismatches, &batch);
            scope.spawn(move || {
                for call in 0..CALLS {
                    let seed = (call * 7 + thread * 11) % KINDS;
                    let prepared = numbers.prepare(batch(seed)).unwrap();
                    let got = numbers.execute(&[&prepared], &mut Context::default()).unwrap();
                    let text = TensorData::String(vec![format!("{thread}/{call}")]);
                    let text = Tensor::new(vec![1, 1], text).unwrap();
                    let echo = answer(&**texts, Batch { rows: 1, inputs: vec![text.clone()] }).unwrap();
                    if got != expected[seed] || echo.tensors != [text] {
                        mismatches.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(mismatches.into_inner(), 0);
}

#[test]
fn the_versions_that_engines_tell_are_those_of_the_lock_file() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let model = Fixture::load("mlp");
    let rten = crate::support::rten(&model.bytes, &model.model()).unwrap();
    let entry = format!("name = \"rten\"\nversion = \"{}\"\n", rten.info().version);
    assert!(lock.contains(&entry), "update VERSION in src/onnx/rten.rs: {entry}");
    assert_eq!(ort(&model.bytes, &model.model()).unwrap().info().version, library().version());
}
