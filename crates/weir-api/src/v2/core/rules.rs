//! The rules of `model.toml` on tensors: a bound that holds for a typed row holds for the
//! same row as a tensor.
//!
//! One thing differs: NaN and the infinities are values here. A bound refuses those beyond
//! it, and NaN too (the only value that tensors have for "missing") where the field is not
//! nullable.

use regex::Regex;
use weir_codec::Decoded;
use weir_types::{Error, Field, Rules, Scalar, Schema, Tensor, TensorData};

/// The rules of one field, and where its values lie.
#[derive(Debug)]
struct Rule {
    /// Its place in the schema.
    field: usize,
    name: String,
    rules: Rules,
    nullable: bool,
    pattern: Option<Regex>,
    /// Least and most of the numbers that break no rule: most are among them, and need no look
    /// at each rule.
    sound: (f64, f64),
    input: usize,
    offset: usize,
    /// Elements a row; `None` for all of them.
    width: Option<usize>,
}

/// The rules of all fields that have any.
#[derive(Debug)]
pub(super) struct FieldRules(Vec<Rule>);

impl FieldRules {
    pub(super) fn new(schema: &Schema) -> Self {
        let bare = Rules::default();
        let has_rules = |(_, f): &(usize, &Field)| Rules { allow_inf_nan: false, ..f.rules.clone() } != bare;
        let rule = |(field, f): (usize, &Field)| Rule {
            field,
            name: f.name.clone(),
            rules: f.rules.clone(),
            nullable: f.nullable,
            // One that does not compile was refused when the typed route was compiled.
            pattern: f.rules.pattern.as_deref().and_then(|p| Regex::new(p).ok()),
            sound: sound(&f.rules),
            input: f.input,
            offset: f.offset,
            width: f.width(),
        };
        Self(schema.fields.iter().enumerate().filter(has_rules).map(rule).collect())
    }

    /// Checks every value that was sent. What is looked up is checked once it is there.
    ///
    /// # Errors
    /// `InvalidArgument` with the first value that breaks a rule.
    pub(super) fn check(&self, decoded: &Decoded) -> Result<(), Error> {
        let Decoded { batch, lookups } = decoded;
        // A column is left out of every row or of none.
        let left_out = |field| lookups.wanted.iter().take_while(|w| w.row == 0).any(|w| w.field == field);
        let rules = self.0.iter().filter(|rule| !left_out(rule.field));
        rules.into_iter().try_for_each(|rule| rule.check(&batch.inputs[rule.input], batch.rows))
    }
}

impl Rule {
    fn check(&self, tensor: &Tensor, rows: usize) -> Result<(), Error> {
        let row_width = tensor.row_width();
        let width = self.width.unwrap_or(row_width);
        if self.are_sound(tensor.data(), row_width, width) {
            return Ok(());
        }
        for row in 0..rows {
            let start = row * row_width + self.offset;
            for at in start..start + width {
                if let Some(problem) = self.broken(tensor.data(), at) {
                    return Err(Error::invalid(format!("field `{}` of row {row}: {problem}", self.name)));
                }
            }
        }
        Ok(())
    }

    /// Whether all values surely break no rule; told at once for the types that most tables have.
    fn are_sound(&self, data: &TensorData, row_width: usize, width: usize) -> bool {
        match data {
            TensorData::Float32(v) => self.column_is_sound(v, row_width, width, f64::from),
            TensorData::Float64(v) => self.column_is_sound(v, row_width, width, |x| x),
            TensorData::Int64(v) => self.column_is_sound(v, row_width, width, |n| n as f64),
            _ => false,
        }
    }

    fn column_is_sound<T: Copy>(
        &self,
        values: &[T],
        row_width: usize,
        width: usize,
        number: impl Fn(T) -> f64,
    ) -> bool {
        let (least, most) = self.sound;
        let is_sound = |&value: &T| (least..=most).contains(&number(value));
        // Rows of no elements are no rows to look at.
        let mut rows = values.chunks_exact(row_width.max(1));
        rows.all(|row| row[self.offset..self.offset + width].iter().all(is_sound))
    }

