//! `[batching]` written into `model.toml`, everything else left as it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};
use weir_artifact::{BatchingTable, Candidate, MANIFEST_FILE, Manifest};

use crate::settings::lines;

/// A `model.toml` as it would be.
pub(super) struct Edit {
    path: PathBuf,
    /// What is there now, if anything.
    before: Option<String>,
    after: String,
}

/// Whether a setting for `candidate`, found at `path`, has a place to be written to.
///
/// # Errors
/// Why not, and what to do. A folder of another layout is not read beside a `model.toml`, and what
/// `weir init` drafts from it names fields, which callers see: that is for the operator to look over.
pub(super) fn has_place(candidate: &Candidate, path: &Path) -> anyhow::Result<()> {
    ensure!(
        path.is_dir(),
        "a model file by itself is served without a model.toml: name its folder, or give --dry-run"
    );
    if let (None, Some(foreign)) = (&candidate.manifest, &candidate.foreign) {
        let folder = foreign.file.parent().unwrap_or(Path::new(".")).display();
        bail!(
            "{} has no place for what is written, and a model.toml is read instead of it: make one with weir init \
             {folder}, look it over, and tune again; or give --dry-run",
            foreign.file.display()
        );
    }
    Ok(())
}

impl Edit {
    /// Puts `batching` into the file that describes `candidate`; where there is none, into a new one
    /// beside the artefact, which says nothing else.
    ///
    /// # Errors
    /// Where the file cannot be read, or is not right by itself.
    pub(super) fn new(candidate: &Candidate, batching: &BatchingTable) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| path.display().to_string());
        let before = candidate.manifest.as_ref().map(read).transpose()?;
        let beside = || candidate.artifact.with_file_name(MANIFEST_FILE);
        let path = candidate.manifest.clone().unwrap_or_else(beside);
        let after = edited(&path, before.as_deref().unwrap_or_default(), batching)?;
        Ok(Self { path, before, after })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file, as a whole or not at all. If `works` says afterwards that the model does not
    /// load as it should, what was there is put back.
    ///
    /// # Errors
    /// Where it cannot be written, or was changed meanwhile, and what `works` says.
    pub(super) fn write(&self, works: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let path = &self.path;
        let now = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if now != self.before {
            bail!("{} was changed meanwhile: nothing is written", path.display());
        }
        replace(path, &self.after).with_context(|| format!("{} cannot be written", path.display()))?;
        works().or_else(|error| {
            let undone = match &self.before {
                Some(text) => replace(path, text),
                None => fs::remove_file(path),
            };
            undone.with_context(|| format!("{} could not be put back", path.display()))?;
            Err(error.context(format!("{} is left as it was, for with the change", path.display())))
        })
    }
}

/// Beside the file first, then in its place: who reads it sees the old text or the new.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension(format!("toml.{}", std::process::id()));
    let written = fs::write(&beside, text)
        .and_then(|()| match fs::metadata(path) {
            Ok(old) => fs::set_permissions(&beside, old.permissions()),
            Err(_) => Ok(()),
        })
        // A link stays one.
        .and_then(|()| fs::rename(&beside, fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// `text` with `batching` in it. What it says already is not touched.
fn edited(path: &Path, text: &str, batching: &BatchingTable) -> anyhow::Result<String> {
    let parse = |text: &str| -> anyhow::Result<Manifest> {
        weir_config::parse(path, text).map_err(|problems| anyhow!(lines(&problems)))
    };
    let now = parse(text)?.batching;
    let mut document: DocumentMut = text.parse().with_context(|| path.display().to_string())?;
    let table = document.entry("batching").or_insert_with(|| Item::Table(Table::new()));
    let table = table.as_table_like_mut().context("`batching` is no table")?;
    set(table, "max_rows", &now.max_rows, &batching.max_rows);
    set(table, "instances", &now.instances, &batching.instances);
    set(table, "threads", &now.threads, &batching.threads);
    if now.max_tokens != batching.max_tokens {
        put(table, "max_tokens", whole(batching.max_tokens));
    }
    if now.buckets != batching.buckets {
        let widths: toml_edit::Array = batching.buckets.iter().map(|n| whole(*n)).collect();
        put(table, "buckets", Value::Array(widths));
    }
    let after = document.to_string();
    // What is written is what was meant, whatever form the table had.
    let read = parse(&after)?.batching;
    if read != *batching {
        bail!("{}: `batching` cannot be edited here: set it by hand", path.display());
    }
    Ok(after)
}

fn set(table: &mut dyn TableLike, key: &str, now: &Option<usize>, wanted: &Option<usize>) {
    match wanted {
        _ if now == wanted => {}
        Some(n) => put(table, key, whole(*n)),
        None => {
            table.remove(key);
        }
    }
}

/// Sets a value; comments above and behind the old one stay.
fn put(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(key, value(new));
        }
    }
}

