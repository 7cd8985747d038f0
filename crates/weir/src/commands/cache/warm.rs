//! `weir cache warm`: requests as any client's, one at a time and not too many, because real
//! traffic comes first.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use weir_clients::{Client, ClientError, Reply};
use weir_load::parse_rate;

use super::{server, url};
use crate::{
    args::Warm,
    commands::{load::print::grouped, predict::rows},
    output::Output,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often a body is sent that a busy server refuses.
const ATTEMPTS: u32 = 10;
/// Longest pause between two of them, whatever the server says.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest time between two bodies: slower than that is a slip.
const LONGEST_GAP: Duration = Duration::from_secs(3_600);
/// Whatever the model's `[cache] default` is, these are to be stored, and need not be computed again: a
/// year is the longest that anything is.
const WANTED: (&str, &str) = ("Cache-Control", "max-age=31622400");
/// Columns of the bar.
const BAR: u64 = 30;

pub(super) fn run(options: &Warm, output: &Output) -> anyhow::Result<ExitCode> {
    let gap = gap(&options.rate)?;
    let base = match &options.url {
        Some(url) => url.clone(),
        None => url(server(&options.config)?.listen),
    };
    let (input, progress) = Progress::open(&options.file)?;
    let mut warming = Warming {
        client: Client::new(&base, TIMEOUT),
        path: path(options)?,
        done: Done::default(),
        output,
        progress,
    };
    let begun = Instant::now();
    let mut due = begun;
    for (index, row) in rows(input).enumerate() {
        wait_until(due);
        // Behind schedule is not made up for: that would be the burst that --rate rules out.
        due = due.max(Instant::now()) + gap;
        warming.send(index + 1, &row?)?;
    }
    output.progress("");
    warming.done.tell(begun.elapsed(), output);
    Ok(if warming.done.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The time from one body to the next.
fn gap(rate: &str) -> anyhow::Result<Duration> {
    let rate = parse_rate(rate).ok();
    let gap = rate.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
    gap.filter(|gap| *gap <= LONGEST_GAP)
        .ok_or_else(|| anyhow!("--rate is a rate above 0, one an hour at least: such as 100, 0.5 or 2k"))
}

fn path(options: &Warm) -> anyhow::Result<String> {
    let name: weir_types::ModelName = options.model.parse()?;
    Ok(match (&options.path, &options.version) {
        (Some(path), _) => path.clone(),
        (None, Some(version)) => {
            let version: weir_types::Version = version.parse()?;
            format!("/v1/models/{name}/versions/{version}:predict")
        }
        (None, None) => format!("/v1/models/{name}:predict"),
    })
}

fn wait_until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// What came of the bodies.
#[derive(Default)]
struct Done {
    computed: u64,
    partly: u64,
    stored: u64,
    refused: u64,
}

impl Done {
    fn all(&self) -> u64 {
        self.computed + self.partly + self.stored + self.refused
    }

    fn tell(&self, took: Duration, output: &Output) {
        let Self { computed, partly, stored, refused } = *self;
        if output.is_json() {
            let seconds = took.as_secs_f64();
            return output.json(&json!({"bodies": self.all(), "computed": computed, "partly_stored": partly,
                "stored_already": stored, "refused": refused, "seconds": seconds}));
        }
        output.line(&format!(
            "{} bodies in {:.1} s: {} computed, {} in part, {} stored already, {} refused",
            grouped(self.all()),
            took.as_secs_f64(),
            grouped(computed),
            grouped(partly),
            grouped(stored),
            grouped(refused),
        ));
    }
}

struct Warming<'a> {
    client: Client,
    path: String,
    done: Done,
    output: &'a Output,
    progress: Progress,
}

impl Warming<'_> {
    fn ask(&self, body: &[u8]) -> Result<Reply, ClientError> {
        self.client.post_json_with(&self.path, &[WANTED], body)
    }

    /// Sends one body, again while the server is busy.
    fn send(&mut self, line: usize, body: &[u8]) -> anyhow::Result<()> {
        self.output.progress(&self.progress.line(self.done.all(), ""));
        self.progress.sent += body.len() as u64;
        for _ in 1..ATTEMPTS {
            let reply = self.ask(body)?;
            if !matches!(reply.status, 429 | 503) {
                return self.take(line, &reply);
            }
            self.output.progress(&self.progress.line(self.done.all(), "the server is busy: waiting"));
            wait_until(Instant::now() + pause(&reply));
        }
        self.take(line, &self.ask(body)?)
    }

    fn take(&mut self, line: usize, reply: &Reply) -> anyhow::Result<()> {
        let verdict = reply.headers.get("x-cache").and_then(|word| word.to_str().ok());
        match (reply.status, verdict) {
            (200, Some("hit")) => self.done.stored += 1,
            (200, Some("partial")) => self.done.partly += 1,
            (200, Some(_)) => self.done.computed += 1,
            (200, None) => bail!("{} keeps no answers: give the model's model.toml a [cache]", self.path),
            // The same for every line.
            (404, _) => bail!("{}: {}", self.path, why(reply)),
            _ => {
                self.done.refused += 1;
                self.output.progress("");
                self.output.error(&format!("line {line}: {}", why(reply)));
            }
        }
        Ok(())
    }
}

/// How long the server asks to wait.
fn pause(reply: &Reply) -> Duration {
    let seconds = reply.headers.get("retry-after").and_then(|s| s.to_str().ok()?.parse().ok());
    seconds.map_or(Duration::from_secs(1), Duration::from_secs).min(LONGEST_PAUSE)
}

fn why(reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match &body["detail"] {
        Value::Null => format!("the server answered {}", reply.status),
        Value::String(text) => text.clone(),
        errors => errors.to_string(),
    }
}

/// How far it is.
#[derive(Default)]
struct Progress {
    /// Bytes of the bodies that were sent, line ends included.
    sent: u64,
    /// Bytes of the file, where that is known.
    length: Option<u64>,
}

impl Progress {
    fn open(path: &Path) -> anyhow::Result<(Box<dyn Read>, Self)> {
        if path == Path::new("-") {
            return Ok((Box::new(io::stdin().lock()), Self::default()));
        }
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let length = file.metadata().ok().map(|data| data.len()).filter(|length| *length > 0);
        Ok((Box::new(file), Self { sent: 0, length }))
    }

    /// The line that is shown when so many bodies are done.
    fn line(&self, done: u64, note: &str) -> String {
        let Some(length) = self.length else { return format!("{} bodies  {note}", grouped(done)) };
        // A file may grow while it is read.
        let sent = self.sent.min(length);
        let full = (sent * BAR / length) as usize;
        let bar = "█".repeat(full) + &"░".repeat(BAR as usize - full);
        format!("{bar} {:3} %  {} bodies  {note}", sent * 100 / length, grouped(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_one_that_ends() {
        assert_eq!(gap("100").unwrap(), Duration::from_millis(10));
        assert_eq!(gap("0.5").unwrap(), Duration::from_secs(2));
        for rate in ["0", "1e-20", "-1", "nan", "inf", "", "fast"] {
            let gap = gap(rate);
            assert!(gap.is_err(), "{rate}: {gap:?}");
        }
    }

    #[test]
    fn a_bar_is_as_long_as_the_file_is_sent() {
        let progress = Progress { sent: 50, length: Some(100) };
        let line = progress.line(1_234, "");
        assert!(line.contains(" 50 %") && line.contains("1,234 bodies"), "{line}");
        assert_eq!(line.matches('█').count() as u64, BAR / 2);
        assert_eq!(Progress::default().line(7, "x"), "7 bodies  x");
    }
}
