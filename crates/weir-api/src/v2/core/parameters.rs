//! Parameters of requests, inputs and outputs.

use std::time::Duration;

use weir_types::{Error, SequenceId, SequenceStep};

/// One parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond [`i64::MAX`].
    Uint(u64),
    /// A number.
    Double(f64),
    /// Text.
    String(String),
}

/// Parameters in the order in which they came. A name is there once.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Parameters(pub(crate) Vec<(String, Parameter)>);

impl Parameters {
    /// The parameter called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Parameter> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// A flag.
    ///
    /// # Errors
    /// `InvalidArgument` where it is something else.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Parameter::Bool(b)) => Ok(Some(*b)),
            Some(_) => Err(Error::invalid(format!("the parameter `{name}` is true or false"))),
        }
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// `InvalidArgument` where it is something else.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u64>, Error> {
        let count = match self.get(name) {
            None => return Ok(None),
            Some(Parameter::Int(n)) => u64::try_from(*n).ok(),
            Some(Parameter::Uint(n)) => Some(*n),
            Some(_) => None,
        };
        match count {
            Some(n) => Ok(Some(n)),
            None => Err(Error::invalid(format!("the parameter `{name}` is a whole number from 0"))),
        }
    }

    /// `sequence_id`, `sequence_start` and `sequence_end` (Triton's sequence extension). An id of 0
    /// or of no characters means that there is none.
    ///
    /// # Errors
    /// `InvalidArgument` where one of them is something else, and for a start or an end of no
    /// sequence.
    pub(crate) fn sequence(&self) -> Result<Option<SequenceStep>, Error> {
        let id = match self.get("sequence_id") {
            None => None,
            Some(Parameter::String(text)) => SequenceId::text(text).map_err(Error::invalid)?,
            Some(_) => self.count("sequence_id")?.and_then(SequenceId::number),
        };
        let flag = |name| Ok::<_, Error>(self.flag(name)?.unwrap_or(false));
        let (start, end) = (flag("sequence_start")?, flag("sequence_end")?);
        match id {
            Some(id) => Ok(Some(SequenceStep { id, start, end })),
            None if start || end => Err(Error::invalid(
                "a sequence starts and ends by its id: send the parameter `sequence_id` too",
            )),
            None => Ok(None),
        }
    }

    /// `timeout`, microseconds: how long the caller waits. 0 means that it does not say
    /// (Triton's schedule policy extension).
    ///
    /// # Errors
    /// `InvalidArgument` where it is no whole number from 0.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Error> {
        Ok(self.count("timeout")?.filter(|&us| us > 0).map(Duration::from_micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: Parameter) -> Parameters {
        Parameters(vec![(name.into(), value)])
    }

    #[test]
    fn a_timeout_is_microseconds_and_zero_is_none() {
        assert_eq!(one("timeout", Parameter::Int(5)).timeout(), Ok(Some(Duration::from_micros(5))));
        assert_eq!(one("timeout", Parameter::Int(0)).timeout(), Ok(None));
        assert!(one("timeout", Parameter::Int(-1)).timeout().is_err());
        assert!(one("timeout", Parameter::Double(1.0)).timeout().is_err());
    }

    #[test]
    fn a_sequence_is_named_by_a_number_or_a_text_and_zero_is_none() {
        let with = |id| {
            let flags = [("sequence_start", true), ("sequence_end", false)];
            let flags = flags.map(|(name, on)| (name.to_owned(), Parameter::Bool(on)));
            Parameters([("sequence_id".to_owned(), id)].into_iter().chain(flags).collect()).sequence()
        };
        let step = |id| Ok(Some(SequenceStep { id, start: true, end: false }));
        assert_eq!(with(Parameter::Int(7)), step(SequenceId::Number(7)));
        assert_eq!(with(Parameter::Uint(u64::MAX)), step(SequenceId::Number(u64::MAX)));
        assert_eq!(with(Parameter::String("7".into())), step(SequenceId::Number(7)));
        assert_eq!(with(Parameter::String("a".into())), step(SequenceId::Text("a".into())));
        for none in [Parameter::Int(0), Parameter::String(String::new())] {
            assert_eq!(one("sequence_id", none.clone()).sequence(), Ok(None));
            assert!(with(none).unwrap_err().message.contains("`sequence_id`"));
        }
        for bad in [Parameter::Int(-1), Parameter::Bool(true), Parameter::String("a b".into())] {
            assert!(with(bad).is_err());
        }
    }

    #[test]
    fn flags_are_booleans_only() {
        assert_eq!(one("x", Parameter::Bool(true)).flag("x"), Ok(Some(true)));
        assert_eq!(one("x", Parameter::Bool(true)).flag("y"), Ok(None));
        assert!(one("x", Parameter::Int(1)).flag("x").is_err());
    }
}
