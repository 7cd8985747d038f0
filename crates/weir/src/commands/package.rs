//! `weir package`: a model's folder becomes one file with one digest.

use std::{
    collections::BTreeSet,
    error::Error,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::json;
use tempfile::{NamedTempFile, TempDir};
use weir_api::config::ServerConfig;
use weir_artifact::{
    Candidate, Kind,
    archive::{self, ArchiveLimits, Compression, ImageSums, Member, PackagedModel, Packed},
};
use weir_serving::{Loader, Progress, ServingSnapshot};
use weir_types::SystemClock;

use crate::{
    args::{Package, PackageFormat},
    output::{Output, size},
    settings::{self, failure_lines, lines},
};

pub(crate) fn run(options: &Package, output: &Output) -> anyhow::Result<ExitCode> {
    let found = weir_artifact::discover(&options.folder).complete().map_err(|p| anyhow!(lines(&p)))?;
    let members = archive::members(&options.folder, &found).map_err(|p| anyhow!(lines(&p)))?;
    let models = match options.no_check {
        true => described(&found)?,
        false => checked(&options.folder, output)?,
    };
    let (name, version) = title(&options.folder, &models)?;
    let target = options.output.clone().unwrap_or_else(|| file_name(options.format, &name, &version));
    let same = |file: &Path| Some(file.canonicalize().ok()? == target.canonicalize().ok()?);
    if members.iter().any(|member| same(&member.file) == Some(true)) {
        bail!("{} is a part of the model: choose another name with --output", target.display());
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let (written, packed) = write_archive(options, &members, models, &folder, output)?;
    read_back(written.path(), &packed, &folder)?;
    let image = match options.format {
        PackageFormat::Oci => Some(write_image((&name, &version), &packed, written.path(), &folder)?),
        PackageFormat::TarGz | PackageFormat::Tar => None,
    };
    let (file, image) = match image {
        Some((file, sums)) => (file, Some(sums)),
        None => (written, None),
    };
    keep(file, &target, options.force)?;
    tell(
        &Made {
            target: &target,
            packed: &packed,
            image: image.as_ref(),
            format: options.format,
            name: &name,
            version: &version,
        },
        output,
    );
    Ok(ExitCode::SUCCESS)
}

/// Starts the models as `serve` does, golden rows included.
fn checked(folder: &Path, output: &Output) -> anyhow::Result<Vec<PackagedModel>> {
    let load = settings::load_options(&ServerConfig::default(), Arc::new(SystemClock));
    let progress = |p: Progress<'_>| {
        output.progress(&format!("checking {}/{} {}", p.number, p.total, p.candidate.name));
    };
    let snapshot = Loader::new(vec![folder.to_owned()], load).load(
        &ServingSnapshot::default(),
        &BTreeSet::new(),
        &progress,
    );
    output.progress("");
    if !snapshot.failures().is_empty() {
        bail!(
            "{}\nnothing was written; --no-check packs it all the same",
            failure_lines(snapshot.failures())
        );
    }
    let versions = snapshot.models().flat_map(|(_, model)| model.versions());
    Ok(versions
        .map(|version| model(&version.spec.name, &version.spec.version, Some(&version.spec.digest)))
        .collect())
}

/// Reads the models without starting them. What a graph's digest is, only its models together say.
fn described(found: &[Candidate]) -> anyhow::Result<Vec<PackagedModel>> {
    let describe = |candidate: &Candidate| {
        if candidate.kind == Kind::Graph {
            return Ok(model(&candidate.name, &candidate.version, None));
        }
        let loaded = weir_artifact::load(candidate).map_err(|problems| anyhow!(lines(&problems)))?;
        Ok(model(&candidate.name, &candidate.version, Some(&loaded.spec.digest)))
    };
    found.iter().map(describe).collect()
}

fn model(name: &impl ToString, version: &impl ToString, digest: Option<&String>) -> PackagedModel {
    PackagedModel { name: name.to_string(), version: version.to_string(), digest: digest.cloned() }
}

/// Name and version of the file: the model's, where there is one, else the folder's and the first's.
fn title(folder: &Path, models: &[PackagedModel]) -> anyhow::Result<(String, String)> {
    let last = models.last().context("there is no model here")?;
    if models.iter().all(|model| model.name == last.name) {
        return Ok((last.name.clone(), last.version.clone()));
    }
    let whole = folder.canonicalize()?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: weir_types::ModelName =
        name.parse().map_err(|e| anyhow!("{}: {e}; name the file with --output", folder.display()))?;
    Ok((name.to_string(), last.version.clone()))
}

fn file_name(format: PackageFormat, name: &str, version: &str) -> PathBuf {
    let end = match format {
        PackageFormat::TarGz => "tar.gz",
        PackageFormat::Tar => "tar",
        PackageFormat::Oci => "oci.tar",
    };
    format!("{name}-{version}.{end}").into()
}

fn temporary(folder: &Path) -> anyhow::Result<NamedTempFile> {
    NamedTempFile::new_in(folder).with_context(|| format!("{} cannot be written to", folder.display()))
}

/// What is told where something of the archive could not be written in `folder`: the error's own sentence, which
/// has its cause in it, and what to do where there is no room.
fn unwritten(folder: &Path, error: &(dyn Error + 'static)) -> anyhow::Error {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let full = causes.any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    });
    match full {
        true => anyhow!(
            "{}: {error}; make room there, or write elsewhere with --output: beside the archive it takes as much \
             again, unpacked, while it is checked",
            folder.display()
        ),
        false => anyhow!("{error}"),
    }
}

fn write_archive(
    options: &Package,
    members: &[Member],
    models: Vec<PackagedModel>,
    folder: &Path,
    output: &Output,
) -> anyhow::Result<(NamedTempFile, Packed)> {
    let total: u64 = members.iter().filter_map(|m| Some(m.file.metadata().ok()?.len())).sum();
    let progress = |done: u64| {
        output.progress(&format!("packing {} of {}  {}", size(done), size(total), bar(done, total)));
    };
    let mut file = temporary(folder)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    let packed = archive::pack(members, models, compression(options.format), &mut buffered, &progress)
        .map_err(|error| unwritten(folder, &error))?;
    buffered.flush().map_err(|error| unwritten(folder, &error))?;
    drop(buffered);
    output.progress("");
    Ok((file, packed))
}

fn compression(format: PackageFormat) -> Compression {
    match format {
        PackageFormat::Tar => Compression::None,
        PackageFormat::TarGz | PackageFormat::Oci => Compression::Gzip,
    }
}

fn bar(done: u64, total: u64) -> String {
    const WIDTH: u64 = 30;
    let full = (done.saturating_mul(WIDTH) / total.max(1)).min(WIDTH) as usize;
    format!("[{}{}]", "=".repeat(full), " ".repeat(WIDTH as usize - full))
}

/// Unpacks what was written by the code that serves it, and compares the digests: a file that was
/// forgotten is noticed here and not in a cluster.
fn read_back(written: &Path, packed: &Packed, folder: &Path) -> anyhow::Result<()> {
    let into = TempDir::new_in(folder).map_err(|error| unwritten(folder, &error))?;
    let limits = ArchiveLimits { bytes: u64::MAX, ..ArchiveLimits::default() };
    archive::unpack(File::open(written)?, into.path(), &limits).map_err(|error| unwritten(folder, &error))?;
    let found = weir_artifact::discover(into.path()).complete().map_err(|p| anyhow!(lines(&p)))?;
    let mut again = described(&found).context("what was packed does not load")?;
    for (model, told) in again.iter_mut().zip(&packed.manifest.models) {
        model.digest = model.digest.take().or_else(|| told.digest.clone());
    }
    ensure!(
        again == packed.manifest.models,
        "what was packed is not what lies in the folder: {again:?}; this is a bug of Weir"
    );
    Ok(())
}

fn write_image(
    (name, version): (&str, &str),
    packed: &Packed,
    layer: &Path,
    folder: &Path,
) -> anyhow::Result<(NamedTempFile, ImageSums)> {
    let mut file = temporary(folder)?;
    let mut output = BufWriter::new(file.as_file_mut());
    let mut layer = BufReader::new(File::open(layer)?);
    let sums = archive::write_image((name, version), packed, Compression::Gzip, &mut layer, &mut output)
        .map_err(|error| unwritten(folder, &error))?;
    output.flush().map_err(|error| unwritten(folder, &error))?;
    drop(output);
    Ok((file, sums))
}

/// Gives the file its name. One that is there already is replaced by the same bytes alone.
fn keep(file: NamedTempFile, target: &Path, force: bool) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if target.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
        bail!(
            "{} is no regular file, and is not replaced by one: name another with --output",
            target.display()
        );
    }
    let same = target.is_file() && same_bytes(file.path(), target)?;
    if target.exists() && !force && !same {
        bail!(
            "{} exists and differs: choose another name with --output, or overwrite it with --force",
            target.display()
        );
    }
    // A temporary file is for its owner alone; what is given away is not.
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
    file.persist(target).with_context(|| format!("{} cannot be written", target.display()))?;
    Ok(())
}

