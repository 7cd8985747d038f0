//! Unpacking an archive that may be anybody's.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    path::Path,
};

use flate2::bufread::GzDecoder;

use super::{
    ArchiveError, PACKAGE_FILE, PackageManifest, PackagedFile,
    entry::{self, BLOCK, Entry, What},
    manifest, sums,
};

/// What an archive may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Entries, folders included.
    pub entries: usize,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes that one byte of gzip may come to, beyond the first 16 MiB: weights hardly compress, and
    /// what comes to a thousand times its size was made to fill a disk.
    pub ratio: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 16 << 30, ratio: 200 }
    }
}

/// Bytes that may come out of gzip whatever went in.
const FREE_BYTES: u64 = 16 << 20;
/// Most bytes of words about one entry (`pax`).
const MAX_PAX_BYTES: u64 = 64 << 10;

/// Unpacks `input`, a tar or a tar in gzip, into the empty folder `into`, and leaves a
/// `weir-package.json` there that names every file. Files are written through to the disk.
///
/// # Errors
/// Everything that is no file or folder of a model, lies outside the folder or differs from what the
/// archive's own `weir-package.json` says, and everything beyond `limits`. What was unpacked until then
/// is left there: give it a folder that is thrown away.
pub fn unpack(
    input: impl Read,
    into: &Path,
    limits: &ArchiveLimits,
) -> Result<PackageManifest, ArchiveError> {
    let mut input = BufReader::with_capacity(1 << 18, Counted { inner: input, bytes: 0 });
    let start = io::BufRead::fill_buf(&mut input).map_err(ArchiveError::reading)?;
    let unpacking = Unpacking { into, limits, told: None, files: BTreeMap::new(), entries: 0, bytes: 0 };
    if !start.starts_with(&[0x1f, 0x8b]) {
        return unpacking.run(&mut input);
    }
    let mut inflated = Inflated { decoder: GzDecoder::new(input), bytes: 0, ratio: limits.ratio };
    let unpacked = unpacking.run(&mut inflated)?;
    let mut behind = inflated.decoder.into_inner();
    if behind.read(&mut [0]).map_err(ArchiveError::reading)? != 0 {
        return Err(ArchiveError::refused("something stands behind the archive's end"));
    }
    Ok(unpacked)
}

/// Counts what was read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// What comes out of gzip, as long as it is in proportion.
struct Inflated<R> {
    decoder: GzDecoder<BufReader<Counted<R>>>,
    bytes: u64,
    ratio: u64,
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.bytes += read as u64;
        // What waits in the buffer counts as taken: in the archive's favour, by 256 KiB.
        let taken = self.decoder.get_ref().get_ref().bytes;
        if self.bytes > FREE_BYTES.saturating_add(taken.saturating_mul(self.ratio)) {
            let text = format!(
                "the archive unpacks to more than {} times its size: pack it without compression \
                 (--format tar) if that is meant",
                self.ratio
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(read)
    }
}

struct Unpacking<'a> {
    into: &'a Path,
    limits: &'a ArchiveLimits,
    /// What the archive says of itself.
    told: Option<PackageManifest>,
    /// What was unpacked, by path.
    files: BTreeMap<String, PackagedFile>,
    entries: usize,
    /// Bytes that came out of the archive.
    bytes: u64,
}

