//! The command line.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use http::{HeaderName, HeaderValue};

/// What is asked for.
pub(crate) struct Arguments {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) bodies: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) connections: usize,
    /// Requests at a time on each connection.
    pub(crate) streams: usize,
    pub(crate) duration: Duration,
    /// Requests a second; as fast as the answers come if there is none.
    pub(crate) rate: Option<f64>,
    /// A value of the header `x-weir-model`, and the file of the answers that belong to it.
    pub(crate) expected: Vec<(String, String)>,
    /// Instead of measuring: sends every body once and writes the answers to this file.
    pub(crate) answers: Option<String>,
}

impl Arguments {
    /// Reads `--name value` pairs.
    ///
    /// # Errors
    /// Names that are unknown, values that are no such thing, and what is missing.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut address, mut read) = (None, Self::default());
        while let Some(name) = words.next() {
            let value = words.next().with_context(|| format!("{name} has no value"))?;
            match name.as_str() {
                "--address" => address = Some(value.parse()?),
                _ => read.set(&name, value)?,
            }
        }
        read.address = address.context("--address is missing")?;
        if read.path.is_empty() || read.bodies.is_empty() {
            bail!("--path or --bodies is missing");
        }
        Ok(read)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "--path" => self.path = value,
            "--bodies" => self.bodies = value,
            "--header" => self.headers.push(header(&value)?),
            "--connections" => self.connections = value.parse()?,
            "--streams" => self.streams = value.parse()?,
            "--seconds" => self.duration = Duration::try_from_secs_f64(value.parse()?)?,
            "--rate" => self.rate = Some(value.parse()?),
            "--expect" => {
                let (model, file) = value.split_once('=').context("--expect is MODEL/VERSION=FILE")?;
                self.expected.push((model.to_owned(), file.to_owned()));
            }
            "--answers" => self.answers = Some(value),
            _ => bail!("{name} is unknown"),
        }
        Ok(())
    }
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            path: String::new(),
            bodies: String::new(),
            headers: Vec::new(),
            connections: 16,
            streams: 1,
            duration: Duration::from_secs(1),
            rate: None,
            expected: Vec::new(),
            answers: None,
        }
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("--header is name:value")?;
    Ok((name.parse()?, value.trim().parse()?))
}
