//! The files that traces are written to: JSON arrays that are complete after each trace, so
//! that a server which is killed leaves nothing half.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{Epoch, Numbered};

/// How a file ends.
const TAIL: &[u8] = b"\n]\n";
/// What a new file counts for beside its bytes: file systems give out blocks.
const FILE_BYTES: u64 = 4096;
/// Names tried for the next file; those of earlier runs are left alone.
const MAX_FILES: u64 = 100_000;

/// Writes traces, at most so many bytes in all.
pub(super) struct Files {
    base: PathBuf,
    /// Bytes that may still be written.
    left: u64,
    epoch: Epoch,
    open: Option<Open>,
    /// The number of the next file, where each holds so many traces.
    next: u64,
    /// Whether it was told that nothing more is written.
    told: bool,
}

/// The file being written.
struct Open {
    file: File,
    /// Traces that it shall hold; 0 for all.
    frequency: u64,
    traces: u64,
    is_empty: bool,
}

impl Files {
    pub(super) fn new(base: PathBuf, most: u64, epoch: Epoch) -> Self {
        Self { base, left: most, epoch, open: None, next: 0, told: false }
    }

    /// Writes one trace; false where it cannot.
    pub(super) fn write(&mut self, numbered: &Numbered) -> bool {
        match self.try_write(numbered) {
            Ok(()) => {
                self.told = false;
                true
            }
            Err(error) => {
                if !self.told {
                    tracing::error!("traces are dropped: {}: {error}", self.base.display());
                }
                self.told = true;
                false
            }
        }
    }

    fn try_write(&mut self, numbered: &Numbered) -> io::Result<()> {
        let text = render(numbered, self.epoch);
        let new = self.open.as_ref().is_none_or(|open| !open.takes(numbered.frequency));
        let cost = text.len() as u64 + if new { FILE_BYTES } else { 0 };
        let full = || io::Error::other("as many bytes of traces are written as `trace_max` allows");
        let left = self.left.checked_sub(cost).ok_or_else(full)?;
        if new {
            self.open = Some(match numbered.frequency {
                0 => self.continued()?,
                frequency => self.numbered(frequency)?,
            });
        }
        let written = self.open.as_mut().map_or(Ok(()), |open| open.append(&text));
        match written {
            Ok(()) => self.left = left,
            // It may be cut off within a trace now: it is looked at again.
            Err(_) => self.open = None,
        }
        written
    }

    /// The one file, behind what earlier runs wrote into it.
    fn continued(&self) -> io::Result<Open> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.base)?;
        let length = file.metadata()?.len();
        let (mut first, mut last) = ([0; 1], [0; TAIL.len()]);
        if length == 0 {
            return Open::begin(file, 0);
        }
        file.read_exact(&mut first)?;
        if length > TAIL.len() as u64 {
            file.seek(SeekFrom::End(-(TAIL.len() as i64)))?;
            file.read_exact(&mut last)?;
        }
        if first != *b"[" || last != *TAIL {
            return Err(io::Error::other("the file holds something else than traces: move it away"));
        }
        Ok(Open { file, frequency: 0, traces: 0, is_empty: length == 1 + TAIL.len() as u64 })
    }

    /// The next file of those that hold `frequency` traces each.
    fn numbered(&mut self, frequency: u64) -> io::Result<Open> {
        while self.next < MAX_FILES {
            let mut path = self.base.clone().into_os_string();
            path.push(format!(".{}", self.next));
            self.next += 1;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Open::begin(file, frequency),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("there are {MAX_FILES} numbered files: move some away")))
    }
}

impl Open {
    fn begin(mut file: File, frequency: u64) -> io::Result<Self> {
        file.write_all(b"[")?;
        file.write_all(TAIL)?;
        Ok(Self { file, frequency, traces: 0, is_empty: true })
    }

    fn takes(&self, frequency: u64) -> bool {
        self.frequency == frequency && (frequency == 0 || self.traces < frequency)
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        self.file.seek(SeekFrom::End(-(TAIL.len() as i64)))?;
        let mut bytes = Vec::with_capacity(text.len() + 8);
        bytes.extend_from_slice(if self.is_empty { b"\n" } else { b",\n" });
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(TAIL);
        self.file.write_all(&bytes)?;
        self.is_empty = false;
        self.traces += 1;
        Ok(())
    }
}

/// The two objects that Triton writes of a request: what it is, and its timestamps.
fn render(numbered: &Numbered, epoch: Epoch) -> String {
    let Numbered { number, record, .. } = numbered;
    let version = record.version.parse::<u64>().map_or_else(|_| record.version.as_str().into(), Value::from);
    let mut about = json!({"id": number, "model_name": record.model, "model_version": version});
    if let Some(id) = &record.id {
        about["request_id"] = id.as_str().into();
    }
    let stamp = |&(name, at): &(&str, _)| {
        let ns = u64::try_from(epoch.nanoseconds(at)).unwrap_or(u64::MAX);
        json!({"name": name, "ns": ns})
    };
    let timestamps: Vec<Value> = record.marks.iter().map(stamp).collect();
    format!("{about},\n{}", json!({"id": number, "timestamps": timestamps}))
}
