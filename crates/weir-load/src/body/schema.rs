//! Values that a JSON Schema allows: the part of it that OpenAPI documents of model servers use.

use serde_json::{Map, Number, Value};

use super::text::text;
use crate::rng::Rng;

/// Deepest nesting of a schema, references included.
const DEEPEST: usize = 32;
/// Where a number has no bound of its own.
const WIDEST: f64 = 1000.0;
/// Where a text or a list has no bound of its own.
const LONGEST_TEXT: usize = 600;
const LONGEST_LIST: usize = 8;

/// A generator of values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Schema {
    /// One of these.
    OneOf(Vec<Value>),
    /// A number in `[low, high]`, near the example if there is one.
    Number { low: f64, high: f64, whole: bool, example: Option<f64> },
    /// A text of so many characters.
    Text { shortest: usize, longest: usize },
    /// `true` or `false`.
    Bool,
    /// Items, so many of them.
    List { item: Box<Schema>, fewest: usize, most: usize },
    /// Named values in order.
    Object(Vec<(String, Schema)>),
    /// One of several forms.
    Any(Vec<Schema>),
}

impl Schema {
    /// Reads the schema at `value` of the document `root`, which its references point into.
    ///
    /// # Errors
    /// Every part that we cannot make values for, with its place.
    pub(crate) fn read(root: &Value, value: &Value) -> Result<Self, Vec<String>> {
        let mut reader = Reader { root, problems: Vec::new() };
        let schema = reader.read(value, "body", 0);
        if reader.problems.is_empty() { Ok(schema) } else { Err(reader.problems) }
    }

    /// A value with so many rows, where it has a place for them.
    pub(crate) fn body(&self, rng: &mut Rng, rows: usize) -> Value {
        let form = self.form(rows);
        let Self::Object(fields) = form else { return form.value(rng) };
        let field = |(name, schema): &(String, Self)| {
            let value = match schema {
                Self::List { item, .. } if form.has_rows(schema) => {
                    (0..rows).map(|_| item.value(rng)).collect()
                }
                other => other.value(rng),
            };
            (name.clone(), value)
        };
        Value::Object(fields.iter().map(field).collect())
    }

    /// Whether [`body`](Self::body) can hold so many rows.
    pub(crate) fn holds(&self, rows: usize) -> bool {
        let form = self.form(rows);
        let Self::Object(fields) = form else { return rows == 1 };
        let places: Vec<&Self> = fields.iter().map(|(_, s)| s).filter(|s| form.has_rows(s)).collect();
        let fits = |place: &&Self| matches!(place, Self::List { fewest, most, .. } if (*fewest..=*most).contains(&rows));
        if places.is_empty() { rows == 1 } else { places.iter().all(fits) }
    }

    /// Whether `field` of this object is where rows go: a list of objects, or a column where
    /// every field is one. A list of fixed length is a value of one row.
    fn has_rows(&self, field: &Self) -> bool {
        let Self::Object(fields) = self else { return false };
        let of_objects = |s: &Self| matches!(s, Self::List { item, .. } if matches!(**item, Self::Object(_)));
        let open = |s: &Self| matches!(s, Self::List { fewest, most, .. } if fewest < most);
        of_objects(field) || (open(field) && fields.iter().all(|(_, s)| open(s)))
    }

    /// Of several forms the one for a single row, or the one with a list of rows.
    fn form(&self, rows: usize) -> &Self {
        let Self::Any(forms) = self else { return self };
        let many = |form: &&Self| matches!(form, Self::Object(fields) if fields.iter().any(|(_, f)| form.has_rows(f)));
        let found = forms.iter().find(|form| many(form) == (rows != 1));
        found.or(forms.first()).unwrap_or(self)
    }

    /// The schema of one row.
    pub(crate) fn row(&self) -> &Self {
        self.form(1)
    }