    fn broken(&self, data: &TensorData, at: usize) -> Option<String> {
        match data {
            TensorData::String(v) => self.text(&v[at]),
            TensorData::Bool(v) => self.one_of(&Scalar::Bool(v[at])),
            TensorData::Int8(v) => self.int(v[at].into()),
            TensorData::Int16(v) => self.int(v[at].into()),
            TensorData::Int32(v) => self.int(v[at].into()),
            TensorData::Int64(v) => self.int(v[at].into()),
            TensorData::Uint8(v) => self.int(v[at].into()),
            TensorData::Uint16(v) => self.int(v[at].into()),
            TensorData::Uint32(v) => self.int(v[at].into()),
            TensorData::Uint64(v) => self.int(v[at].into()),
            TensorData::Float16(v) => self.float(half::f16::from_bits(v[at]).to_f64()),
            TensorData::Bfloat16(v) => self.float(half::bf16::from_bits(v[at]).to_f64()),
            TensorData::Float32(v) => self.float(v[at].into()),
            TensorData::Float64(v) => self.float(v[at]),
        }
    }

    fn int(&self, n: i128) -> Option<String> {
        // Beyond 2^53 the comparison rounds, and so does the bound that was written.
        self.bounds(n as f64).or_else(|| match i64::try_from(n) {
            Ok(n) => self.one_of(&Scalar::Int(n)),
            Err(_) => self.rules.one_of.as_ref().map(|_| "is none of the allowed values".into()),
        })
    }

    fn float(&self, x: f64) -> Option<String> {
        if x.is_nan() && self.nullable {
            return None;
        }
        self.bounds(x).or_else(|| self.one_of(&Scalar::Float(x)))
    }

    fn bounds(&self, x: f64) -> Option<String> {
        let Rules { ge, gt, le, lt, .. } = self.rules;
        // Written so that NaN breaks each of them.
        let holds = |bound: Option<f64>, ok: fn(&f64, &f64) -> bool| bound.is_none_or(|b| ok(&x, &b));
        let broken = [
            (holds(le, f64::le), "at most", le),
            (holds(lt, f64::lt), "less than", lt),
            (holds(ge, f64::ge), "at least", ge),
            (holds(gt, f64::gt), "greater than", gt),
        ];
        let (_, word, bound) = broken.into_iter().find(|(holds, ..)| !holds)?;
        bound.map(|bound| format!("{x} must be {word} {bound}"))
    }

    fn one_of(&self, value: &Scalar) -> Option<String> {
        let allowed = self.rules.one_of.as_ref()?;
        let same = |a: &Scalar| match (a, value) {
            (Scalar::Int(a), Scalar::Float(b)) => *a as f64 == *b,
            // Written as a double, kept as a float32.
            (Scalar::Float(a), Scalar::Float(b)) => a == b || f64::from(*a as f32) == *b,
            _ => a == value,
        };
        (!allowed.iter().any(same)).then(|| "is none of the allowed values".into())
    }

    fn text(&self, text: &str) -> Option<String> {
        if text.is_empty() && self.nullable {
            return None;
        }
        let Rules { min_length, max_length, .. } = self.rules;
        if min_length.is_some() || max_length.is_some() {
            let length = text.chars().count();
            if let Some(min) = min_length.filter(|min| length < *min) {
                return Some(format!("a text has at least {min} characters, got {length}"));
            }
            if let Some(max) = max_length.filter(|max| length > *max) {
                return Some(format!("a text has at most {max} characters, got {length}"));
            }
        }
        if self.pattern.as_ref().is_some_and(|p| !p.is_match(text)) {
            return Some("the text does not match the field's pattern".into());
        }
        self.one_of(&Scalar::String(text.to_owned()))
    }
}

/// Least and most of the numbers that keep all bounds; none where only some values are allowed,
/// and none where a bound is no finite number, which has no neighbours.
fn sound(rules: &Rules) -> (f64, f64) {
    let Rules { ge, gt, le, lt, .. } = *rules;
    if rules.one_of.is_some() || [ge, gt, le, lt].into_iter().flatten().any(|bound| !bound.is_finite()) {
        return (f64::INFINITY, f64::NEG_INFINITY);
    }
    let least = [ge, gt.map(f64::next_up)].into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
    let most = [le, lt.map(f64::next_down)].into_iter().flatten().fold(f64::INFINITY, f64::min);
    (least, most)
}

