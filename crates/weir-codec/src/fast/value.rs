//! Values: scalars, lists of them, and what is skipped.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::give_up;
use crate::{
    plan::{Check, FieldPlan, Plan},
    sink::Sink,
};

/// A field's value.
pub(super) struct ValueSeed<'a, 'p> {
    pub(super) sink: &'a mut Sink<'p>,
    pub(super) plan: &'p Plan,
    pub(super) field: usize,
    pub(super) row: usize,
    /// Whether the row may have to be begun first, as in a column.
    pub(super) begin: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.begin && self.row >= self.sink.rows() {
            self.sink.begin_row();
        }
        let field = &self.plan.fields[self.field];
        let mut element = 0;
        let target = Target { sink: self.sink, field, index: self.field, row: self.row };
        Nested { target, level: 0, element: &mut element }.deserialize(d)
    }
}

/// Where values of one field and row go.
struct Target<'a, 'p> {
    sink: &'a mut Sink<'p>,
    field: &'p FieldPlan,
    index: usize,
    row: usize,
}

/// A value at one level of a field's lists; counts the elements it has written.
struct Nested<'a, 'p> {
    target: Target<'a, 'p>,
    level: usize,
    element: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Nested<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.level < self.target.field.dims.len() {
            return d.deserialize_seq(self);
        }
        match self.target.field.check {
            // Only these have a missing value.
            _ if self.target.field.nullable => d.deserialize_any(self),
            Check::Float(_) => d.deserialize_f64(self),
            Check::Int(_) => d.deserialize_i64(self),
            Check::Bool => d.deserialize_bool(self),
            Check::Text(_) => d.deserialize_str(self),
        }
    }
}

impl Nested<'_, '_> {
    fn is_list(&self) -> bool {
        self.level < self.target.field.dims.len()
    }

    fn float<E: serde::de::Error>(self, x: f64) -> Result<(), E> {
        let field = self.target.field;
        let Check::Float(rules) = &field.check else { return Err(give_up()) };
        // `-0` is the integer 0 to Python and -0.0 to serde_json.
        let fits = rules.min <= x && x <= rules.max && !(x == 0.0 && x.is_sign_negative());
        if self.is_list() || !fits || field.one_of.as_ref().is_some_and(|all| !all.has_float(x)) {
            return Err(give_up());
        }
        self.target.sink.float(field, self.target.row, *self.element, x);
        *self.element += 1;
        Ok(())
    }

    fn int<E: serde::de::Error>(self, n: i128) -> Result<(), E> {
        let field = self.target.field;
        let Check::Int(rules) = &field.check else { return Err(give_up()) };
        let fits = rules.min <= n && n <= rules.max;
        if self.is_list() || !fits || field.one_of.as_ref().is_some_and(|all| !all.has_int(n)) {
            return Err(give_up());
        }
        self.target.sink.int(field, self.target.row, *self.element, n);
        *self.element += 1;
        Ok(())
    }
}

impl<'de> Visitor<'de> for Nested<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the field's dtype")
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<(), E> {
        self.float(x)
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<(), E> {
        match self.target.field.check {
            Check::Float(_) => self.float(n as f64),
            _ => self.int(n.into()),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<(), E> {
        match self.target.field.check {
            Check::Float(_) => self.float(n as f64),
            _ => self.int(n.into()),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, b: bool) -> Result<(), E> {
        let field = self.target.field;
        let known = matches!(field.check, Check::Bool) && !self.is_list();
        if !known || field.one_of.as_ref().is_some_and(|all| !all.has_bool(b)) {
            return Err(give_up());
        }
        self.target.sink.bool(field, self.target.row, *self.element, b);
        *self.element += 1;
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let field = self.target.field;
        let Check::Text(rules) = &field.check else { return Err(give_up()) };
        if self.is_list()
            || rules.broken_by(text).is_some()
            || field.one_of.as_ref().is_some_and(|all| !all.has_text(text))
        {
            return Err(give_up());
        }
        self.target.sink.text(field, self.target.row, *self.element, text.to_owned());
        *self.element += 1;
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.is_list() || !self.target.field.nullable {
            return Err(give_up());
        }
        self.target.sink.missing(self.target.field, self.target.row, *self.element);
        *self.element += 1;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Target { sink, field, index, row } = self.target;
        let Some(&dim) = field.dims.get(self.level) else { return Err(give_up()) };
        let most = dim.unwrap_or(usize::MAX);
        let mut len = 0;
        loop {
            if len == most {
                // A list that is too long is found when its end does not come.
                break;
            }
            let target = Target { sink: &mut *sink, field, index, row };
            let item = Nested { target, level: self.level + 1, element: &mut *self.element };
            if seq.next_element_seed(item)?.is_none() {
                break;
            }
            len += 1;
        }
        if dim.is_some_and(|want| want != len) || sink.note_len(index, self.level, len).is_err() {
            return Err(give_up());
        }
        Ok(())
    }
}

/// A value that nobody wants, nested no deeper than allowed. `IgnoredAny` was the
/// alternative: it takes any depth.
pub(super) struct SkipSeed {
    pub(super) depth_left: usize,
}

impl SkipSeed {
    /// What is left inside one more list or object.
    fn enter<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.depth_left.checked_sub(1).ok_or_else(give_up)
    }
}

impl<'de> DeserializeSeed<'de> for SkipSeed {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SkipSeed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let depth_left = self.enter()?;
        while seq.next_element_seed(SkipSeed { depth_left })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth_left = self.enter()?;
        while map.next_key_seed(SkipSeed { depth_left: 0 })?.is_some() {
            map.next_value_seed(SkipSeed { depth_left })?;
        }
        Ok(())
    }
}
