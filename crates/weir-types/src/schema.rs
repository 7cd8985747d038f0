//! The typed rows of a model: named fields, their rules, and where each lands in the
//! model's input tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DType, Dim, EntityKey, FeatureSource};

/// A single value in a schema: a default, an allowed value, an example. It is read as it stands in a
/// configuration file, where the element type that it is for has no say yet: `1` is an integer, whatever it
/// becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(missing_docs)] // the names say it
pub enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
}

/// What to do with keys that are no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extra {
    /// Refuse them (`extra_forbidden`).
    #[default]
    Forbid,
    /// Skip them.
    Ignore,
}

/// Which conversions a value may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coercion {
    /// Pydantic's lax mode for JSON: `"3"` and `true` are numbers for a float field.
    #[default]
    Lax,
    /// Pydantic's strict mode for JSON: a value must have the field's JSON type.
    Strict,
}

/// Limits on one field's value. Each is checked only where it applies to the dtype.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// At least.
    pub ge: Option<f64>,
    /// Greater than.
    pub gt: Option<f64>,
    /// At most.
    pub le: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
    /// The only values allowed.
    pub one_of: Option<Vec<Scalar>>,
    /// Shortest string, in Unicode scalar values.
    pub min_length: Option<usize>,
    /// Longest string, in Unicode scalar values.
    pub max_length: Option<usize>,
    /// Regular expression that must be found in the string (`regex` syntax, unanchored,
    /// as Pydantic's `pattern`).
    pub pattern: Option<String>,
    /// Whether NaN and infinities are values.
    pub allow_inf_nan: bool,
}

/// One named field of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The key in a row.
    pub name: String,
    /// Other keys that mean the same field.
    pub alias: Vec<String>,
    /// Element type; the same as its input's.
    pub dtype: DType,
    /// Dimensions of the value within one row: empty for a scalar.
    pub shape: Vec<Dim>,
    /// Whether `null` is a value: NaN for floats, the empty string for strings. Other
    /// types have no missing value and cannot be nullable.
    pub nullable: bool,
    /// The value when the key is absent. Scalars only.
    pub default: Option<Scalar>,
    /// Where the value is looked up when the key is absent. Scalars only.
    pub source: Option<FeatureSource>,
    /// Limits on the value.
    pub rules: Rules,
    /// For the docs page.
    pub description: Option<String>,
    /// For the docs page and `weir inspect`.
    pub example: Option<Scalar>,
    /// Index of the model input that holds it.
    pub input: usize,
    /// Element of that input's row at which it starts.
    pub offset: usize,
}

impl Field {
    /// A required scalar field without rules that fills `input` from `offset`.
    pub fn new(name: impl Into<String>, dtype: DType, input: usize, offset: usize) -> Self {
        Self {
            name: name.into(),
            alias: Vec::new(),
            dtype,
            shape: Vec::new(),
            nullable: false,
            default: None,
            source: None,
            rules: Rules::default(),
            description: None,
            example: None,
            input,
            offset,
        }
    }

    /// Elements the value has; `None` where the request decides.
    pub fn width(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }
}

/// One model input as the rows fill it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSlot {
    /// The input's name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions of one row: `[8]` for a `[rows, 8]` input, empty for `[rows]`. At most
    /// one field fills an input that has a dimension which the request decides.
    pub row_shape: Vec<Dim>,
}

/// Why a schema is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Two fields answer to one key.
    #[error("two fields or keys are called `{0}`")]
    DuplicateKey(String),
    /// `null` would have no value.
    #[error(
        "field `{0}` is nullable, but {1} has no missing value: use a float or string dtype, or a default"
    )]
    NoMissingValue(String, DType),
    /// The fields leave a gap in an input or overlap.
    #[error("the fields of input `{input}` fill {filled} elements a row, the model takes {width}")]
    Coverage {
        /// The input's name.
        input: String,
        /// Elements that fields fill.
        filled: usize,
        /// Elements the input's row has.
        width: usize,
    },
}

/// The typed rows of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// Fields in the operator's order, which is the order errors come in.
    pub fields: Vec<Field>,
    /// Keys of a row that name entities: where the fields with a source are looked up.
    pub keys: Vec<EntityKey>,
    /// The inputs they fill, in signature order.
    pub inputs: Vec<InputSlot>,
    /// Keys that are no field.
    pub extra: Extra,
    /// Conversions allowed.
    pub coerce: Coercion,
}

impl Schema {
    /// Checks what the decoder relies on: every key means one field, every element of
    /// every fixed-width input is filled exactly once, nullable fields have a missing value.
    ///
    /// # Errors
    /// All problems there are.
    pub fn check(&self) -> Result<(), Vec<SchemaError>> {
        let mut problems = self.duplicate_keys();
        problems.extend(
            self.fields
                .iter()
                .filter(|f| f.nullable && !f.dtype.is_float() && f.dtype != DType::String)
                .map(|f| SchemaError::NoMissingValue(f.name.clone(), f.dtype)),
        );
        problems.extend((0..self.inputs.len()).filter_map(|i| self.coverage(i)));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn duplicate_keys(&self) -> Vec<SchemaError> {
        let mut seen = std::collections::HashSet::new();
        let fields = self.fields.iter().map(|f| (&f.name, &f.alias));
        let keys = self.keys.iter().map(|k| (&k.name, &k.alias));
        fields
            .chain(keys)
            .flat_map(|(name, alias)| std::iter::once(name).chain(alias))
            .filter(|key| !seen.insert(key.as_str()))
            .map(|key| SchemaError::DuplicateKey(key.clone()))
            .collect()
    }

    fn coverage(&self, input: usize) -> Option<SchemaError> {
        let slot = &self.inputs[input];
        let width = slot.row_shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))?;
        let mut spans: Vec<_> = self
            .fields
            .iter()
            .filter(|f| f.input == input)
            .map(|f| (f.offset, f.width().unwrap_or(0)))
            .collect();
        spans.sort_unstable();
        let filled: usize = spans.iter().map(|s| s.1).sum();
        let adjacent = spans.iter().try_fold(0, |end, &(at, n)| (at == end).then_some(at + n));
        (adjacent != Some(width)).then(|| SchemaError::Coverage { input: slot.name.clone(), filled, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: Vec<Field>, width: usize) -> Schema {
        let slot =
            InputSlot { name: "input".into(), dtype: DType::Float32, row_shape: vec![Dim::Fixed(width)] };
        Schema { fields, inputs: vec![slot], ..Schema::default() }
    }

    #[test]
    fn fields_must_tile_their_input() {
        let field = |name, offset| Field::new(name, DType::Float32, 0, offset);
        assert_eq!(schema(vec![field("b", 1), field("a", 0)], 2).check(), Ok(()));
        for bad in
            [vec![field("a", 0)], vec![field("a", 0), field("b", 0)], vec![field("a", 0), field("b", 2)]]
        {
            assert!(matches!(schema(bad, 2).check().unwrap_err()[..], [SchemaError::Coverage { .. }]));
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut flag = Field::new("a", DType::Bool, 0, 0);
        flag.nullable = true;
        flag.alias = vec!["a".into()];
        assert_eq!(schema(vec![flag], 3).check().unwrap_err().len(), 3);
    }
}