impl Unpacking<'_> {
    fn run(mut self, tar: &mut impl Read) -> Result<PackageManifest, ArchiveError> {
        while let Some(entry) = next(tar)? {
            self.count(&entry)?;
            match entry.what {
                What::Pax => pax(tar, entry.bytes)?,
                What::Folder => self.folder(&entry.path)?,
                What::File if entry.path == PACKAGE_FILE => self.listing(tar, entry.bytes)?,
                What::File => self.file(tar, &entry)?,
            }
            skip(tar, entry::padding(entry.bytes))?;
        }
        rest(tar)?;
        self.finish()
    }

    /// Contents count as they are announced: what is too large is refused before it is written.
    fn count(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let ArchiveLimits { entries, bytes, .. } = *self.limits;
        self.entries += 1;
        if self.entries > entries {
            return Err(ArchiveError::Refused(format!("the archive has more than {entries} entries")));
        }
        self.bytes = self.bytes.saturating_add(entry.bytes);
        if self.bytes > bytes {
            return Err(ArchiveError::Refused(format!(
                "the archive unpacks to more than {bytes} bytes: raise `fetch.max_unpacked` if that is meant"
            )));
        }
        Ok(())
    }

    fn folder(&self, path: &str) -> Result<(), ArchiveError> {
        if path.is_empty() {
            return Ok(());
        }
        let folder = self.into.join(path);
        fs::create_dir_all(&folder).map_err(ArchiveError::at(&folder, "made"))
    }

    /// The archive's word on what is in it, which comes first or not at all.
    fn listing(&mut self, tar: &mut impl Read, bytes: u64) -> Result<(), ArchiveError> {
        if self.told.is_some() || !self.files.is_empty() {
            return Err(ArchiveError::Refused(format!("{PACKAGE_FILE} is not the first file")));
        }
        if bytes > manifest::MAX_BYTES {
            return Err(ArchiveError::Refused(format!("{PACKAGE_FILE} is too large")));
        }
        let mut text = Vec::new();
        tar.take(bytes).read_to_end(&mut text).map_err(ArchiveError::reading)?;
        self.told = Some(PackageManifest::from_json(&text)?);
        Ok(())
    }

    fn file(&mut self, tar: &mut impl Read, entry: &Entry) -> Result<(), ArchiveError> {
        let Some((above, _)) = entry.path.rsplit_once('/') else {
            return Err(ArchiveError::Refused(format!(
                "`{}` lies at the archive's top: pack the model's folder (tar -C models -cf model.tar housing)",
                entry.path.escape_debug()
            )));
        };
        if self.files.contains_key(&entry.path) {
            return Err(ArchiveError::Refused(format!(
                "`{}` is in the archive twice",
                entry.path.escape_debug()
            )));
        }
        let told = self.told.as_ref().map(|told| told.files.binary_search_by(|f| f.path.cmp(&entry.path)));
        if told.is_some_and(|found| found.is_err()) {
            let path = entry.path.escape_debug();
            return Err(ArchiveError::Refused(format!("`{path}` is not named in {PACKAGE_FILE}")));
        }
        self.folder(above)?;
        let path = self.into.join(&entry.path);
        // Never through what is there: nobody else writes into this folder, and no link is ever made.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = file.map_err(ArchiveError::at(&path, "written"))?;
        let sum = sums::copy(tar, &mut file, entry.bytes).map_err(|failed| match failed {
            Ok(reading) => ArchiveError::reading(reading),
            Err(writing) => ArchiveError::at(&path, "written")(writing),
        })?;
        file.sync_all().map_err(ArchiveError::at(&path, "written"))?;
        let file = PackagedFile { path: entry.path.clone(), bytes: entry.bytes, sha256: sum };
        self.files.insert(entry.path.clone(), file);
        Ok(())
    }

    /// Compares what came with what was told, and writes down what came.
    fn finish(self) -> Result<PackageManifest, ArchiveError> {
        let files: Vec<PackagedFile> = self.files.into_values().collect();
        let models = match self.told {
            Some(told) => {
                if let Some(wrong) = told.files.iter().find(|file| !files.contains(file)) {
                    return Err(ArchiveError::Refused(format!(
                        "`{}` is missing or differs from what {PACKAGE_FILE} says",
                        wrong.path.escape_debug()
                    )));
                }
                told.models
            }
            None => Vec::new(),
        };
        if files.is_empty() {
            return Err(ArchiveError::refused("the archive holds no file"));
        }
        let manifest = PackageManifest::new(models, files);
        let path = self.into.join(PACKAGE_FILE);
        let mut file = File::create_new(&path).map_err(ArchiveError::at(&path, "written"))?;
        let written = file.write_all(&manifest.to_json()?).and_then(|()| file.sync_all());
        written.map_err(ArchiveError::at(&path, "written"))?;
        Ok(manifest)
    }
}

/// The next header; `None` at the end.
fn next(tar: &mut impl Read) -> Result<Option<Entry>, ArchiveError> {
    let mut block = [0; BLOCK];
    tar.read_exact(&mut block).map_err(ArchiveError::reading)?;
    if block.iter().all(|&b| b == 0) { Ok(None) } else { entry::parse(&block).map(Some) }
}

/// Behind the end there is nothing but empty blocks, up to a full record of 10 KiB or what else a
/// program takes for one.
fn rest(tar: &mut impl Read) -> Result<(), ArchiveError> {
    const MAX_REST_BYTES: u64 = 1 << 20;
    let mut behind = tar.take(MAX_REST_BYTES + 1);
    let mut piece = [0; BLOCK];
    let mut bytes = 0;
    loop {
        match behind.read(&mut piece).map_err(ArchiveError::reading)? {
            0 => return Ok(()),
            read if piece[..read].iter().all(|&b| b == 0) && bytes < MAX_REST_BYTES => bytes += read as u64,
            _ => return Err(ArchiveError::refused("something stands behind the archive's end")),
        }
    }
}