    /// An object of this schema; empty where it is no object.
    pub(crate) fn object(&self, rng: &mut Rng) -> Map<String, Value> {
        match self.value(rng) {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn value(&self, rng: &mut Rng) -> Value {
        match self {
            Self::OneOf(values) => values.get(rng.below(values.len())).cloned().unwrap_or_default(),
            Self::Number { low, high, whole, example } => number(rng, *low, *high, *whole, *example),
            Self::Text { shortest, longest } => text(rng, *shortest, *longest).into(),
            Self::Bool => (rng.below(2) == 0).into(),
            Self::List { item, fewest, most } => {
                let most = (*most).min(fewest + LONGEST_LIST);
                (0..fewest + rng.below(most - fewest + 1)).map(|_| item.value(rng)).collect()
            }
            Self::Object(fields) => {
                Value::Object(fields.iter().map(|(name, s)| (name.clone(), s.value(rng))).collect())
            }
            Self::Any(forms) => forms.get(rng.below(forms.len())).map(|f| f.value(rng)).unwrap_or_default(),
        }
    }
}

/// Near the example (half to one and a half times it), else anywhere; always in the range.
fn number(rng: &mut Rng, low: f64, high: f64, whole: bool, example: Option<f64>) -> Value {
    let drawn = match example {
        Some(0.0) => rng.within(-1.0, 1.0),
        Some(e) => e * rng.within(0.5, 1.5),
        None if low > WIDEST || high < -WIDEST => rng.within(low, high),
        None => rng.within(low.max(-WIDEST), high.min(WIDEST)),
    };
    if whole {
        return Value::from(drawn.round().clamp(low.ceil(), high.floor()) as i64);
    }
    // Four decimals, as data has them, rather than seventeen digits.
    let short = ((drawn * 1e4).round() / 1e4).clamp(low, high);
    Number::from_f64(short).map_or(Value::from(0), Value::Number)
}

struct Reader<'a> {
    root: &'a Value,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn read(&mut self, value: &Value, at: &str, depth: usize) -> Schema {
        if depth > DEEPEST {
            return self.refuse(at, "is nested too deep");
        }
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return match found {
                Some(schema) => self.read(schema, at, depth + 1),
                None => self.refuse(at, "refers to a schema that is not there"),
            };
        }
        if let Some(values) = value.get("enum").and_then(Value::as_array).filter(|v| !v.is_empty()) {
            return Schema::OneOf(values.clone());
        }
        if let Some(only) = value.get("const") {
            return Schema::OneOf(vec![only.clone()]);
        }
        if let Some(forms) = value.get("anyOf").or_else(|| value.get("oneOf")).and_then(Value::as_array) {
            let mut read: Vec<Schema> = forms
                .iter()
                .filter(|form| form.get("type").and_then(Value::as_str) != Some("null"))
                .map(|form| self.read(form, at, depth + 1))
                .collect();
            return if read.len() == 1 { read.remove(0) } else { Schema::Any(read) };
        }
        self.read_typed(value, at, depth)
    }

    fn read_typed(&mut self, value: &Value, at: &str, depth: usize) -> Schema {
        match value.get("type").and_then(Value::as_str) {
            Some(kind @ ("number" | "integer")) => self.read_number(value, at, kind == "integer"),
            Some("string") => self.read_text(value, at),
            Some("boolean") => Schema::Bool,
            Some("array") => {
                let item =
                    self.read(value.get("items").unwrap_or(&Value::Null), &format!("{at}[]"), depth + 1);
                let fewest = size(value, "minItems").unwrap_or(0);
                let most = size(value, "maxItems").unwrap_or(usize::MAX / 2).max(fewest);
                Schema::List { item: Box::new(item), fewest, most }
            }
            Some("object") => {
                let fields = value.get("properties").and_then(Value::as_object);
                let field = |(name, schema): (&String, &Value)| {
                    (name.clone(), self.read(schema, &format!("{at}.{name}"), depth + 1))
                };
                Schema::Object(fields.into_iter().flatten().map(field).collect())
            }
            _ => self.refuse(at, "has no type that values can be made for"),
        }
    }

    fn read_number(&mut self, value: &Value, at: &str, whole: bool) -> Schema {
        let bound = |key: &str| value.get(key).and_then(Value::as_f64);
        let step = |edge: f64| if whole { 1.0 } else { edge.abs().max(1.0) * 1e-6 };
        let low = bound("minimum").unwrap_or(f64::MIN / 4.0);
        let high = bound("maximum").unwrap_or(f64::MAX / 4.0);
        let low = bound("exclusiveMinimum").map_or(low, |edge| low.max(edge + step(edge)));
        let high = bound("exclusiveMaximum").map_or(high, |edge| high.min(edge - step(edge)));
        // JSON numbers beyond it would not come back as the same whole number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let (low, high) = if whole { (low.max(-EXACT), high.min(EXACT)) } else { (low, high) };
        if low > high {
            return self.refuse(at, "has bounds that no number keeps");
        }
        let example = examples(value).find_map(Value::as_f64).filter(|e| (low..=high).contains(e));
        Schema::Number { low, high, whole, example }
    }

    fn read_text(&mut self, value: &Value, at: &str) -> Schema {
        if value.get("pattern").is_some() || value.get("format").is_some() {
            let known: Vec<Value> = examples(value).filter(|v| v.is_string()).cloned().collect();
            return match known.is_empty() {
                true => self.refuse(at, "has a pattern or format and no example to send"),
                false => Schema::OneOf(known),
            };
        }
        let shortest = size(value, "minLength").unwrap_or(0);
        let longest = size(value, "maxLength").unwrap_or(LONGEST_TEXT.max(shortest));
        Schema::Text { shortest, longest: longest.min(LONGEST_TEXT.max(shortest)) }
    }

    fn refuse(&mut self, at: &str, what: &str) -> Schema {
        self.problems.push(format!("{at} {what}: give bodies with --body"));
        Schema::OneOf(vec![Value::Null])
    }
}

