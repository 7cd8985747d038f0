//! Writing an archive.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt,
};

use flate2::{Compression as Level, GzBuilder, write::GzEncoder};

use super::{
    ArchiveError, Member, PACKAGE_FILE, PackageManifest, PackagedFile, PackagedModel,
    entry::{self, BLOCK, What},
    sums::{self, Summed},
};

/// What the tar is put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// Gzip (RFC 1952), level 6, without a time or a name.
    Gzip,
}

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What it holds.
    pub manifest: PackageManifest,
    /// SHA-256 of the archive.
    pub sha256: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// SHA-256 of the tar inside: what OCI calls `diff_id`.
    pub tar_sha256: String,
}

/// Writes an archive of `members` to `output`. The same contents under the same paths make the same bytes,
/// whoever owns the files and whenever they changed. `progress` is told the bytes of contents that are in.
///
/// # Errors
/// A file cannot be read, is no regular file with one name, or changes while it is read.
pub fn pack(
    members: &[Member],
    models: Vec<PackagedModel>,
    compression: Compression,
    output: &mut impl Write,
    progress: &dyn Fn(u64),
) -> Result<Packed, ArchiveError> {
    let files = members.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
    let manifest = PackageManifest::new(models, files);
    let mut tar = Summed::new(Squeezed::new(Summed::new(output), compression));
    write_tar(&mut tar, members, &manifest, progress)?;
    let Summed { inner, hash, .. } = tar;
    let mut outer = inner.finish().map_err(ArchiveError::writing)?;
    outer.flush().map_err(ArchiveError::writing)?;
    let (tar_sha256, bytes) = (sums::hex(hash), outer.bytes);
    Ok(Packed { manifest, sha256: sums::hex(outer.hash), bytes, tar_sha256 })
}

/// Size and digest of a member, which must be a regular file with one name.
fn describe(member: &Member) -> Result<PackagedFile, ArchiveError> {
    let path = &member.file;
    let meta = path.symlink_metadata().map_err(ArchiveError::at(path, "read"))?;
    if !meta.is_file() {
        return Err(ArchiveError::Refused(format!("{} is no regular file: copy it there", path.display())));
    }
    if meta.nlink() > 1 {
        let text = format!("{} has other names too (hard links): copy it there", path.display());
        return Err(ArchiveError::Refused(text));
    }
    let mut file = File::open(path).map_err(ArchiveError::at(path, "read"))?;
    let sum = sums::copy(&mut file, &mut io::sink(), meta.len());
    let sha256 = sum.map_err(|e| ArchiveError::at(path, "read")(e.unwrap_or_else(|e| e)))?;
    Ok(PackagedFile { path: member.path.clone(), bytes: meta.len(), sha256 })
}

fn write_tar(
    tar: &mut impl Write,
    members: &[Member],
    manifest: &PackageManifest,
    progress: &dyn Fn(u64),
) -> Result<(), ArchiveError> {
    let listing = manifest.to_json()?;
    put_bytes(tar, PACKAGE_FILE, &listing)?;
    let mut folders = BTreeSet::new();
    let mut done = 0;
    for (member, told) in members.iter().zip(&manifest.files) {
        let above = member.path.match_indices('/').map(|(at, _)| &member.path[..at]);
        for folder in above.filter(|folder| folders.insert((*folder).to_owned())) {
            put(tar, &entry::header(folder, What::Folder, 0)?)?;
        }
        put_file(tar, member, told)?;
        done += told.bytes;
        progress(done);
    }
    // The end is two empty blocks.
    put(tar, &[0; 2 * BLOCK])
}

/// Writes an entry whose contents are at hand.
pub(crate) fn put_bytes(tar: &mut impl Write, path: &str, contents: &[u8]) -> Result<(), ArchiveError> {
    let bytes = contents.len() as u64;
    put(tar, &entry::header(path, What::File, bytes)?)?;
    put(tar, contents)?;
    pad(tar, bytes)
}

fn put_file(tar: &mut impl Write, member: &Member, told: &PackagedFile) -> Result<(), ArchiveError> {
    put(tar, &entry::header(&member.path, What::File, told.bytes)?)?;
    let mut file = File::open(&member.file).map_err(ArchiveError::at(&member.file, "read"))?;
    let sum = sums::copy(&mut file, tar, told.bytes).map_err(|failed| match failed {
        Ok(reading) => ArchiveError::at(&member.file, "read")(reading),
        Err(writing) => ArchiveError::writing(writing),
    })?;
    if sum != told.sha256 {
        let text = format!("{} changed while it was packed: try again", member.file.display());
        return Err(ArchiveError::Refused(text));
    }
    pad(tar, told.bytes)
}

fn pad(tar: &mut impl Write, bytes: u64) -> Result<(), ArchiveError> {
    let most = [0; BLOCK];
    put(tar, &most[..entry::padding(bytes) as usize])
}

pub(crate) fn put(tar: &mut impl Write, bytes: &[u8]) -> Result<(), ArchiveError> {
    tar.write_all(bytes).map_err(ArchiveError::writing)
}

/// What compresses, or does not.
enum Squeezed<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
}

impl<W: Write> Squeezed<W> {
    fn new(output: W, compression: Compression) -> Self {
        /// "Unknown" (RFC 1952 section 2.3.1): an archive does not tell on which system it was made.
        const NO_SYSTEM: u8 = 255;
        match compression {
            Compression::None => Self::Plain(output),
            Compression::Gzip => {
                let builder = GzBuilder::new().mtime(0).operating_system(NO_SYSTEM);
                Self::Gzip(builder.write(output, Level::new(6)))
            }
        }
    }

    /// What it was written to.
    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Squeezed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