fn skip(tar: &mut impl Read, bytes: u64) -> Result<(), ArchiveError> {
    sums::copy(tar, &mut io::sink(), bytes)
        .map(|_| ())
        .map_err(|e| ArchiveError::reading(e.unwrap_or_else(|e| e)))
}

/// Words about the next entry, such as its time to the nanosecond, mean nothing here. Those that would
/// change what or where it is are refused: two readers that differ on them have been a hole in every
/// unpacker that had them.
fn pax(tar: &mut impl Read, bytes: u64) -> Result<(), ArchiveError> {
    if bytes > MAX_PAX_BYTES {
        return Err(ArchiveError::refused("an entry has more than 64 KiB of extended headers"));
    }
    let mut text = Vec::new();
    tar.take(bytes).read_to_end(&mut text).map_err(ArchiveError::reading)?;
    for word in ["path=", "linkpath=", "size=", "GNU.sparse.", "hdrcharset="] {
        // Anywhere, not only where a record should begin: a length that lies hides nothing then.
        if text.windows(word.len()).any(|w| w == word.as_bytes()) {
            return Err(ArchiveError::Refused(format!(
                "an entry has an extended header `{}`, for a path that is too long or not ASCII, or a large or \
                 sparse file: make the archive with `weir package`",
                word.trim_end_matches('=')
            )));
        }
    }
    Ok(())
}

/// Checks that `folder` holds exactly what its `weir-package.json` says, byte for byte. Hidden files
/// do not count.
///
/// # Errors
/// The first thing that is missing, differs, or is there and not named.
pub fn verify(folder: &Path) -> Result<PackageManifest, ArchiveError> {
    let manifest = PackageManifest::from_json(&listing(&folder.join(PACKAGE_FILE))?)?;
    for told in &manifest.files {
        let path = folder.join(&told.path);
        let differs = || ArchiveError::Refused(format!("{} is not what was unpacked", path.display()));
        let meta = path.symlink_metadata().map_err(ArchiveError::at(&path, "read"))?;
        if !meta.is_file() || meta.len() != told.bytes {
            return Err(differs());
        }
        let mut file = File::open(&path).map_err(ArchiveError::at(&path, "read"))?;
        let sum = sums::copy(&mut file, &mut io::sink(), told.bytes);
        let sum = sum.map_err(|e| ArchiveError::at(&path, "read")(e.unwrap_or_else(|e| e)))?;
        if sum != told.sha256 {
            return Err(differs());
        }
    }
    let found = count(folder, 0)?;
    if found != manifest.files.len() + 1 {
        let text = format!("{} holds files that were not unpacked there", folder.display());
        return Err(ArchiveError::Refused(text));
    }
    Ok(manifest)
}

/// The bytes of a listing. What the system refuses is told apart from what is wrong with the file, which
/// [`crate::files::read`] does not.
fn listing(path: &Path) -> Result<Vec<u8>, ArchiveError> {
    // Asked before it is opened: opening a FIFO waits for somebody to write to it.
    if !path.metadata().map_err(ArchiveError::at(path, "read"))?.is_file() {
        return Err(ArchiveError::Refused(format!("{} is no regular file", path.display())));
    }
    let file = File::open(path).map_err(ArchiveError::at(path, "read"))?;
    let mut bytes = Vec::new();
    file.take(manifest::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(ArchiveError::at(path, "read"))?;
    if bytes.len() as u64 > manifest::MAX_BYTES {
        return Err(ArchiveError::Refused(format!("{} is too large", path.display())));
    }
    Ok(bytes)
}

/// Files below `folder` that are not hidden.
fn count(folder: &Path, depth: usize) -> Result<usize, ArchiveError> {
    const MAX_DEPTH: usize = 10;
    let mut found = 0;
    for item in folder.read_dir().map_err(ArchiveError::at(folder, "listed"))? {
        let item = item.map_err(ArchiveError::at(folder, "listed"))?;
        if item.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let is_folder = item.file_type().map_err(ArchiveError::at(folder, "listed"))?.is_dir();
        found += if is_folder && depth < MAX_DEPTH { count(&item.path(), depth + 1)? } else { 1 };
    }
    Ok(found)
}
