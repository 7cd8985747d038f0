//! What people and machines read on standard output. The only place that prints.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::environment;

/// How to write: text or JSON, with colour on a terminal.
pub(crate) struct Output {
    json: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, color: io::stdout().is_terminal() && !environment::no_color() }
    }

    /// Whether `--json` was given.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes `text` and a line end.
    pub(crate) fn line(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// Writes bytes as they are. A reader that went away (`| head`) ends us quietly, as it
    /// does every other tool in a pipe; a full disk must not pass for success.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(e) => {
                self.error(&format!("standard output cannot be written: {e}"));
                std::process::exit(1);
            }
        }
    }

    /// Writes a JSON document: indented on a terminal, one line when piped.
    pub(crate) fn json(&self, value: &Value) {
        let indented = io::stdout().is_terminal();
        self.line(&if indented { format!("{value:#}") } else { value.to_string() });
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&self.paint("1", text));
    }

    /// Rows of `name  value`, the names aligned.
    pub(crate) fn pairs(&self, rows: &[(&str, String)]) {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            let mut lines = value.lines();
            let padded = format!("{name:width$}");
            self.line(&format!("  {}  {}", self.paint("36", &padded), lines.next().unwrap_or_default()));
            lines.for_each(|line| self.line(&format!("  {:width$}  {line}", "")));
        }
    }

    /// A table with a header, columns aligned.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        let cell = |row: &Vec<String>, i: usize| row.get(i).map_or(0, |c| c.chars().count());
        let widths: Vec<usize> = header
            .iter()
            .enumerate()
            .map(|(i, name)| rows.iter().map(|row| cell(row, i)).max().unwrap_or(0).max(name.len()))
            .collect();
        let line = |cells: &[String]| {
            let padded: Vec<_> =
                cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("  {}", padded.join("  ")).trim_end().to_owned()
        };
        let names: Vec<_> = header.iter().map(|n| (*n).to_owned()).collect();
        self.line(&self.paint("36", &line(&names)));
        rows.iter().for_each(|row| self.line(&line(row)));
    }

    /// A mistake or failure, on standard error.
    pub(crate) fn error(&self, text: &str) {
        let color = io::stderr().is_terminal() && !environment::no_color();
        let label = if color { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        let _ = writeln!(io::stderr(), "{label} {text}");
    }

    /// Something to know while a command works, on standard error.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A line that replaces itself; nothing where nobody watches.
    pub(crate) fn progress(&self, text: &str) {
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[2K{text}");
            let _ = io::stderr().flush();
        }
    }

    /// `text` in an ANSI colour, where there are any.
    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Bytes in the largest unit that leaves a whole number before the point.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_units_that_people_read() {
        let sizes = [0, 1023, 1536, 5 << 20, 3 << 40].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 GiB"]);
    }
}
