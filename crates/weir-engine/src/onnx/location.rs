//! Where the ONNX Runtime library is, and whether a file is one that can be used.
//!
//! `ort` panics when its API is touched without a usable library, so nothing reaches it
//! before a file passed [`probe`].

use std::{
    ffi::CStr,
    fs,
    path::{Path, PathBuf},
};

use ort::sys::{ORT_API_VERSION, OrtApiBase};

/// The oldest ONNX Runtime that is accepted, `(major, minor)`: the first whose C API is the
/// one that the bindings are built for.
pub const MIN_VERSION: (u32, u32) = (1, ORT_API_VERSION);

/// Where to look for the library. The binary fills it from configuration and environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrtLocation {
    /// The file that the operator named: it is used, or loading fails and says why.
    pub explicit: Option<PathBuf>,
    /// Files to try in this order; one that cannot be used is passed over. See [`candidates`].
    pub candidates: Vec<PathBuf>,
}

/// Folders in which a library may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibraryHints {
    /// Folders that hold the library itself, such as the demo's cache.
    pub folders: Vec<PathBuf>,
    /// `site-packages` folders of Pythons; the wheel keeps its library in `onnxruntime/capi`.
    pub site_packages: Vec<PathBuf>,
}

/// The libraries in the hinted folders: `folders` first, newest version first in each. Only
/// names are looked at.
pub fn candidates(hints: &LibraryHints) -> Vec<PathBuf> {
    let wheels = hints.site_packages.iter().map(|p| p.join("onnxruntime").join("capi"));
    hints.folders.iter().cloned().chain(wheels).flat_map(|folder| libraries(&folder)).collect()
}

fn libraries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((library_version(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The version in a library's file name, empty if it has none; `None` for other files.
/// `libonnxruntime_providers_shared.so` and the like are other files.
fn library_version(name: &str) -> Option<Vec<u32>> {
    let version = if let Some(rest) = name.strip_prefix("libonnxruntime.so") {
        rest
    } else if let Some(rest) = name.strip_prefix("libonnxruntime.") {
        rest.strip_suffix("dylib")?
    } else {
        return (name == "onnxruntime.dll").then(Vec::new);
    };
    version.split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

/// A library that passed the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    /// Absolute, without symbolic links: two names of one file compare equal.
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Opens `path` and asks what it is. A library that passes stays open.
///
/// # Errors
/// One sentence: there is no such file, it is no library, it is not ONNX Runtime, or it is
/// too old.
pub(super) fn probe(path: &Path) -> Result<Library, String> {
    let shown = path.display();
    // An absolute path: a bare file name would be searched for in the system's folders.
    let path = fs::canonicalize(path).map_err(|e| format!("{shown}: {e}"))?;
    // Opening a pipe would wait for a writer.
    if !path.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let library = open(&path).map_err(|e| format!("{shown} is not a library that can be loaded: {e}"))?;
    let version = version(&library).map_err(|why| format!("{shown} {why}"))?;
    // Closing and opening it again would run its initialisers twice.
    std::mem::forget(library);
    Ok(Library { path, version })
}

#[allow(unsafe_code)] // a library cannot be opened otherwise
fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: opening a library runs its initialisers. The operator named this file, or it
    // lies where ONNX Runtime is installed, under its name; running it is what was asked for.
    unsafe { libloading::Library::new(path) }
}

/// Asks the library for its version and its C API.
#[allow(unsafe_code)] // calls of a C API
fn version(library: &libloading::Library) -> Result<String, String> {
    const NOT_IT: &str = "is a library, but not ONNX Runtime";
    type GetApiBase = unsafe extern "system" fn() -> *const OrtApiBase;
    // SAFETY: the symbol has this signature in every ONNX Runtime since 1.0; nobody else
    // exports the name.
    let base = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") };
    // SAFETY: as above; the function takes nothing and gives a pointer to a static or null.
    let base =
        base.map(|get| unsafe { get() }).map_err(|_| format!("{NOT_IT}: it has no `OrtGetApiBase`"))?;
    // SAFETY: null or a pointer to a static `OrtApiBase`, whose layout never changed.
    let base = unsafe { base.as_ref() }.ok_or_else(|| format!("{NOT_IT}: `OrtGetApiBase` gives nothing"))?;
    // SAFETY: takes nothing, gives a static NUL-terminated string or null.
    let text = unsafe { (base.GetVersionString)() };
    if text.is_null() {
        return Err(format!("{NOT_IT}: it does not say its version"));
    }
    // SAFETY: not null, NUL-terminated, static.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    let (major, minor) = MIN_VERSION;
    // SAFETY: takes a number, gives null for a version that the library does not have.
    let speaks = parse_version(&text).is_some_and(|v| v.0 == major && v.1 >= minor)
        && !unsafe { (base.GetApi)(ORT_API_VERSION) }.is_null();
    if speaks { Ok(text) } else { Err(format!("is ONNX Runtime {text}; {major}.{minor} or newer is needed")) }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_each_folder_comes_first_and_nothing_else_comes() {
        let root = tempfile::tempdir().unwrap();
        let capi = root.path().join("site-packages/onnxruntime/capi");
        let cache = root.path().join("cache");
        for folder in [&capi, &cache] {
            fs::create_dir_all(folder).unwrap();
        }
        let names = [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.so.bak",
            "onnxruntime_pybind11_state.so",
        ];
        for name in names {
            fs::write(capi.join(name), "").unwrap();
        }
        fs::write(cache.join("libonnxruntime.1.24.0.dylib"), "").unwrap();
        let hints = LibraryHints {
            folders: vec![cache.clone(), root.path().join("absent")],
            site_packages: vec![root.path().join("site-packages")],
        };
        let expected = [
            cache.join("libonnxruntime.1.24.0.dylib"),
            capi.join("libonnxruntime.so.1.32.0"),
            capi.join("libonnxruntime.so.1.9.0"),
        ];
        assert_eq!(candidates(&hints), expected);
    }

    #[test]
    fn what_is_no_library_is_refused_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let garbage = root.path().join("libonnxruntime.so");
        fs::write(&garbage, "garbage").unwrap();
        for (path, words) in [
            (root.path().join("none.so"), "No such file"),
            (root.path().to_owned(), "is not a file"),
            (garbage, "is not a library that can be loaded"),
        ] {
            let error = probe(&path).unwrap_err();
            assert!(error.contains(words) && error.contains(&*path.to_string_lossy()), "{error}");
        }
    }
}
