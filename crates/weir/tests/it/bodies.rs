//! Bodies too long to write down.

use serde::Deserialize;

/// `before`, `text` again and again, `after`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyRepeat {
    #[serde(default)]
    before: String,
    text: String,
    times: usize,
    #[serde(default)]
    after: String,
}

impl BodyRepeat {
    /// Its bytes; `{megabyte}` in `text` is a megabyte of spaces.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let text = self.text.replace("{megabyte}", &" ".repeat(1 << 20));
        format!("{}{}{}", self.before, text.repeat(self.times), self.after).into_bytes()
    }
}
