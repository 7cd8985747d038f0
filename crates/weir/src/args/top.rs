//! Arguments of `weir top`.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Servers to watch: the replicas of one service, or several services.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) urls: Vec<String>,
    /// Seconds between two looks, 0.1 to 60.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Write one table of what happened within an interval, and end.
    #[arg(long)]
    pub(crate) once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.1..=60.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a number of seconds from 0.1 to 60".to_owned())
}
