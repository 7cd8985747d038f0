//! `cargo xtask release`: the archive that is given away, its bill of materials, and their digests.

mod sbom;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{repo, say};

/// What is given away beside the binary, and where it lies in the archive.
const FILES: &[(&str, &str)] = &[
    ("LICENSE", "LICENSE"),
    ("NOTICE", "NOTICE"),
    ("README.md", "README.md"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("config/weir.toml", "config/weir.toml"),
];

/// Shells, and the names by which each finds its completions.
const SHELLS: &[(&str, &str)] = &[("bash", "weir"), ("zsh", "_weir"), ("fish", "weir.fish")];

/// Builds the binary by the profile `dist`, or takes the one that `--binary` names, and writes archive,
/// bill of materials and `SHA256SUMS` into `target/release-archive`.
///
/// # Errors
/// A program is missing or fails, or a file cannot be written.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode> {
    // First, so that what is missing is said before the minutes that a build takes.
    succeed(Command::new("sh").arg(repo::root().join("tests/sbom/setup.sh")))?;
    let binary = match words {
        [] => build()?,
        ["--binary", path] => PathBuf::from(path),
        _ => bail!("cargo xtask release [--binary PATH]"),
    };
    let folder = repo::target()?.join("release-archive");
    fs::create_dir_all(&folder)?;
    let name = format!("weir-{}-{}", env!("CARGO_PKG_VERSION"), target()?);
    let archive = folder.join(format!("{name}.tar.gz"));
    pack(&binary, &name, &archive)?;
    let bill = folder.join(format!("{name}.cdx.json"));
    fs::write(&bill, sbom::of(&sbom::metadata(&target()?)?, "weir")?)?;
    sbom::check(&bill)?;
    let sums = [&archive, &bill].map(|file| sum_line(file));
    let sums = sums.into_iter().collect::<Result<String>>()?;
    fs::write(folder.join("SHA256SUMS"), &sums)?;
    say::note(format!("{}:\n{sums}", folder.display()));
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--profile", "dist", "--package", "weir"]).current_dir(repo::root());
    succeed(&mut cargo)?;
    Ok(repo::target()?.join("dist/weir"))
}

/// The triple that the compiler builds for.
fn target() -> Result<String> {
    let told = Command::new("rustc").arg("-vV").output().context("rustc cannot be started")?;
    let told = String::from_utf8(told.stdout)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Lays the files out and packs them: sorted, without owners and times, so that the same binary makes the
/// same archive.
fn pack(binary: &Path, name: &str, archive: &Path) -> Result<()> {
    let place = tempfile::tempdir()?;
    let root = place.path().join(name);
    lay_out(binary, &root)?;
    let tar = archive.with_extension("");
    let mut pack = Command::new("tar");
    pack.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
    pack.args(["--mode=u=rwX,go=rX", "-cf"]).arg(&tar).arg("-C").arg(place.path()).arg(name);
    succeed(&mut pack)?;
    // -n leaves out the name and the time.
    succeed(Command::new("gzip").args(["-9nf"]).arg(&tar))
}

fn lay_out(binary: &Path, root: &Path) -> Result<()> {
    for folder in ["bin", "config", "man/man1", "completions"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(binary, root.join("bin/weir"))
        .with_context(|| format!("{} cannot be read", binary.display()))?;
    for (from, to) in FILES {
        fs::copy(repo::root().join(from), root.join(to)).with_context(|| format!("{from} cannot be read"))?;
    }
    succeed(Command::new(binary).arg("man").arg(root.join("man/man1")))?;
    for (shell, file) in SHELLS {
        let script = Command::new(binary).args(["completions", shell]).output()?;
        ensure!(script.status.success(), "weir completions {shell} failed");
        fs::write(root.join("completions").join(file), script.stdout)?;
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdout(std::process::Stdio::null()).status();
    let status = status.with_context(|| format!("{program} cannot be started"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

/// A line as `sha256sum` writes and checks it.
fn sum_line(file: &Path) -> Result<String> {
    let sum: String = Sha256::digest(fs::read(file)?).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{sum}  {name}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that does what `weir man` and `weir completions` do, seen from outside.
    fn binary(place: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = place.join("weir");
        let script =
            "#!/bin/sh\nif [ \"$1\" = man ]; then echo page > \"$2/weir.1\"; else echo complete; fi\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_same_binary_makes_the_same_archive_with_all_that_belongs_to_it() {
        let place = tempfile::tempdir().unwrap();
        let binary = binary(place.path());
        let packed = |name: &str| {
            let archive = place.path().join(name);
            pack(&binary, "weir-1-here", &archive).unwrap();
            archive
        };
        let (one, two) = (packed("one.tar.gz"), packed("two.tar.gz"));
        assert_eq!(fs::read(&one).unwrap(), fs::read(two).unwrap());
        let listed = Command::new("tar").arg("-tf").arg(one).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for file in
            ["bin/weir", "LICENSE", "NOTICE", "config/weir.toml", "man/man1/weir.1", "completions/_weir"]
        {
            assert!(listed.contains(&format!("weir-1-here/{file}\n")), "{file}: {listed}");
        }
    }

    #[test]
    fn sums_are_those_that_sha256sum_checks() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "x").unwrap();
        fs::write(place.path().join("SHA256SUMS"), sum_line(&place.path().join("a")).unwrap()).unwrap();
        let checked =
            Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(place.path()).status().unwrap();
        assert!(checked.success());
    }
}
