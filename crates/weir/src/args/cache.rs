//! `weir cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// What the cache of each model did, and what it holds.
    Stats(AdminPlace),
    /// Forget stored answers: of a model, of one version of it, or of all models with a tag.
    Purge(Purge),
    /// Ask a model every body of a file, so that their answers are stored.
    Warm(Warm),
    /// Say why two bodies do or do not share an entry.
    Explain(Explain),
}

/// Where the admin API is.
#[derive(Debug, Args)]
pub(crate) struct AdminPlace {
    /// The admin API [default: `admin_listen` of the configuration, else http://127.0.0.1:8001].
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The server's configuration.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", value_delimiter = ':', value_parser = super::config_file())]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// The model.
    #[arg(long, value_name = "MODEL", required_unless_present = "tag", conflicts_with = "tag")]
    pub(crate) model: Option<String>,
    /// Of the model, this version alone.
    #[arg(long, value_name = "VERSION", requires = "model")]
    pub(crate) version: Option<String>,
    /// All models that have this tag in their [cache].
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
    #[command(flatten)]
    pub(crate) place: AdminPlace,
}

#[derive(Debug, Args)]
pub(crate) struct Warm {
    /// The model.
    pub(crate) model: String,
    /// Bodies, one a line, as the model's :predict takes them; - for standard input.
    pub(crate) file: PathBuf,
    /// Of the model, this version [default: the latest].
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// The path of a declared route that takes the bodies, in place of the model's :predict.
    #[arg(long, value_name = "PATH", conflicts_with = "version")]
    pub(crate) path: Option<String>,
    /// Most requests a second. One is under way at a time, so that others hardly notice.
    #[arg(long, value_name = "RATE", default_value = "100")]
    pub(crate) rate: String,
    /// The server [default: `listen` of the configuration, else http://127.0.0.1:8000].
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The server's configuration.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", value_delimiter = ':', value_parser = super::config_file())]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The model.
    pub(crate) model: String,
    /// A body: JSON, or @ and a file's name.
    pub(crate) body: String,
    /// Another; without it, the first is compared with itself.
    pub(crate) other: Option<String>,
    /// Of the model, this version [default: the latest].
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// The path of a declared route that takes the bodies, in place of the model's :predict.
    #[arg(long, value_name = "PATH", conflicts_with = "version")]
    pub(crate) path: Option<String>,
    #[command(flatten)]
    pub(crate) place: AdminPlace,
}
