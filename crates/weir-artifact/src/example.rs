//! Rows to try a model with: for the docs page, `weir inspect` and `weir init`.

use serde_json::{Map, Value, json};
use weir_types::{DType, Dim, Field, Scalar};

use crate::ModelSpec;

/// A default, an allowed value or an example as JSON.
pub fn scalar_json(value: &Scalar) -> Value {
    match value {
        Scalar::Bool(b) => json!(b),
        Scalar::Int(n) => json!(n),
        Scalar::Float(x) => json!(x),
        Scalar::String(s) => json!(s),
    }
}

impl ModelSpec {
    /// Up to `most` rows: the model's own samples, else one row made of the fields' examples,
    /// defaults and, where there is neither, a value that their rules allow. Empty where no
    /// such value is at hand (a pattern, say).
    pub fn example_rows(&self, most: usize) -> Vec<Value> {
        let samples: Vec<Value> = self
            .samples
            .iter()
            .filter_map(|sample| serde_json::from_slice(&sample.input).ok())
            .filter(Value::is_object)
            .take(most)
            .collect();
        if !samples.is_empty() {
            return samples;
        }
        let row: Option<Map<_, _>> =
            self.schema.fields.iter().map(|f| Some((f.name.clone(), example(f)?))).collect();
        row.filter(|row| !row.is_empty()).map(Value::from).into_iter().collect()
    }
}

fn example(field: &Field) -> Option<Value> {
    let rules = &field.rules;
    let first = rules.one_of.as_ref().and_then(|values| values.first());
    let value = match field.example.as_ref().or(field.default.as_ref()).or(first) {
        Some(known) => scalar_json(known),
        None => made_up(field)?,
    };
    Some(nest(&value, &field.shape))
}

/// A value of the field's type within its rules.
fn made_up(field: &Field) -> Option<Value> {
    let rules = &field.rules;
    match field.dtype {
        DType::String if rules.pattern.is_some() => None,
        DType::String => {
            let text: String = "text".chars().cycle().take(rules.min_length.unwrap_or(4).max(4)).collect();
            Some(text.chars().take(rules.max_length.unwrap_or(usize::MAX)).collect::<String>().into())
        }
        DType::Bool => Some(json!(false)),
        _ => number(field),
    }
}

/// 0 if it is allowed, else the bound itself or the next whole number beyond it.
fn number(field: &Field) -> Option<Value> {
    let rules = &field.rules;
    let above = rules.ge.map(f64::ceil).into_iter().chain(rules.gt.map(|gt| gt.floor() + 1.0));
    let below = rules.le.map(f64::floor).into_iter().chain(rules.lt.map(|lt| lt.ceil() - 1.0));
    let low = above.fold(f64::NEG_INFINITY, f64::max);
    let high = below.fold(f64::INFINITY, f64::min);
    let value = (low <= high).then(|| 0f64.max(low).min(high))?;
    match field.dtype.int_bounds() {
        Some((least, most)) => {
            let whole = value as i64;
            (least..=most).contains(&whole.into()).then(|| json!(whole))
        }
        None => Some(json!(value)),
    }
}

/// `value` once for each element of `shape`; a dimension that requests decide gets one.
fn nest(value: &Value, shape: &[Dim]) -> Value {
    match shape.split_first() {
        None => value.clone(),
        Some((dim, inner)) => {
            let item = nest(value, inner);
            Value::Array(vec![item; dim.fixed().unwrap_or(1).min(MAX_ITEMS)])
        }
    }
}

/// Longest list that is spelled out: an image is no example to read.
const MAX_ITEMS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(dtype: DType, change: impl FnOnce(&mut Field)) -> Option<Value> {
        let mut field = Field::new("x", dtype, 0, 0);
        change(&mut field);
        example(&field)
    }

    #[test]
    fn what_is_known_comes_first() {
        let known = field(DType::Int64, |f| f.example = Some(Scalar::Int(7)));
        assert_eq!(known, Some(json!(7)));
        let allowed = field(DType::String, |f| f.rules.one_of = Some(vec![Scalar::String("a".into())]));
        assert_eq!(allowed, Some(json!("a")));
    }

    #[test]
    fn what_is_made_up_keeps_the_rules() {
        assert_eq!(field(DType::Float32, |f| f.rules.gt = Some(2.5)), Some(json!(3.0)));
        assert_eq!(field(DType::Int8, |f| f.rules.le = Some(-3.5)), Some(json!(-4)));
        assert_eq!(field(DType::Uint8, |f| f.rules.ge = Some(300.0)), None);
        assert_eq!(field(DType::String, |f| f.rules.max_length = Some(2)), Some(json!("te")));
        assert_eq!(field(DType::String, |f| f.rules.pattern = Some("^a$".into())), None);
    }

    #[test]
    fn lists_have_the_fields_shape() {
        let pair = field(DType::Float32, |f| f.shape = vec![Dim::Any(None), Dim::Fixed(2)]);
        assert_eq!(pair, Some(json!([[0.0, 0.0]])));
    }
}