fn same_bytes(one: &Path, other: &Path) -> anyhow::Result<bool> {
    use std::io::Read;
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (one, other) = (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    for (a, b) in one.bytes().zip(other.bytes()) {
        if a? != b? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What was made.
struct Made<'a> {
    target: &'a Path,
    packed: &'a Packed,
    image: Option<&'a ImageSums>,
    format: PackageFormat,
    name: &'a str,
    version: &'a str,
}

impl Made<'_> {
    fn media_type(&self) -> &'static str {
        match self.format {
            PackageFormat::TarGz => archive::OCI_LAYER_TAR_GZIP,
            PackageFormat::Tar => archive::OCI_LAYER_TAR,
            PackageFormat::Oci => "application/vnd.oci.image.index.v1+json",
        }
    }

    /// What serves it.
    fn snippet(&self) -> String {
        if self.image.is_some() {
            return format!("COPY --from={}:{} / /models/", self.name, self.version);
        }
        let path = self.target.canonicalize().unwrap_or_else(|_| self.target.to_owned());
        format!("[[archive]]\nurl = \"file:{}\"\nsha256 = \"{}\"", path.display(), self.packed.sha256)
    }
}

fn tell(made: &Made<'_>, output: &Output) {
    let Made { target, packed, image, .. } = made;
    let (sha256, bytes) = image.map_or((&packed.sha256, packed.bytes), |image| (&image.sha256, image.bytes));
    if output.is_json() {
        return output.json(&json!({
            "file": target,
            "format": match made.format {
                PackageFormat::TarGz => "tar.gz",
                PackageFormat::Tar => "tar",
                PackageFormat::Oci => "oci",
            },
            "media_type": made.media_type(),
            "bytes": bytes,
            "sha256": sha256,
            "image": image.map(|image| json!({
                "name": format!("{}:{}", made.name, made.version), "digest": image.digest, "layer": image.layer,
            })),
            "models": packed.manifest.models,
            "files": packed.manifest.files,
            "snippet": made.snippet(),
        }));
    }
    output.heading(&format!("{}  {}", target.display(), size(bytes)));
    let mut rows = vec![("sha256", sha256.clone())];
    if let Some(image) = image {
        rows.extend([("image", image.digest.clone()), ("layer", image.layer.clone())]);
    }
    rows.push(("media type", made.media_type().to_owned()));
    let digest = |m: &PackagedModel| {
        format!("{}/{} {}", m.name, m.version, m.digest.as_deref().unwrap_or("unchecked"))
    };
    rows.push(("models", packed.manifest.models.iter().map(digest).collect::<Vec<_>>().join("\n")));
    let file = |f: &archive::PackagedFile| format!("{}  {}", f.path, size(f.bytes));
    rows.push(("files", packed.manifest.files.iter().map(file).collect::<Vec<_>>().join("\n")));
    output.pairs(&rows);
    let how = match image {
        Some(_) => {
            "load it (docker load, skopeo copy oci-archive:…, oras cp --from-oci-layout …), then in a Dockerfile"
        }
        None => "serve it: in weir.toml, `url` being where you put it (https://, s3://, file:)",
    };
    output.line(&format!("\n# {how}\n{}", made.snippet()));
}

