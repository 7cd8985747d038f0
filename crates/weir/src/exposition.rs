//! Reads what `/metrics` writes: Prometheus's text format 0.0.4 and OpenMetrics 1.0.
//!
//! Written for what may come from anywhere: a body has a largest size and a largest number of
//! samples, and every line is looked at once. What is read keeps its order.

mod line;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use line::{Exemplar, Sample};

/// Largest body that is read, bytes. Weir's own, with a hundred models, is under a megabyte.
const MAX_BYTES: usize = 16 << 20;
/// Most samples: each takes some hundred bytes, however short its line.
const MAX_SAMPLES: usize = 200_000;
/// Most families: a line without samples makes one, too.
const MAX_FAMILIES: usize = 10_000;

/// All that was exposed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Exposition {
    /// In the order of the body.
    pub(crate) families: Vec<Family>,
}

/// The samples that share a name, but for suffixes such as `_bucket`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Family {
    /// Without the suffixes of its samples, also where the format writes `_total` here.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) help: String,
    /// Empty where it is not said.
    pub(crate) unit: String,
    pub(crate) samples: Vec<Sample>,
}

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Info,
    #[default]
    Unknown,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "counter" => Kind::Counter,
            // A set of states is written as one gauge a state.
            "gauge" | "stateset" => Kind::Gauge,
            "histogram" | "gaugehistogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "info" => Kind::Info,
            "untyped" | "unknown" => Kind::Unknown,
            _ => return None,
        })
    }

    /// What may follow the family's name in a sample's.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Kind::Counter => &["_total", "_created"],
            Kind::Histogram => &["_bucket", "_sum", "_count", "_created", "_gsum", "_gcount"],
            Kind::Summary => &["", "_sum", "_count", "_created"],
            Kind::Info => &["_info"],
            Kind::Gauge | Kind::Unknown => &[""],
        }
    }
}

/// Where reading ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// From 1; 0 for the body as a whole.
    line: usize,
    why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Reads a body. What follows `# EOF` is not looked at.
///
/// # Errors
/// Where it is no exposition, or a larger one than is read.
pub(crate) fn parse(body: &[u8]) -> Result<Exposition, Unreadable> {
    let whole = |why: String| Unreadable { line: 0, why };
    if body.len() > MAX_BYTES {
        return Err(whole(format!("{} bytes of metrics; {MAX_BYTES} are read at most", body.len())));
    }
    let text = str::from_utf8(body).map_err(|e| whole(format!("not UTF-8: {e}")))?;
    let mut reader = Reader::default();
    for (index, line) in text.split('\n').enumerate() {
        if line == "# EOF" {
            break;
        }
        reader.line(line).map_err(|why| Unreadable { line: index + 1, why })?;
    }
    Ok(reader.exposition)
}

#[derive(Default)]
struct Reader {
    exposition: Exposition,
    samples: usize,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment),
            None if line.trim().is_empty() => Ok(()),
            None => self.sample(line::sample(line)?),
        }
    }

    /// `HELP`, `TYPE` or `UNIT`; any other comment says nothing.
    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.trim_start().splitn(3, ' ');
        let (keyword, name, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
        match keyword {
            Some("HELP") => self.family(name)?.help = line::unescape(rest),
            Some("UNIT") => self.family(name)?.unit = rest.to_owned(),
            Some("TYPE") => {
                let kind =
                    Kind::named(rest.trim()).ok_or_else(|| format!("{rest:?} is no type of metric"))?;
                let family = self.family(name)?;
                family.kind = kind;
                // The older format names a counter's family as its samples.
                let suffix = match kind {
                    Kind::Counter => "_total",
                    Kind::Info => "_info",
                    _ => "",
                };
                if let Some(bare) = family.name.strip_suffix(suffix).filter(|bare| !bare.is_empty()) {
                    family.name = bare.to_owned();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The family of this name if it is the last one, else a new one: the lines of a family are
    /// together in both formats.
    fn family(&mut self, name: &str) -> Result<&mut Family, String> {
        let families = &mut self.exposition.families;
        let known = families.last().is_some_and(|last| last.name == name && last.samples.is_empty());
        if !known {
            if families.len() == MAX_FAMILIES {
                return Err(format!("more families than are read, {MAX_FAMILIES}"));
            }
            families.push(Family { name: name.to_owned(), ..Family::default() });
        }
        let last = families.len() - 1;
        Ok(&mut families[last])
    }

    fn sample(&mut self, sample: Sample) -> Result<(), String> {
        self.samples += 1;
        if self.samples > MAX_SAMPLES {
            return Err(format!("more samples than are read, {MAX_SAMPLES}"));
        }
        let last = self.exposition.families.last_mut();
        match last.filter(|family| family.has(&sample.name)) {
            Some(family) => family.samples.push(sample),
            None => self.family(&sample.name.clone())?.samples.push(sample),
        }
        Ok(())
    }
}

impl Family {
    /// Whether a sample of this name is one of the family's.
    fn has(&self, name: &str) -> bool {
        let suffix = name.strip_prefix(&self.name);
        suffix.is_some_and(|suffix| self.kind.suffixes().contains(&suffix))
    }
}

#[cfg(test)]
impl Exposition {
    /// The family of this name.
    pub(crate) fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }
}
