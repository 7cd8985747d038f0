//! Streaming aggregates: what is kept of the events of one pane.
//!
//! All that is kept is merged by an operation that is associative and commutative, exactly and
//! not only up to rounding. So neither the order of events nor the way in which panes are
//! merged shows in a value.

use std::cmp::Ordering;

use weir_types::{DType, Scalar};

use crate::{
    config::AggregateKind,
    encoding::{Reader, put_scalar},
    value::{EventTime, MAX_STRING_BYTES, cast},
    view::Aggregate,
};

mod distinct;
mod exact;

use distinct::Sketch;
use exact::Exact;

/// What is kept of the events of one pane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pane {
    Count(u64),
    Sum(Box<Exact>),
    Mean(Box<Exact>, u64),
    Min(Scalar),
    Max(Scalar),
    Last(EventTime, Scalar),
    Distinct(Sketch),
}

impl Pane {
    /// Of one event, whose field has `value` (which [`accept`] has seen).
    pub(crate) fn one(kind: AggregateKind, time: EventTime, value: &Scalar) -> Self {
        match kind {
            AggregateKind::Count => Pane::Count(1),
            AggregateKind::Sum => Pane::Sum(exact(value)),
            AggregateKind::Mean => Pane::Mean(exact(value), 1),
            AggregateKind::Min => Pane::Min(value.clone()),
            AggregateKind::Max => Pane::Max(value.clone()),
            AggregateKind::Last => Pane::Last(time, value.clone()),
            AggregateKind::Distinct => Pane::Distinct(Sketch::one(value)),
        }
    }

    /// Of the events of both. Panes of different kinds never meet: the kind is part of what
    /// names a series.
    pub(crate) fn merge(&mut self, other: Pane) {
        match (self, other) {
            (Pane::Count(a), Pane::Count(b)) => *a = a.saturating_add(b),
            (Pane::Sum(a), Pane::Sum(b)) => a.merge(&b),
            (Pane::Mean(a, n), Pane::Mean(b, m)) => {
                a.merge(&b);
                *n = n.saturating_add(m);
            }
            (Pane::Min(a), Pane::Min(b)) if order(&b, a).is_lt() => *a = b,
            (Pane::Max(a), Pane::Max(b)) if order(&b, a).is_gt() => *a = b,
            (Pane::Last(at, a), Pane::Last(time, b)) if time.cmp(at).then(order(&b, a)).is_gt() => {
                (*at, *a) = (time, b);
            }
            (Pane::Distinct(a), Pane::Distinct(b)) => a.merge(&b),
            _ => {}
        }
    }

    /// The aggregate, as `dtype`; `None` if it does not fit, which happens only to `last`, `min`
    /// and `max` over events from before the feature had this type.
    pub(crate) fn value(&self, dtype: DType) -> Option<Scalar> {
        match self {
            Pane::Count(n) => Some(Scalar::Int(i64::try_from(*n).unwrap_or(i64::MAX))),
            Pane::Sum(sum) => Some(float(sum.round(), dtype)),
            Pane::Mean(sum, n) => Some(float(sum.round() / *n as f64, dtype)),
            Pane::Min(value) | Pane::Max(value) | Pane::Last(_, value) => cast(value, dtype).ok(),
            Pane::Distinct(sketch) => Some(Scalar::Int(sketch.estimate())),
        }
    }

    /// The stored form: the kind is stored with the series.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Pane::Count(n) => out.extend_from_slice(&n.to_le_bytes()),
            Pane::Sum(sum) => sum.write(&mut out),
            Pane::Mean(sum, n) => {
                out.extend_from_slice(&n.to_le_bytes());
                sum.write(&mut out);
            }
            Pane::Min(value) | Pane::Max(value) => put_scalar(&mut out, value),
            Pane::Last(time, value) => {
                out.extend_from_slice(&time.micros().to_le_bytes());
                put_scalar(&mut out, value);
            }
            Pane::Distinct(sketch) => sketch.write(&mut out),
        }
        out
    }

    /// From its stored form; `None` if it is none.
    pub(crate) fn read(kind: AggregateKind, stored: &[u8]) -> Option<Self> {
        let mut from = Reader(stored);
        let pane = match kind {
            AggregateKind::Count => Pane::Count(from.u64()?),
            AggregateKind::Sum => Pane::Sum(Box::new(Exact::read(&mut from)?)),
            AggregateKind::Mean => {
                let count = from.u64().filter(|&count| count > 0)?;
                Pane::Mean(Box::new(Exact::read(&mut from)?), count)
            }
            AggregateKind::Min => Pane::Min(from.scalar()?),
            AggregateKind::Max => Pane::Max(from.scalar()?),
            AggregateKind::Last => Pane::Last(from.time()?, from.scalar()?),
            AggregateKind::Distinct => Pane::Distinct(Sketch::read(&mut from)?),
        };
        from.0.is_empty().then_some(pane)
    }
}