#[cfg(test)]
mod tests {
    use weir_artifact::archive::ArchiveError;

    use super::*;

    #[test]
    fn nothing_but_a_file_is_replaced() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |target: &Path, force| {
            let mut file = temporary(folder.path()).unwrap();
            file.write_all(b"new").unwrap();
            keep(file, target, force).map_err(|error| error.to_string())
        };
        fs::write(at("old"), "old").unwrap();
        std::os::unix::fs::symlink(at("old"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["link", "dangling", "folder", "socket"] {
            for force in [false, true] {
                let error = write(&at(name), force).unwrap_err();
                assert!(error.contains(name) && error.contains("--output"), "{error}");
            }
            assert!(!at(name).symlink_metadata().unwrap().is_file(), "{name} is what it was");
        }
        assert!(write(&at("old"), false).unwrap_err().contains("--force"));
        assert_eq!((write(&at("old"), true), write(&at("first"), false)), (Ok(()), Ok(())));
        assert_eq!(fs::read(at("old")).unwrap(), b"new");
    }

    #[test]
    fn a_full_disk_is_told_once_with_its_folder_and_what_to_do() {
        let system = || io::Error::from_raw_os_error(28);
        let of = |error: &(dyn Error + 'static)| format!("{:#}", unwritten(Path::new("/out"), error));
        let packing = ArchiveError::Io { what: "the archive cannot be written".into(), source: system() };
        for told in [of(&system()), of(&packing)] {
            assert_eq!(told.matches("No space left").count(), 1, "{told}");
            assert!(told.contains("/out: ") && told.contains("--output"), "{told}");
        }
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let told = of(&ArchiveError::Io { what: "x".into(), source: denied });
        assert_eq!(told, "x: permission denied");
    }
}
