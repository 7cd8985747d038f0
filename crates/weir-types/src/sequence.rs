//! Sequences: requests that belong together because the model remembers the ones before.

use std::fmt;

/// Longest text of a sequence's id, bytes.
const MAX_ID_BYTES: usize = 128;

/// What a client calls a sequence (Triton's correlation id): a number or a text.
///
/// A text that is a number as JSON writes whole numbers *is* that number: HTTP headers know
/// texts only, and `Sequence-Id: 7` must be the sequence that a V2 client calls 7.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SequenceId {
    /// Not 0: Triton's clients say 0 for "no sequence".
    Number(u64),
    /// Visible ASCII, 1 to 128 bytes, no number.
    Text(Box<str>),
}

impl SequenceId {
    /// The id that `number` is; `None` for 0, which means "no sequence".
    pub fn number(number: u64) -> Option<Self> {
        (number != 0).then_some(Self::Number(number))
    }

    /// The id that `text` is; `None` for the empty text and for `"0"`, which mean "no sequence".
    ///
    /// # Errors
    /// What an id may be, for a text that is none.
    pub fn text(text: &str) -> Result<Option<Self>, String> {
        if text.len() > MAX_ID_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "the id of a sequence is a whole number from 1 or 1 to {MAX_ID_BYTES} visible ASCII characters"
            ));
        }
        let canonical = |number: &u64| number.to_string() == text;
        if let Some(number) = text.parse().ok().filter(canonical) {
            return Ok(Self::number(number));
        }
        Ok((!text.is_empty()).then(|| Self::Text(text.into())))
    }
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// Which sequence a request goes on with, and whether it is its first or last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceStep {
    /// The sequence.
    pub id: SequenceId,
    /// Whether it begins (again) with this step.
    pub start: bool,
    /// Whether it ends with this step.
    pub end: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_id_however_it_is_written() {
        let text = |text: &str| SequenceId::text(text).unwrap();
        assert_eq!(text("7"), SequenceId::number(7));
        assert_eq!(text(&u64::MAX.to_string()), SequenceId::number(u64::MAX));
        for other in ["07", "+7", "18446744073709551616", "a-1"] {
            assert_eq!(text(other), Some(SequenceId::Text(other.into())));
        }
        assert_eq!((text(""), text("0"), SequenceId::number(0)), (None, None, None));
    }

    #[test]
    fn ids_are_short_and_harmless() {
        assert!(SequenceId::text(&"x".repeat(128)).is_ok());
        for bad in [&"x".repeat(129)[..], "a b", "é", "a\n"] {
            assert!(SequenceId::text(bad).unwrap_err().contains("1 to 128"), "{bad}");
        }
    }
}
