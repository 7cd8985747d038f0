//! The command line.

mod cache;
mod doctor;
mod load;
mod package;
mod top;
mod tune;

use std::{net::SocketAddr, path::PathBuf};

use clap::{
    Args, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};
use clap_complete::Shell;
use weir_config::{Override, Source};

pub(crate) use cache::{AdminPlace, Cache, Explain, Purge, Warm};
pub(crate) use doctor::Doctor;
pub(crate) use load::{FaceArg, Load};
pub(crate) use package::{Package, PackageFormat};
pub(crate) use top::Top;
pub(crate) use tune::Tune;

/// One file of the configuration. An empty name is one that a variable without a value gives, which clap
/// would not name.
fn config_file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|name| match name.is_empty() {
        true => Err("it is empty: name a file, or unset the variable WEIR_CONFIG"),
        false => Ok(PathBuf::from(name)),
    })
}

/// A trained model becomes a production real-time API.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Write one JSON document instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models over HTTP.
    Serve(Serve),
    /// Draft a model.toml for an artefact.
    Init(Init),
    /// Explain what a model is and what would run it.
    Inspect(Inspect),
    /// Predict for JSON rows from standard input, one a line.
    Predict(Predict),
    /// Make a model's folder into one file with one digest: an archive or an OCI image.
    Package(Package),
    /// Send a server requests by schedule, and measure how it answers.
    Load(Box<Load>),
    /// Measure which [batching] serves a model best on this machine, and write it to model.toml.
    Tune(Tune),
    /// Watch models and servers live, from the /metrics of one or more replicas.
    Top(Top),
    /// See, fill and empty the cache of a running server.
    #[command(subcommand)]
    Cache(Box<Cache>),
    /// Check, show or print configuration.
    #[command(subcommand)]
    Config(Config),
    /// Look whether this host or pod has what the configuration needs; exit status 1 if something will
    /// not work.
    Doctor(Doctor),
    /// Ask a server whether it is ready; exit status 1 if it is not.
    Health(Health),
    /// Write the man pages, one a command, into a folder.
    Man {
        /// The folder; made where there is none.
        folder: PathBuf,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Where models and configuration are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sources {
    /// Model files, model folders, or folders of model folders; they replace those of the
    /// configuration.
    pub(crate) paths: Vec<PathBuf>,
    /// The server's configuration; given again, each file is laid over those before it. The variable
    /// has a colon between them.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", value_delimiter = ':', value_parser = config_file())]
    pub(crate) config: Vec<PathBuf>,
}

/// Where a server listens, in place of what the configuration says.
#[derive(Debug, Clone, Args)]
pub(crate) struct Addresses {
    /// Address to listen on [default: 127.0.0.1:8000].
    #[arg(long, value_name = "ADDRESS", value_parser = weir_api::config::parse_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the admin API, which `weir cache` asks; on loopback [default: none].
    #[arg(long, value_name = "ADDRESS", value_parser = weir_api::config::parse_address)]
    pub(crate) admin_listen: Option<SocketAddr>,
}

impl Addresses {
    /// What was given, over the configuration.
    pub(crate) fn flags(&self) -> Vec<Override> {
        let flags = [
            ("--listen", "server.listen", self.listen),
            ("--admin-listen", "server.admin_listen", self.admin_listen),
        ];
        let given = flags.into_iter().filter_map(|(flag, key, at)| Some((flag, key, at?)));
        given
            .map(|(flag, key, at)| Override::new(Source::Argument(flag.to_owned()), key, at.to_string()))
            .collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) sources: Sources,
    #[command(flatten)]
    pub(crate) addresses: Addresses,
    /// Reload when the configuration's or a model's files change.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The artefact, for example model.onnx, or the folder of a model of Triton, MLflow or
    /// Hugging Face.
    pub(crate) artifact: PathBuf,
    /// Training data with a header line: field names, ranges and examples come from it.
    #[arg(long, value_name = "CSV")]
    pub(crate) sample: Option<PathBuf>,
    /// Where to write [default: model.toml beside the artefact; - for standard output].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite a file that exists.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A model file or folder, or a folder of model folders.
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// A model file or folder; with --url, the name of a model that is served.
    pub(crate) model: String,
    /// Ask a running server instead of loading the model.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// What to answer, for example prediction,label,scores.
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) outputs: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check configuration, models and routes; tell every problem.
    Check(Sources),
    /// Print the configuration in force.
    Show {
        #[command(flatten)]
        sources: Sources,
        /// Say where each value came from.
        #[arg(long)]
        origin: bool,
    },
    /// List every key: what it takes, its default, and whether a reload changes it.
    Keys {
        /// As a table for a document.
        #[arg(long)]
        markdown: bool,
    },
    /// Print a commented configuration with every default.
    Default,
    /// Print the JSON Schema of weir.toml or model.toml.
    Schema {
        /// Of model.toml instead of weir.toml.
        #[arg(long)]
        model: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// The server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,
    /// Seconds to wait for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) timeout: f64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_empty_name_of_the_configuration_is_told_with_the_variable_it_may_come_from() {
        for command in ["serve", "cache stats", "cache warm model file", "tune model --slo p99=50ms"] {
            let with = |config| ["weir"].into_iter().chain(command.split(' ')).chain(["--config", config]);
            let error = Arguments::try_parse_from(with("")).unwrap_err().to_string();
            assert!(error.contains("--config") && error.contains("WEIR_CONFIG"), "{command}: {error}");
            assert!(Arguments::try_parse_from(with("weir.toml")).is_ok(), "{command}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_with_one_that_is() {
        let listen = |text: &str| Arguments::try_parse_from(["weir", "serve", "--listen", text]);
        let error = listen("weir.example:80").unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:80"), "{error}");
        assert!(listen("localhost:80").is_ok() && listen("[::1]:80").is_ok());
    }
}