fn size(value: &Value, key: &str) -> Option<usize> {
    value.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
}

fn examples(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.get("examples").and_then(Value::as_array).into_iter().flatten();
    list.chain(value.get("example")).chain(value.get("default"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn root() -> Value {
        json!({"components": {"schemas": {
            "Row": {"type": "object", "properties": {
                "a": {"type": "number", "minimum": -90, "maximum": 90, "examples": [34.2]},
                "b": {"type": "integer", "exclusiveMinimum": 0, "maximum": 3},
                "c": {"enum": ["x", "y"]},
                "d": {"anyOf": [{"type": "string", "minLength": 2, "maxLength": 5}, {"type": "null"}]},
                "e": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
                "f": {"type": "string", "pattern": "^A", "examples": ["A1"]},
            }},
            "Rows": {"type": "object", "properties": {
                "instances": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}, "maxItems": 10},
            }},
            "Loop": {"$ref": "#/components/schemas/Loop"},
        }}})
    }

    fn either() -> Schema {
        let forms =
            json!({"anyOf": [{"$ref": "#/components/schemas/Row"}, {"$ref": "#/components/schemas/Rows"}]});
        Schema::read(&root(), &forms).unwrap()
    }

    fn assert_row(row: &Value) {
        assert!((17.1..=51.3).contains(&row["a"].as_f64().unwrap()), "{row}");
        assert!((1..=3).contains(&row["b"].as_i64().unwrap()), "{row}");
        assert!(["x", "y"].contains(&row["c"].as_str().unwrap()), "{row}");
        assert!((2..=5).contains(&row["d"].as_str().unwrap().len()), "{row}");
        assert_eq!((row["e"].as_array().unwrap().len(), row["f"].as_str()), (2, Some("A1")), "{row}");
    }

    #[test]
    fn values_keep_what_the_schema_says() {
        let mut rng = Rng::new(1, 0);
        for _ in 0..500 {
            let many = either().body(&mut rng, 7);
            assert_eq!(many["instances"].as_array().unwrap().len(), 7);
            many["instances"].as_array().unwrap().iter().for_each(assert_row);
        }
    }

    #[test]
    fn a_row_with_a_list_of_its_own_is_no_list_of_rows() {
        // `Row` holds a list, `e`: the first form with one would be the wrong one for rows.
        let one = Schema::read(&root(), &json!({"$ref": "#/components/schemas/Row"})).unwrap();
        let mut rng = Rng::new(1, 0);
        assert_row(&Value::Object(one.object(&mut rng)));
    }

    #[test]
    fn rows_must_fit() {
        assert!(either().holds(10) && !either().holds(11));
        let flat = Schema::read(&root(), &json!({"type": "object", "properties": {"x": {"type": "number"}}}));
        let flat = flat.unwrap();
        assert!(flat.holds(1) && !flat.holds(2));
    }

    #[test]
    fn what_cannot_be_made_is_told_all_at_once() {
        let odd = json!({"type": "object", "properties": {
            "p": {"type": "string", "pattern": "^A"},
            "q": {},
            "r": {"$ref": "#/nowhere"},
            "s": {"$ref": "#/components/schemas/Loop"},
            "t": {"type": "number", "minimum": 2, "maximum": 1},
        }});
        let told = Schema::read(&root(), &odd).unwrap_err();
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(
            told.iter().zip("pqrst".chars()).all(|(t, c)| t.starts_with(&format!("body.{c} "))),
            "{told:?}"
        );
    }
}
