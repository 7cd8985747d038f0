//! `weir load`. Values are read later, all of them, so that every mistake is told at once.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The server: http://host:port.
    pub(crate) url: String,
    /// The model to ask.
    pub(crate) model: Option<String>,

    /// Requests a second, sent whatever the server does (open loop). Without --rate, --stages
    /// and --find-max each connection sends as soon as it has its answer (closed loop).
    #[arg(long, value_name = "RATE", help_heading = "Load")]
    pub(crate) rate: Option<String>,
    /// Rates over time: 10s@100,30s@1000; a ramp is 30s@100..1000.
    #[arg(long, value_name = "STAGES", conflicts_with_all = ["rate", "duration"], help_heading = "Load")]
    pub(crate) stages: Option<String>,
    /// How long to measure.
    #[arg(long, value_name = "DURATION", default_value = "10s", help_heading = "Load")]
    pub(crate) duration: String,
    /// How long to send before measuring.
    #[arg(long, value_name = "DURATION", default_value = "1s", help_heading = "Load")]
    pub(crate) warmup: String,
    /// Arrivals as of independent callers, with exponential gaps, instead of even ones.
    #[arg(long, help_heading = "Load")]
    pub(crate) poisson: bool,
    /// Requests in flight at most [default: 1000; closed loop: 16].
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(crate) connections: Option<usize>,
    /// Threads of the generator, 1 or 2.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub(crate) threads: usize,
    /// Send a request that failed again, at once, so many times: the naive client.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Load")]
    pub(crate) retries: u32,
    /// What a good answer keeps. Sent along as Request-Timeout, grpc-timeout or timeout.
    #[arg(long, value_name = "DURATION", help_heading = "Load")]
    pub(crate) deadline: Option<String>,
    /// When to give a request up.
    #[arg(long, value_name = "DURATION", default_value = "10s", help_heading = "Load")]
    pub(crate) timeout: String,
    /// Arrivals and bodies repeat with the seed.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub(crate) seed: u64,

    /// The protocol.
    #[arg(long, value_enum, default_value_t = FaceArg::Typed, help_heading = "Requests")]
    pub(crate) face: FaceArg,
    /// The model's version [default: the latest].
    #[arg(long, value_name = "VERSION", help_heading = "Requests")]
    pub(crate) model_version: Option<String>,
    /// A path to ask instead of a model's, on any HTTP server.
    #[arg(long, value_name = "PATH", help_heading = "Requests")]
    pub(crate) path: Option<String>,
    /// Bodies, one a line, sent in turn instead of generated ones.
    #[arg(long, value_name = "FILE", conflicts_with = "samples", help_heading = "Requests")]
    pub(crate) body: Option<PathBuf>,
    /// Right answers, one a line, for the bodies of --body.
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    pub(crate) expect: Option<PathBuf>,
    /// Rows of a model's samples.jsonl instead of generated ones; answers are checked (typed).
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    pub(crate) samples: Option<PathBuf>,
    /// Rows of a request; of several, each is as likely.
    #[arg(long, value_name = "N,…", default_value = "1", help_heading = "Requests")]
    pub(crate) rows: String,
    /// Different requests to make beforehand.
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Requests")]
    pub(crate) bodies: usize,
    /// The share of requests that repeat one of these, such as 0.95; others are new each time
    /// [default: all repeat].
    #[arg(long, value_name = "SHARE", help_heading = "Requests")]
    pub(crate) repeat: Option<f64>,
    /// Ask every body alone first, and require the same answers under load.
    #[arg(long, help_heading = "Requests")]
    pub(crate) check: bool,
    /// How far numbers of answers may be away from the right ones [default: 1e-5, or the sample's].
    #[arg(long, value_name = "NUMBER", help_heading = "Requests")]
    pub(crate) tolerance: Option<f64>,
    /// A header of every request.
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = "Requests")]
    pub(crate) headers: Vec<String>,
    /// Where metadata and OpenAPI are, if not at URL.
    #[arg(long, value_name = "URL", help_heading = "Requests")]
    pub(crate) describe: Option<String>,

    /// Find the highest rate that keeps --slo.
    #[arg(long, requires = "slo", conflicts_with_all = ["rate", "stages"], help_heading = "Capacity")]
    pub(crate) find_max: bool,
    /// What is to be kept: p99=50ms (of all requests due), goodput=99% (needs --deadline).
    #[arg(long, value_name = "OBJECTIVE", value_delimiter = ',', help_heading = "Capacity")]
    pub(crate) slo: Vec<String>,
    /// The first rate to try.
    #[arg(long, value_name = "RATE", default_value = "100", help_heading = "Capacity")]
    pub(crate) start: String,
    /// Shortest measured time of a step; it grows until there are enough requests.
    #[arg(long, value_name = "DURATION", default_value = "5s", help_heading = "Capacity")]
    pub(crate) step: String,
    /// How close the answer is, as a share of the rate.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, help_heading = "Capacity")]
    pub(crate) precision: f64,

    /// Exit with 1 if this is so: 'p99>50ms', 'errors>1%', 'goodput<99%', 'wrong>0', 'rate<900'.
    #[arg(long, value_name = "THRESHOLD", value_delimiter = ',', help_heading = "Output")]
    pub(crate) fail_if: Vec<String>,
    /// Write a page with plots, readable without a network.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,
}

/// The protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaceArg {
    /// Typed JSON rows.
    Typed,
    /// Open Inference Protocol V2 over REST.
    V2,
    /// The same with binary tensors.
    V2Binary,
    /// The same over gRPC.
    Grpc,
}
