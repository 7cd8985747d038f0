//! The good path: one pass over the bytes with serde_json, straight into the tensors.
//!
//! It knows only what a well-behaved caller sends. On anything else it gives up without a
//! word, and the complete path decides; so it needs no errors, and must only never accept
//! what the complete path refuses, or read it differently.

mod row;
mod seen;
mod value;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use weir_types::Extra;

use crate::{
    BodyShape, Decoded,
    plan::{INSTANCES, Plan},
    sink::Sink,
};
use row::RowSeed;
use seen::Seen;
use value::{SkipSeed, ValueSeed};

/// What the body holds, or `None` where this path gives up.
pub(crate) fn decode(plan: &Plan, body: &[u8]) -> Option<Decoded> {
    // serde_json does not look into the strings that it skips, so the whole body is checked
    // to be UTF-8 first; on ASCII that costs next to nothing.
    let text = std::str::from_utf8(body).ok()?;
    let mut decoder = serde_json::Deserializer::from_str(text);
    let mut state = State { plan, sink: Sink::new(plan), seen: Seen::new(plan.fields.len()), level: 1 };
    let state_ref = &mut state;
    match &plan.shape {
        BodyShape::Columns { keys } => decoder.deserialize_map(ColumnsVisitor { state: state_ref, keys }),
        _ => decoder.deserialize_map(BodyVisitor { state: state_ref }),
    }
    .ok()?;
    decoder.end().ok()?;
    state.sink.finish()
}

/// What is carried through the pass.
pub(super) struct State<'p> {
    pub(super) plan: &'p Plan,
    pub(super) sink: Sink<'p>,
    pub(super) seen: Seen,
    /// Lists and objects around the values of a row: its own, and the body's.
    pub(super) level: usize,
}

/// The one error of this path.
pub(super) fn give_up<E: serde::de::Error>() -> E {
    E::custom("")
}

/// A row, or an object that lists rows.
struct BodyVisitor<'a, 'p> {
    state: &'a mut State<'p>,
}

impl<'de> Visitor<'de> for BodyVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match (&self.state.plan.shape, self.state.plan.rows_key()) {
            (BodyShape::Rows { .. }, Some(key)) => rows_body(self.state, key, map),
            (_, Some(_)) => row::row_or_list(self.state, map),
            (_, None) => row::fields(self.state, map, None),
        }
    }
}

/// `{"<key>": [row, …]}`
fn rows_body<'de, A: MapAccess<'de>>(state: &mut State<'_>, key: &str, mut map: A) -> Result<(), A::Error> {
    let mut found = false;
    while let Some(is_key) = map.next_key_seed(IsKey(key))? {
        if is_key {
            if std::mem::replace(&mut found, true) {
                return Err(give_up());
            }
            map.next_value_seed(RowsSeed { state })?;
        } else {
            skip(state.plan, 1, &mut map)?;
        }
    }
    if found { Ok(()) } else { Err(give_up()) }
}

/// Skips the value of a key that is no field, where the schema lets one. `level` lists and
/// objects are open around it.
pub(super) fn skip<'de, A: MapAccess<'de>>(plan: &Plan, level: usize, map: &mut A) -> Result<(), A::Error> {
    match plan.schema.extra {
        Extra::Forbid => Err(give_up()),
        Extra::Ignore => {
            map.next_value_seed(SkipSeed { depth_left: plan.limits.max_depth.saturating_sub(level) })
        }
    }
}

/// Whether a key is the one.
struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// A list of rows.
pub(super) struct RowsSeed<'a, 'p> {
    pub(super) state: &'a mut State<'p>,
}

impl<'de> DeserializeSeed<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let max = self.state.plan.limits.max_rows;
        self.state.level = 3;
        self.state.sink.list();
        while seq.next_element_seed(RowSeed { state: &mut *self.state })?.is_some() {
            if self.state.sink.rows() > max {
                return Err(give_up());
            }
        }
        Ok(())
    }
}

/// `{"text": ["a", "b"]}`
struct ColumnsVisitor<'a, 'p> {
    state: &'a mut State<'p>,
    keys: &'p [(String, usize)],
}

impl<'de> Visitor<'de> for ColumnsVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let state = self.state;
        let mut found = 0;
        let mut length = None;
        while let Some(column) = map.next_key_seed(ColumnKey(self.keys))? {
            let Some(field) = column else {
                skip(state.plan, 1, &mut map)?;
                continue;
            };
            if !state.seen.insert(field) {
                return Err(give_up());
            }
            found += 1;
            let rows = map.next_value_seed(ColumnSeed { state: &mut *state, field })?;
            if length.replace(rows).is_some_and(|before| before != rows) {
                return Err(give_up());
            }
        }
        if found != self.keys.len() {
            return Err(give_up());
        }
        for row in 0..state.sink.rows() {
            for &field in &state.plan.uncovered {
                row::absent(state, row, field)?;
            }
        }
        Ok(())
    }
}

/// Which column a key is.
struct ColumnKey<'k>(&'k [(String, usize)]);

impl<'de> DeserializeSeed<'de> for ColumnKey<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for ColumnKey<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(name, _)| name == key).map(|(_, field)| *field))
    }
}

/// One column; gives its length.
struct ColumnSeed<'a, 'p> {
    state: &'a mut State<'p>,
    field: usize,
}

impl<'de> DeserializeSeed<'de> for ColumnSeed<'_, '_> {
    type Value = usize;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<usize, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ColumnSeed<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let State { plan, sink, .. } = self.state;
        let mut row = 0;
        loop {
            // The row has to exist before its value is written; the one that the end of the
            // list would add is avoided by asking for the end first.
            if row >= plan.limits.max_rows {
                return seq.next_element::<IgnoredAny>()?.map_or(Ok(row), |_| Err(A::Error::custom("")));
            }
            let seed = ValueSeed { sink, field: self.field, plan, row, begin: true };
            if seq.next_element_seed(seed)?.is_none() {
                return Ok(row);
            }
            row += 1;
        }
    }
}

/// Whether `key` opens a list of instances.
pub(super) fn opens_instances(key: &str) -> bool {
    key == INSTANCES
}
