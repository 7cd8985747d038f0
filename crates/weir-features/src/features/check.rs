//! Everything that is wrong with the rows of a request, at once.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use weir_types::Scalar;

use super::MAX_ROWS;
use crate::{
    config::KeyType,
    error::{FeatureError, Part, Problem},
    value::{Entity, EventTime, MAX_ENTITY_BYTES, cast},
    view::View,
};

/// Most problems told at once.
const MAX_PROBLEMS: usize = 100;

/// Collects problems.
pub(crate) struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    /// For a request of `count` rows.
    pub(crate) fn new(count: usize) -> Self {
        let mut checker = Self { problems: Vec::new() };
        if count > MAX_ROWS {
            let message =
                || format!("{count} rows at once, at most {MAX_ROWS} are taken: send several requests");
            checker.add(MAX_ROWS, Part::Whole, message);
        }
        checker
    }

    /// Whether as many problems are known as are told: what checks rows stops there. A message
    /// looks for the nearest known name, and a body has room for a million unknown ones.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub(crate) fn add(&mut self, row: usize, part: Part, message: impl FnOnce() -> String) {
        if !self.is_full() {
            self.problems.push(Problem { row, part, message: message() });
        }
    }

    /// The key of the entity's row in `view`.
    pub(crate) fn entity(&mut self, row: usize, view: &View, entity: &Entity) -> Option<Bytes> {
        let key = key(view, entity);
        key.map_err(|why| self.add(row, Part::Entity, || why)).ok()
    }

    /// The event time, if it is not too far ahead of `now`.
    pub(crate) fn time(&mut self, row: usize, time: EventTime, now: EventTime, ahead: Duration) -> EventTime {
        if time > now.plus(ahead) {
            let by = Duration::from_micros(time.micros().abs_diff(now.micros())).as_secs();
            let message = || {
                format!(
                    "lies {by} s ahead of the server's clock, at most {} s may be: send when it was so",
                    ahead.as_secs()
                )
            };
            self.add(row, Part::EventTime, message);
        }
        time
    }

    /// The values as the view's features have them.
    pub(crate) fn values(
        &mut self,
        row: usize,
        view: &View,
        values: Vec<(Box<str>, Scalar)>,
    ) -> Vec<(Box<str>, Scalar)> {
        if values.is_empty() {
            let message = || format!("no values: send at least one feature of view `{}`", view.name);
            self.add(row, Part::Whole, message);
        }
        let mut seen = HashSet::new();
        let mut cells = Vec::with_capacity(values.len().min(view.features.len()));
        for (name, value) in values {
            if self.is_full() {
                break;
            }
            match view.find(&name).and_then(|id| Ok((id, cast(&value, view.features[id.0].dtype)?))) {
                Err(why) => self.add(row, Part::value(&name), || why),
                Ok((id, _)) if !seen.insert(id) => self.add(row, Part::value(&name), twice),
                Ok((_, value)) => cells.push((name, value)),
            }
        }
        cells
    }

    /// Whether all is well.
    pub(crate) fn finish(self) -> Result<(), FeatureError> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.into()) }
    }
}

/// What is wrong with a second value of one name.
pub(crate) fn twice() -> String {
    "is there twice".into()
}

/// The key under which the entity's row is stored: `f:view:entity`. A view's name has no colon,
/// so no two rows share a key.
///
/// # Errors
/// What is wrong with the entity's key.
pub(crate) fn key(view: &View, entity: &Entity) -> Result<Bytes, String> {
    let write = |entity: &dyn std::fmt::Display| Ok(Bytes::from(format!("f:{}:{entity}", view.name)));
    match (view.key, entity) {
        (KeyType::String, Entity::String(key)) if (1..=MAX_ENTITY_BYTES).contains(&key.len()) => write(key),
        (KeyType::String, Entity::String(key)) => {
            Err(format!("`{}` has {} bytes, 1 to {MAX_ENTITY_BYTES} are taken", view.entity, key.len()))
        }
        (_, Entity::Int(key)) => write(key),
        (KeyType::Int64, Entity::String(key)) => match key.parse::<i64>() {
            Ok(key) => write(&key),
            Err(_) => Err(format!("`{}` is a whole number, of 64 bits", view.entity)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_written_that_is_not_told() {
        let mut checker = Checker::new(1);
        for _ in 0..MAX_PROBLEMS {
            assert!(!checker.is_full());
            checker.add(0, Part::Whole, twice);
        }
        checker.add(0, Part::Whole, || unreachable!("nobody would read it"));
        assert!(checker.is_full());
    }
}
