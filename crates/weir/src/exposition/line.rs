//! One line: a sample, its labels, and its exemplar.

/// Most labels of one sample.
const MAX_LABELS: usize = 64;

/// Names and values.
pub(crate) type Labels = Vec<(String, String)>;

/// One value.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sample {
    /// With the suffix.
    pub(crate) name: String,
    /// In the order of the line.
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    /// OpenMetrics only.
    pub(crate) exemplar: Option<Exemplar>,
}

/// One observation of those that a sample counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    /// Seconds since 1970 began.
    pub(crate) at: Option<f64>,
}

impl Sample {
    /// The value of a label; empty where there is none, which means the same.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// `name{label="value",…} value [time] [# {label="value",…} value [time]]`.
///
/// # Errors
/// What is wrong.
pub(super) fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ', '\t']).ok_or("a name without a value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name) {
        return Err(format!("{:?} is no name of a metric", shortened(name)));
    }
    let (labels, rest) = labels(rest)?;
    let (own, exemplar) = match rest.split_once('#') {
        Some((own, exemplar)) => (own, Some(self::exemplar(exemplar)?)),
        None => (rest, None),
    };
    // A time is read past: what is live is asked now.
    let (value, _) = numbers(own)?;
    Ok(Sample { name: name.to_owned(), labels, value, exemplar })
}

fn exemplar(text: &str) -> Result<Exemplar, String> {
    let (labels, rest) = labels(text.trim_start())?;
    let (value, at) = numbers(rest)?;
    Ok(Exemplar { labels, value, at })
}

/// A value and perhaps a time.
fn numbers(text: &str) -> Result<(f64, Option<f64>), String> {
    let mut words = text.split_ascii_whitespace();
    let value = number(words.next().ok_or("a name without a value")?)?;
    let time = words.next().map(number).transpose()?;
    match words.next() {
        None => Ok((value, time)),
        Some(word) => Err(format!("{:?} follows the value", shortened(word))),
    }
}

/// As Go and C write numbers; Rust reads `inf` and `nan` in any case, and `+`.
fn number(word: &str) -> Result<f64, String> {
    word.parse().map_err(|_| format!("{:?} is no number", shortened(word)))
}

/// The labels in braces, where there are any, and what follows them.
fn labels(text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Vec::new();
    let Some(mut rest) = text.strip_prefix('{') else { return Ok((labels, text)) };
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if labels.len() == MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} labels"));
        }
        let (name, after) = rest.split_once('=').ok_or("labels without an end")?;
        let name = name.trim_end();
        if !is_name(name) {
            return Err(format!("{:?} is no name of a label", shortened(name)));
        }
        let quoted = after.trim_start().strip_prefix('"').ok_or("a label's value is in quotes")?;
        let (value, after) = value(quoted)?;
        labels.push((name.to_owned(), value));
        rest = after;
    }
}

/// A quoted value up to its closing quote, and what follows.
fn value(quoted: &str) -> Result<(String, &str), String> {
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok((unescape(&quoted[..at]), &quoted[at + 1..])),
            _ => {}
        }
    }
    Err("a label's value without an end".to_owned())
}

/// Undoes `\\`, `\"` and `\n`; any other backslash stands for itself.
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(c @ ('\\' | '"')) => plain.push(c),
            other => {
                plain.push('\\');
                plain.extend(other);
            }
        }
    }
    plain
}

fn is_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    name.bytes().all(word) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// What came, as far as an error repeats it.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
