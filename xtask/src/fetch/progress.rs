//! How far a download is: one moving line on a terminal, a few plain lines elsewhere.

use std::time::Instant;

use crate::say::{self, Style};

const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
const BAR: usize = 24;

/// One download being shown.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    total: u64,
    style: Style,
    begun: Instant,
    frame: usize,
    most: u64,
    quarters: u64,
}

impl Progress {
    /// Says what is coming. `total` is in bytes.
    pub(crate) fn start(label: &str, total: u64, style: Style) -> Self {
        if !style.fancy {
            say::note(format!("fetching {label}: a download of {}", megabytes(total)));
        }
        Self { label: label.to_owned(), total, style, begun: Instant::now(), frame: 0, most: 0, quarters: 0 }
    }

    /// `done` bytes are here. Fewer than before means that they were moved on.
    pub(crate) fn show(&mut self, done: u64) {
        self.most = self.most.max(done);
        let done = self.most;
        if self.style.fancy {
            self.frame += 1;
            say::over(self.moving(done));
        } else if let Some(line) = self.next_quarter(done) {
            say::note(line);
        }
    }

    /// It is over.
    pub(crate) fn end(&self, well: bool) {
        if self.style.fancy {
            say::over("");
        }
        if well {
            let seconds = self.begun.elapsed().as_secs_f64();
            say::note(format!("fetched {} in {seconds:.1} s", self.style.bold(&self.label)));
        }
    }

    fn moving(&self, done: u64) -> String {
        let spinner = SPINNER[self.frame % SPINNER.len()];
        let filled = (BAR as u64 * done.min(self.total) / self.total.max(1)) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
        format!(
            "{spinner} {} [{bar}] {} of {}",
            self.style.bold(&self.label),
            megabytes(done),
            megabytes(self.total)
        )
    }

    fn next_quarter(&mut self, done: u64) -> Option<String> {
        let quarters = (4 * done.min(self.total) / self.total.max(1)).min(3);
        let passed = quarters > self.quarters;
        self.quarters = self.quarters.max(quarters);
        passed.then(|| format!("  {} %: {} of {}", 25 * quarters, megabytes(done), megabytes(self.total)))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(fancy: bool) -> Progress {
        Progress {
            label: "a".into(),
            total: 1_000_000,
            style: Style { fancy },
            begun: Instant::now(),
            frame: 0,
            most: 0,
            quarters: 0,
        }
    }

    #[test]
    fn plain_output_has_one_line_a_quarter() {
        let mut progress = progress(false);
        let shown: Vec<_> = (0..=100).filter_map(|percent| progress.next_quarter(percent * 10_000)).collect();
        assert_eq!(
            shown,
            ["  25 %: 0.2 MB of 1.0 MB", "  50 %: 0.5 MB of 1.0 MB", "  75 %: 0.8 MB of 1.0 MB"]
        );
    }

    #[test]
    fn more_bytes_than_said_do_not_overflow_the_bar() {
        let line = progress(true).moving(5_000_000);
        assert!(line.contains(&"#".repeat(BAR)), "{line}");
    }
}
