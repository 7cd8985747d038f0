//! `weir tune`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// A model file or folder.
    pub(crate) path: PathBuf,
    /// What is to be kept, such as p99=50ms: of all requests due, 99 in 100 answered within 50 ms.
    #[arg(long, value_name = "OBJECTIVE")]
    pub(crate) slo: String,
    /// Rows of a request; of several, such as 1,8, each is as likely.
    #[arg(long, value_name = "N,…", default_value = "1")]
    pub(crate) rows: String,
    /// Rows to send, in the form of a model's samples.jsonl, instead of generated ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) samples: Option<PathBuf>,
    /// How long it may take; a measurement that has begun is finished.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub(crate) budget: String,
    /// Say what would be written, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write a page with the plot, readable without a network.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The server's configuration: threads and engines are taken from it.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", value_delimiter = ':', value_parser = super::config_file())]
    pub(crate) config: Vec<PathBuf>,
}
