//! The one place that writes to the terminal.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
};

/// How things are shown: in colour and over each other on a terminal, plain when piped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether escape sequences may be written.
    pub(crate) fancy: bool,
}

impl Style {
    /// What suits standard error as it is now.
    pub(crate) fn of_stderr() -> Self {
        // Reason: xtask is a program, and this is where it reads its environment.
        #[allow(clippy::disallowed_methods)]
        let plain_wanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { fancy: stderr().is_terminal() && !plain_wanted }
    }

    /// `text` in bold.
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    /// `text` in red.
    pub(crate) fn red(self, text: impl Display) -> String {
        self.wrap("31", text)
    }

    /// `text` in green.
    pub(crate) fn green(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.fancy { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// One line for whoever reads the result. A closed pipe is not our problem.
pub(crate) fn result(line: impl Display) {
    let _ = writeln!(stdout().lock(), "{line}");
}

/// One line about how it goes.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Text over the line the cursor is on; only for a terminal.
pub(crate) fn over(text: impl Display) {
    let mut out = stderr().lock();
    let _ = write!(out, "\r\x1b[2K{text}");
    let _ = out.flush();
}