#[cfg(test)]
mod tests {
    use weir_codec::Lookups;
    use weir_types::{Batch, Dim, InputSlot};

    use super::*;

    fn message(rules: Rules, nullable: bool, data: TensorData) -> Option<String> {
        let slot = InputSlot { name: "x".into(), dtype: data.dtype(), row_shape: vec![Dim::Fixed(1)] };
        let field = Field { rules, nullable, ..Field::new("f", data.dtype(), 0, 0) };
        let schema = Schema { fields: vec![field], inputs: vec![slot], ..Schema::default() };
        let rows = data.len();
        let batch = Batch { rows, inputs: vec![Tensor::new(vec![rows, 1], data).unwrap()] };
        let decoded = Decoded { batch, lookups: Lookups::default() };
        FieldRules::new(&schema).check(&decoded).err().map(|e| e.message.into_owned())
    }

    #[test]
    fn bounds_hold_for_tensors() {
        let rules = || Rules { ge: Some(-90.0), le: Some(90.0), ..Rules::default() };
        assert_eq!(message(rules(), false, TensorData::Float32(vec![-90.0, 90.0])), None);
        let text = message(rules(), false, TensorData::Float32(vec![0.0, 91.0])).unwrap();
        assert_eq!(text, "field `f` of row 1: 91 must be at most 90");
        assert!(message(rules(), false, TensorData::Float64(vec![f64::NAN])).is_some());
        assert_eq!(message(rules(), true, TensorData::Float64(vec![f64::NAN])), None);
        assert_eq!(message(Rules::default(), false, TensorData::Float64(vec![f64::NAN])), None);
        assert!(message(rules(), false, TensorData::Int8(vec![-91])).is_some());
    }

    #[test]
    fn what_is_sound_at_once_breaks_no_rule() {
        let bounds = [None, Some(-0.0), Some(1.0), Some(f64::MAX), Some(f64::INFINITY), Some(f64::NAN)];
        let values =
            [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 1.0, 1f64.next_up(), f64::MAX, f64::INFINITY, f64::NAN];
        for (low, high) in bounds.iter().flat_map(|low| bounds.map(|high| (*low, high))) {
            for strict in [false, true] {
                let rules = match strict {
                    false => Rules { ge: low, le: high, ..Rules::default() },
                    true => Rules { gt: low, lt: high, ..Rules::default() },
                };
                for x in values {
                    let kept = [
                        low.is_none_or(|b| b < x || !strict && b == x),
                        high.is_none_or(|b| x < b || !strict && b == x),
                    ];
                    let data = TensorData::Float64(vec![x]);
                    assert_eq!(
                        message(rules.clone(), false, data).is_none(),
                        kept == [true; 2],
                        "{rules:?}, {x}"
                    );
                    let (least, most) = sound(&rules);
                    assert!(!(least..=most).contains(&x) || kept == [true; 2], "{rules:?}, {x}");
                }
            }
        }
    }

    #[test]
    fn words_and_lengths_hold_for_tensors() {
        let text = |s: &str| TensorData::String(vec![s.into()]);
        let one_of = Rules { one_of: Some(vec![Scalar::String("a".into())]), ..Rules::default() };
        assert_eq!(message(one_of.clone(), false, text("a")), None);
        assert!(message(one_of, false, text("b")).is_some());
        let short = Rules { max_length: Some(2), pattern: Some("^ä".into()), ..Rules::default() };
        assert_eq!(message(short.clone(), false, text("äö")), None);
        assert!(message(short.clone(), false, text("äöü")).is_some());
        assert!(message(short, false, text("oä")).is_some());
        assert_eq!(message(Rules { min_length: Some(1), ..Rules::default() }, true, text("")), None);
        let tenth = Rules { one_of: Some(vec![Scalar::Float(0.1)]), ..Rules::default() };
        assert_eq!(message(tenth, false, TensorData::Float32(vec![0.1])), None);
    }
}
