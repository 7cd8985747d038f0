//! What Redis says.

use bytes::Bytes;
use redis::{ServerError, Value};

use super::{RedisError, router::Outcome};
use crate::plain;

/// What a script returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `nil` or `false`.
    Nil,
    /// A number, cut to a whole one as Redis does it.
    Integer(i64),
    /// A string.
    Bytes(Bytes),
    /// A table, up to its first `nil`.
    List(Vec<Reply>),
}

impl Reply {
    /// From what came over the wire.
    pub(crate) fn new(value: Value) -> Result<Self, RedisError> {
        Ok(match value {
            Value::Nil => Self::Nil,
            Value::Int(number) => Self::Integer(number),
            Value::BulkString(bytes) => Self::Bytes(bytes.into()),
            Value::SimpleString(text) => Self::Bytes(text.into()),
            Value::Okay => Self::Bytes(Bytes::from_static(b"OK")),
            Value::Array(items) => Self::List(items.into_iter().map(Self::new).collect::<Result<_, _>>()?),
            Value::ServerError(error) => return Err(refusal(&error)),
            other => return Err(unfit(&other)),
        })
    }
}

/// A value, or none.
pub(crate) fn bulk(value: Value) -> Result<Option<Bytes>, RedisError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::ServerError(error) => Err(refusal(&error)),
        other => Err(unfit(&other)),
    }
}

/// Whether it was done; it was not where a condition did not hold.
pub(crate) fn done(value: Value) -> Result<bool, RedisError> {
    match value {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        Value::ServerError(error) => Err(refusal(&error)),
        other => Err(unfit(&other)),
    }
}

/// How many.
pub(crate) fn number(value: Value) -> Result<u64, RedisError> {
    match value {
        Value::Int(number) => Ok(u64::try_from(number).unwrap_or(0)),
        Value::ServerError(error) => Err(refusal(&error)),
        other => Err(unfit(&other)),
    }
}

/// A page of `SCAN`: where the next one begins, and its keys.
pub(crate) fn page(value: Value) -> Result<(Vec<u8>, Vec<Vec<u8>>), RedisError> {
    let unfit = || RedisError::Garbage("SCAN gave no page of keys".to_owned());
    let (next, keys) = match value {
        Value::ServerError(error) => return Err(refusal(&error)),
        Value::Array(parts) => {
            <[Value; 2]>::try_from(parts).map(|[next, keys]| (next, keys)).map_err(|_| unfit())?
        }
        _ => return Err(unfit()),
    };
    let (Value::BulkString(next), Value::Array(keys)) = (next, keys) else { return Err(unfit()) };
    let key = |key| match key {
        Value::BulkString(key) => Ok(key),
        _ => Err(unfit()),
    };
    Ok((next, keys.into_iter().map(key).collect::<Result<_, _>>()?))
}

/// What its error means: ask again later, or do not ask like that.
pub(crate) fn refusal(error: &ServerError) -> RedisError {
    match is_passing(error) {
        true => RedisError::Unavailable(text(error)),
        false => RedisError::Refused(text(error)),
    }
}

/// Its code and its words.
pub(crate) fn text(error: &ServerError) -> String {
    plain(&format!("{} {}", error.code(), error.details().unwrap_or_default()))
}

/// Whether the server will answer otherwise when it is itself again, or another is in its place.
fn is_passing(error: &ServerError) -> bool {
    const PASSING: [&str; 6] = ["CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "BUSY"];
    PASSING.contains(&error.code()) || is_lost(error)
}

/// Whether the connection is of no use: the server is not ready, is the master no more, or forgot who we
/// are.
pub(crate) fn is_lost(error: &ServerError) -> bool {
    ["LOADING", "MASTERDOWN", "READONLY", "NOAUTH"].contains(&error.code())
}

/// Whether the server has not seen the script whose hash it was given.
pub(crate) fn is_unseen(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Value::ServerError(error)) if error.code() == "NOSCRIPT")
}

pub(crate) fn unfit(value: &Value) -> RedisError {
    RedisError::Garbage(plain(&format!("{value:?}")))
}
