//! Parameters of requests, inputs and outputs.

use std::time::Duration;

use weir_types::Error;

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
    fn flags_are_booleans_only() {
        assert_eq!(one("x", Parameter::Bool(true)).flag("x"), Ok(Some(true)));
        assert_eq!(one("x", Parameter::Bool(true)).flag("y"), Ok(None));
        assert!(one("x", Parameter::Int(1)).flag("x").is_err());
    }
}