fn exact(value: &Scalar) -> Box<Exact> {
    let mut sum = Exact::ZERO;
    match value {
        Scalar::Int(i) => sum.add_int(*i),
        Scalar::Float(f) => sum.add(*f),
        Scalar::Bool(_) | Scalar::String(_) => {}
    }
    Box::new(sum)
}

/// A finite float of `dtype`: a sum beyond the largest is given as the largest.
fn float(f: f64, dtype: DType) -> Scalar {
    let most = f64::from(f32::MAX);
    Scalar::Float(if dtype == DType::Float32 { f64::from(f.clamp(-most, most) as f32) } else { f })
}

/// A total order of values. Numbers are compared by their value, whatever their type: a feature whose
/// type was changed from whole numbers to floats has both among its panes.
fn order(a: &Scalar, b: &Scalar) -> Ordering {
    match (a, b) {
        (Scalar::Bool(a), Scalar::Bool(b)) => a.cmp(b),
        (Scalar::Int(a), Scalar::Int(b)) => a.cmp(b),
        (Scalar::Float(a), Scalar::Float(b)) => a.total_cmp(b),
        (Scalar::String(a), Scalar::String(b)) => a.cmp(b),
        (Scalar::Int(a), Scalar::Float(b)) => int_to_float(*a, *b),
        (Scalar::Float(a), Scalar::Int(b)) => int_to_float(*b, *a).reverse(),
        // Other changes of type: any order will do, if it is one.
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Exactly: not every whole number of 64 bits is a float. Of equal ones the whole number is the
/// lesser, so that the order is total.
fn int_to_float(int: i64, float: f64) -> Ordering {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0; // 2^63
    match float {
        _ if float >= BEYOND => Ordering::Less,
        _ if float < -BEYOND => Ordering::Greater,
        // The part behind the point decides only between equal whole parts, and is not negative.
        _ => int.cmp(&(float.floor() as i64)).then(Ordering::Less),
    }
}

fn rank(value: &Scalar) -> u8 {
    match value {
        Scalar::Bool(_) => 0,
        Scalar::Int(_) => 1,
        Scalar::Float(_) => 2,
        Scalar::String(_) => 3,
    }
}

/// The value of an event's field as the aggregate takes it.
///
/// # Errors
/// What would fit.
pub(crate) fn accept(kind: AggregateKind, dtype: DType, value: &Scalar) -> Result<Scalar, String> {
    match (kind, value) {
        (AggregateKind::Count | AggregateKind::Distinct, Scalar::String(_)) => cast(value, DType::String),
        (AggregateKind::Count | AggregateKind::Distinct, Scalar::Float(_)) => cast(value, DType::Float64),
        (AggregateKind::Count | AggregateKind::Distinct, _) => Ok(value.clone()),
        (AggregateKind::Sum | AggregateKind::Mean, Scalar::Int(_)) => Ok(value.clone()),
        (AggregateKind::Sum | AggregateKind::Mean, _) => cast(value, DType::Float64),
        (AggregateKind::Min | AggregateKind::Max | AggregateKind::Last, _) => cast(value, dtype),
    }
}

/// Most bytes that the panes of `aggregate` may come to, for one entity. One pane beyond the
/// window is kept for replicas whose clocks differ, one lies ahead.
pub(crate) fn most_bytes(aggregate: &Aggregate) -> usize {
    let pane = match aggregate.kind {
        AggregateKind::Count => 8,
        AggregateKind::Sum => exact::MAX_BYTES,
        AggregateKind::Mean => 8 + exact::MAX_BYTES,
        AggregateKind::Min | AggregateKind::Max => 9,
        AggregateKind::Last => 13 + MAX_STRING_BYTES,
        AggregateKind::Distinct => distinct::MAX_BYTES,
    };
    (pane + 12) * (usize::try_from(aggregate.panes).unwrap_or(usize::MAX) + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_order_whatever_their_type() {
        let (int, float) = (Scalar::Int, Scalar::Float);
        let sorted = [
            float(-1e300),
            int(i64::MIN),
            float(i64::MIN as f64),
            int(-2),
            float(-1.5),
            int(-1),
            int(0),
            float(-0.0),
            float(0.0),
            float(0.5),
            int(5),
            float(5.0),
            float(5.5),
            int((1 << 53) + 1),
            float(9_007_199_254_740_994.0),
            int(i64::MAX),
            float(i64::MAX as f64),
            float(f64::MAX),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(order(a, b), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }
}
