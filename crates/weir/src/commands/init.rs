//! `weir init`.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, anyhow, bail};

use crate::{args::Init, output::Output, settings::lines};

pub(crate) fn run(options: &Init, output: &Output) -> anyhow::Result<ExitCode> {
    let draft =
        weir_artifact::draft(&options.artifact, options.sample.as_deref()).map_err(|p| anyhow!(lines(&p)))?;
    let target = match &options.output {
        Some(path) if path == Path::new("-") => {
            output.raw(draft.as_bytes());
            return Ok(ExitCode::SUCCESS);
        }
        Some(path) => path.clone(),
        None if options.artifact.is_dir() => options.artifact.join(weir_artifact::MANIFEST_FILE),
        None => options.artifact.with_file_name(weir_artifact::MANIFEST_FILE),
    };
    if target.exists() && !options.force {
        bail!("{} exists: --force overwrites it, --output names another file", target.display());
    }
    fs::write(&target, draft).with_context(|| format!("{} cannot be written", target.display()))?;
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    output.note(&format!(
        "wrote {}; look it over, then: weir inspect {}",
        target.display(),
        folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}
