//! What a sample says about one column.

use std::{collections::BTreeSet, fmt::Write};

use toml::Value;
use weir_types::{DType, TensorSpec};

use super::{number, quoted};

/// Most distinct values of a string column that become an `enum`, if each was seen
/// [`SEEN`] times on average: otherwise it is free text or an identifier.
const MAX_ENUM: usize = 20;
const SEEN: usize = 5;

/// What a missing value looks like in a CSV file.
const MISSING: [&str; 8] = ["", "NaN", "nan", "NA", "N/A", "null", "NULL", "None"];

/// Words in the names of things that cannot be negative. Below zero they are mistakes,
/// while any other column may go below what was seen.
const NON_NEGATIVE: [&str; 16] = [
    "age",
    "amount",
    "area",
    "count",
    "distance",
    "duration",
    "height",
    "income",
    "length",
    "number",
    "population",
    "price",
    "quantity",
    "rooms",
    "weight",
    "width",
];

/// A column of a sample.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    rows: usize,
    missing: usize,
    first: Option<String>,
    low: f64,
    high: f64,
    /// Distinct values, at most one more than [`MAX_ENUM`].
    values: BTreeSet<String>,
}

impl Column {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rows: 0,
            missing: 0,
            first: None,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            values: BTreeSet::new(),
        }
    }

    /// Takes one more value into account.
    pub(super) fn see(&mut self, value: &str) {
        self.rows += 1;
        if MISSING.contains(&value) {
            self.missing += 1;
            return;
        }
        self.first.get_or_insert_with(|| value.to_owned());
        if let Some(n) = value.parse::<f64>().ok().filter(|n| n.is_finite()) {
            self.low = self.low.min(n);
            self.high = self.high.max(n);
        }
        if self.values.len() <= MAX_ENUM {
            self.values.insert(value.to_owned());
        }
    }

    /// Writes the column as a field that fills a place of `input`; `named` is the input's
    /// name where the field must say it.
    pub(super) fn write(&self, out: &mut String, input: &TensorSpec, named: Option<&str>) {
        let dtype = input.dtype;
        let _ = writeln!(out, "\n[[input.field]]\nname = {}", quoted(&self.name));
        if let Some(input) = named {
            let _ = writeln!(out, "input = {}", quoted(input));
        }
        let _ = writeln!(out, "dtype = {}", quoted(dtype.as_str()));
        let takes_missing = dtype.is_float() || dtype == DType::String;
        if self.missing > 0 && takes_missing {
            let _ = writeln!(out, "nullable = true    # missing in {} of {} rows", self.missing, self.rows);
        }
        match dtype {
            DType::String => self.write_enum(out),
            DType::Bool => {}
            _ => self.write_range(out, dtype),
        }
        if let Some(example) = self.first.as_deref().and_then(|text| example(text, dtype)) {
            let _ = writeln!(out, "example = {example}");
        }
    }

    fn write_enum(&self, out: &mut String) {
        let present = self.rows - self.missing;
        if self.values.is_empty() || self.values.len() > MAX_ENUM || present < SEEN * self.values.len() {
            return;
        }
        let missing = (self.missing > 0).then(String::new); // `null` is the empty string
        let values: Vec<String> = missing.into_iter().chain(self.values.iter().cloned()).collect();
        let _ = writeln!(
            out,
            "enum = {}    # all that the sample holds",
            Value::from(values).to_string().replace('\n', "\\n")
        );
    }

    fn write_range(&self, out: &mut String, dtype: DType) {
        if self.low > self.high {
            return;
        }
        let (low, high) = (number(self.low, dtype), number(self.high, dtype));
        let _ = writeln!(out, "# in the sample: {low} to {high}");
        let Some((ge, le)) = self.obvious() else { return };
        let _ = writeln!(out, "ge = {}", number(ge, DType::Float64));
        if let Some(le) = le {
            let _ = writeln!(out, "le = {}", number(le, DType::Float64));
        }
    }

    /// Bounds that the name stands for, if the sample keeps to them.
    fn obvious(&self) -> Option<(f64, Option<f64>)> {
        let name = self.name.to_lowercase();
        let keeps = |(ge, le): &(f64, Option<f64>)| self.low >= *ge && le.is_none_or(|le| self.high <= le);
        let bounds = match name.as_str() {
            "latitude" | "lat" => (-90.0, Some(90.0)),
            "longitude" | "lon" | "lng" => (-180.0, Some(180.0)),
            _ if words(&self.name).any(|w| NON_NEGATIVE.contains(&w.as_str())) => (0.0, None),
            _ => return None,
        };
        Some(bounds).filter(keeps)
    }
}

/// The words of `MedianHouseAge`, `median_house_age` or `median house age`, in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    words.into_iter()
}

/// A value of the sample as TOML writes it for `dtype`.
fn example(text: &str, dtype: DType) -> Option<String> {
    match dtype {
        DType::String => Some(quoted(text)),
        DType::Bool => match text.to_lowercase().as_str() {
            "true" | "1" => Some("true".into()),
            "false" | "0" => Some("false".into()),
            _ => None,
        },
        _ if dtype.is_float() => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| number(n, dtype)),
        _ => {
            // Integers are often written as floats ("3.0") once a column had a missing value.
            let whole = text.parse::<i64>().ok().or_else(|| {
                text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64)
            })?;
            let (low, high) = dtype.int_bounds()?;
            (low..=high).contains(&i128::from(whole)).then(|| whole.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_words() {
        let split = |name| words(name).filter(|w| !w.is_empty()).collect::<Vec<_>>();
        assert_eq!(split("HouseAge"), ["house", "age"]);
        assert_eq!(split("median_income USD"), ["median", "income", "usd"]);
        assert_eq!(split("average"), ["average"]);
    }

    #[test]
    fn examples_have_the_type_of_the_field() {
        assert_eq!(example("3.0", DType::Int64).as_deref(), Some("3"));
        assert_eq!(example("3", DType::Float32).as_deref(), Some("3.0"));
        assert_eq!(example("300", DType::Int8), None);
        assert_eq!(example("a\"b", DType::String).as_deref(), Some("'a\"b'"));
        assert_eq!(example("True", DType::Bool).as_deref(), Some("true"));
    }
}