fn whole(n: usize) -> Value {
    Value::from(i64::try_from(n).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: &str, change: impl FnOnce(&mut BatchingTable)) -> anyhow::Result<String> {
        let manifest: Manifest = weir_config::parse(Path::new("model.toml"), text).unwrap();
        let mut batching = manifest.batching;
        change(&mut batching);
        edited(Path::new("model.toml"), text, &batching)
    }

    #[test]
    fn comments_order_and_spacing_stay() {
        let text = "# Our model.\nname   = \"m\"  # its name\n\n[batching]\n# as measured\nmax_rows = 8    # for the \
                    old machine\nmax_delay = \"1ms\"\nthreads = 2\n\n[server]\n";
        let text = text.replace("\n[server]\n", "\n# The end.\n");
        let after = edit(&text, |b| {
            (b.max_rows, b.instances, b.threads) = (Some(64), Some(1), None);
        });
        let golden = "# Our model.\nname   = \"m\"  # its name\n\n[batching]\n# as measured\nmax_rows = 64    # for the \
                      old machine\nmax_delay = \"1ms\"\ninstances = 1\n\n# The end.\n";
        assert_eq!(after.unwrap(), golden);
    }

    #[test]
    fn a_table_is_added_where_there_is_none() {
        let after = edit("name = \"m\" # kept\n", |b| b.buckets = vec![64, 512]).unwrap();
        assert_eq!(after, "name = \"m\" # kept\n\n[batching]\nbuckets = [64, 512]\n");
        assert_eq!(edit("", |b| b.max_tokens = 256).unwrap(), "[batching]\nmax_tokens = 256\n");
    }

    #[test]
    fn other_forms_of_the_table_are_edited_in_place() {
        let inline = edit("batching = { max_rows = 4, merge = true }\n", |b| b.max_rows = Some(16)).unwrap();
        assert_eq!(inline, "batching = { max_rows = 16, merge = true }\n");
        let dotted = edit("batching.max_rows = 4 # few\n", |b| b.max_rows = Some(16)).unwrap();
        assert_eq!(dotted, "batching.max_rows = 16 # few\n");
    }

    #[test]
    fn what_does_not_change_is_not_written() {
        let text = "batching = { max_rows = 4 }\n";
        assert_eq!(edit(text, |_| {}).unwrap(), text);
    }

    #[test]
    fn a_file_that_is_not_right_is_not_edited() {
        for broken in ["name = ", "nmae = \"m\"\n"] {
            let told = edited(Path::new("model.toml"), broken, &BatchingTable::default());
            assert!(told.unwrap_err().to_string().contains("model.toml"), "{broken}");
        }
    }

    /// Writes a setting for the model at `path`, which has no `model.toml`: where it came to lie, and
    /// what the model was before and is after.
    fn made(path: &Path) -> (PathBuf, [weir_artifact::ModelSpec; 2]) {
        let find = || weir_artifact::discover(path).found.pop().unwrap();
        let spec = || weir_artifact::load(&find()).unwrap_or_else(|problems| panic!("{problems:?}")).spec;
        let before = spec();
        let wanted = BatchingTable { max_rows: Some(48), max_tokens: 256, ..before.batching.clone() };
        let edit = Edit::new(&find(), &wanted).unwrap();
        edit.write(|| Ok(())).unwrap();
        let after = spec();
        assert_eq!(after.batching, wanted);
        (edit.path().strip_prefix(path).unwrap().to_owned(), [before, after])
    }

    #[test]
    fn a_folder_without_a_file_gets_one_that_changes_nothing_else() {
        let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/housing/model.onnx");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (model, place) in [("plain", "model.toml"), ("versions/3", "3/model.toml"), ("triton/1", "")] {
            fs::create_dir_all(at(model)).unwrap();
            fs::copy(&onnx, at(model).join("model.onnx")).unwrap();
            let model = at(model.split('/').next().unwrap());
            if place.is_empty() {
                fs::write(model.join("config.pbtxt"), "platform: \"onnxruntime_onnx\"\nmax_batch_size: 16\n")
                    .unwrap();
                let told =
                    has_place(&weir_artifact::discover(&model).found[0], &model).unwrap_err().to_string();
                assert!(told.contains("weir init") && told.contains("config.pbtxt"), "{told}");
                continue;
            }
            let (path, [before, after]) = made(&model);
            assert_eq!(path, Path::new(place));
            assert_eq!((before.schema, before.signature), (after.schema, after.signature));
            assert_eq!((before.name, before.answers), (after.name, after.answers));
        }
    }

    #[test]
    fn a_change_that_does_not_work_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.toml");
        let written = |before: Option<&str>, works: bool| {
            let before = before.map(str::to_owned);
            let edit = Edit { path: path.clone(), before, after: "after".into() };
            edit.write(|| if works { Ok(()) } else { bail!("it does not load") })
        };
        assert!(format!("{:#}", written(None, false).unwrap_err()).contains("does not load"));
        assert!(!path.exists());
        written(None, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        // Somebody else was here since it was read.
        assert!(written(Some("other"), true).unwrap_err().to_string().contains("meanwhile"));
        fs::write(&path, "before").unwrap();
        assert!(written(Some("before"), false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }
}
