//! What can go wrong, in the caller's terms.

use std::fmt;

use weir_types::{Error, ErrorCode};

use crate::store::StoreError;

/// Which part of a row or event a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The row or event as a whole, or their number.
    Whole,
    /// The entity's key.
    Entity,
    /// The event time.
    EventTime,
    /// The event's id.
    EventId,
    /// The value of this name.
    Value(Box<str>),
}

impl Part {
    /// A value's name, as much as a message may repeat of the caller's text.
    pub(crate) fn value(name: &str) -> Self {
        Part::Value(name.chars().take(64).collect::<String>().into())
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which row or event, by its place in the request.
    pub row: usize,
    /// Which part of it.
    pub part: Part,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, part, message } = self;
        match part {
            Part::Whole => write!(f, "row {row}: {message}"),
            Part::Entity => write!(f, "row {row}, entity: {message}"),
            Part::EventTime => write!(f, "row {row}, event_time: {message}"),
            Part::EventId => write!(f, "row {row}, id: {message}"),
            Part::Value(name) => write!(f, "row {row}, values.{name}: {message}"),
        }
    }
}

/// Why features or events were not taken or given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// There is no such view or stream.
    #[error("{0}")]
    Unknown(String),
    /// What is asked for is not what the view is for, such as putting into aggregates.
    #[error("{0}")]
    Unsuited(String),
    /// Everything that is wrong with the rows, at most 100 problems; nothing was written.
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Invalid(Vec<Problem>),
    /// The store did not do it. A write may have been done in part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FeatureError> for Error {
    fn from(error: FeatureError) -> Self {
        let message = error.to_string();
        match error {
            FeatureError::Unknown(_) => Error::not_found(message),
            FeatureError::Unsuited(_) => Error::invalid(message),
            FeatureError::Invalid(_) => Error::new(ErrorCode::ValidationFailed, message),
            FeatureError::Store(store) => store.into(),
        }
    }
}
