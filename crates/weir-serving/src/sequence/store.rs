//! Where sequences are kept besides the process that runs them.

use std::{future::Future, pin::Pin, time::Duration};

use weir_types::{Error, unique};

/// What a store answers.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Which write of a sequence a value is of: its step, and a number that no other write has. A
/// value begins with its token, so that a store can compare it without reading further.
///
/// The step alone would not do: two replicas that go on from one step write different states of
/// the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; Token::BYTES]);

impl Token {
    /// Its length.
    pub const BYTES: usize = 16;

    /// A token of `step` that nobody else has.
    pub(super) fn new(step: u64) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&step.to_be_bytes());
        bytes[8..].copy_from_slice(&unique().to_be_bytes());
        Self(bytes)
    }

    /// The token that `value` begins with.
    pub fn of(value: &[u8]) -> Option<Self> {
        value.first_chunk().copied().map(Self)
    }

    /// The step.
    pub fn step(self) -> u64 {
        let [step @ .., _, _, _, _, _, _, _, _] = self.0;
        u64::from_be_bytes(step)
    }

    /// As a value begins with it.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// What a store must hold for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Anything or nothing: a sequence that begins takes the place of an earlier one.
    Anything,
    /// A value that begins with one of these: the last one known, and those whose writes were
    /// not confirmed.
    OneOf(&'a [Token]),
}

impl Expected<'_> {
    /// Whether `value` is what is expected.
    pub fn allows(&self, value: Option<&[u8]>) -> bool {
        match self {
            Expected::Anything => true,
            Expected::OneOf(tokens) => value.and_then(Token::of).is_some_and(|found| tokens.contains(&found)),
        }
    }
}

/// Keeps sequences where another process finds them. Every method is one atomic operation on
/// one key; one that fails may have been done.
pub trait SequenceStore: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// `Unavailable` where the store does not answer.
    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Vec<u8>>>;

    /// Stores `value` for `ttl` if what is there is `expected`; whether it was.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn put<'a>(
        &'a self,
        key: &'a [u8],
        expected: Expected<'a>,
        value: Vec<u8>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool>;

    /// Forgets `key` if what is there is `expected`; whether it was.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn delete<'a>(&'a self, key: &'a [u8], expected: Expected<'a>) -> StoreFuture<'a, bool>;
}
