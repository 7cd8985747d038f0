//! One row object.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, Visitor};

use super::{RowsSeed, State, give_up, opens_instances, skip, value::ValueSeed};
use crate::plan::Plan;

/// A row in a list.
pub(super) struct RowSeed<'a, 'p> {
    pub(super) state: &'a mut State<'p>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        fields(self.state, map, None)
    }
}

/// The first key decides: `instances` opens a list, anything else is a row. A list that
/// comes after another key is left to the complete path.
pub(super) fn row_or_list<'de, A: MapAccess<'de>>(state: &mut State<'_>, mut map: A) -> Result<(), A::Error> {
    match map.next_key_seed(KeySeed { plan: state.plan, expected: 0 })? {
        None => Err(give_up()),
        Some(Key::Instances) => {
            map.next_value_seed(RowsSeed { state })?;
            while let Some(key) = map.next_key_seed(KeySeed { plan: state.plan, expected: 0 })? {
                if matches!(key, Key::Instances) {
                    return Err(give_up());
                }
                skip(state.plan, 1, &mut map)?;
            }
            Ok(())
        }
        first => fields(state, map, first),
    }
}

/// The fields of a row whose first key may have been read already.
pub(super) fn fields<'de, A: MapAccess<'de>>(
    state: &mut State<'_>,
    mut map: A,
    first: Option<Key>,
) -> Result<(), A::Error> {
    let plan = state.plan;
    let row = state.sink.begin_row();
    state.seen.clear();
    let mut expected = 0;
    let mut key = match first {
        Some(key) => Some(key),
        None => map.next_key_seed(KeySeed { plan, expected })?,
    };
    while let Some(known) = key {
        match known {
            Key::Field(field) => {
                if !state.seen.insert(field) {
                    return Err(give_up());
                }
                expected = field + 1;
                map.next_value_seed(ValueSeed { sink: &mut state.sink, plan, field, row, begin: false })?;
            }
            // In a row of a list the word means nothing.
            Key::Instances if row == 0 => return Err(give_up()),
            Key::Instances | Key::Other => skip(plan, state.level, &mut map)?,
        }
        key = map.next_key_seed(KeySeed { plan, expected })?;
    }
    fill_absent(state, row)
}

fn fill_absent<E: serde::de::Error>(state: &mut State<'_>, row: usize) -> Result<(), E> {
    if state.seen.len() == state.plan.fields.len() {
        return Ok(());
    }
    for field in 0..state.plan.own {
        if !state.seen.contains(field) {
            absent(state, row, field)?;
        }
    }
    Ok(())
}

/// A field that a row does not have is looked up where the row says of which entity, else it
/// has its default.
pub(super) fn absent<E: serde::de::Error>(state: &mut State<'_>, row: usize, field: usize) -> Result<(), E> {
    let plan = &state.plan.fields[field];
    if plan.key.is_some_and(|key| state.seen.contains(key)) {
        state.sink.want(row, field);
        return Ok(());
    }
    if state.sink.default(plan, row) { Ok(()) } else { Err(give_up()) }
}

/// What a key of a row is.
pub(super) enum Key {
    Field(usize),
    Instances,
    Other,
}

/// Reads a key without keeping it. Callers usually send fields in the declared order, so
/// the expected one is compared before anything is looked up.
struct KeySeed<'p> {
    plan: &'p Plan,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Key, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        if self.plan.fields.get(self.expected).is_some_and(|f| f.name == key) {
            return Ok(Key::Field(self.expected));
        }
        Ok(match self.plan.key(key) {
            Some(known) => Key::Field(known.field),
            None if opens_instances(key) => Key::Instances,
            None => Key::Other,
        })
    }
}
