//! `weir package`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackageFormat {
    /// An archive in gzip.
    #[value(name = "tar.gz")]
    TarGz,
    /// An archive as it is: larger by a tenth or so, and unpacked faster.
    #[value(name = "tar")]
    Tar,
    /// A tar of an OCI image layout for amd64 and arm64, whose one layer is the archive.
    #[value(name = "oci")]
    Oci,
}

#[derive(Debug, Args)]
pub(crate) struct Package {
    /// A model's folder, or a folder of them.
    pub(crate) folder: PathBuf,
    /// Where to write [default: NAME-VERSION.tar.gz, .tar or .oci.tar, here].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What to write.
    #[arg(long, value_enum, default_value = "tar.gz")]
    pub(crate) format: PackageFormat,
    /// Do not start the models and run their golden rows first.
    #[arg(long)]
    pub(crate) no_check: bool,
    /// Overwrite a file that exists and differs.
    #[arg(long)]
    pub(crate) force: bool,
}
