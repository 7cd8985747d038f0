//! Rows as the tensors of a V2 model.

use serde_json::{Value, json};

use super::{rows::Sample, wire::Tensor};
use crate::rng::Rng;

/// Where metadata leaves the size of a dimension open that is not the rows.
const OPEN_SIZE: usize = 8;
/// Most elements of one row: more would be a mistake in the metadata.
const MOST_ELEMENTS: usize = 1 << 24;

/// An input as the model's metadata tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) datatype: String,
    /// −1 where the request decides.
    pub(crate) shape: Vec<i64>,
}

/// Reads the inputs of `GET /v2/models/{m}`.
pub(crate) fn inputs(metadata: &Value) -> Option<Vec<Input>> {
    let input = |value: &Value| {
        Some(Input {
            name: value.get("name")?.as_str()?.to_owned(),
            datatype: value.get("datatype")?.as_str()?.to_owned(),
            shape: value.get("shape")?.as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?,
        })
    };
    metadata
        .get("inputs")?
        .as_array()?
        .iter()
        .map(input)
        .collect::<Option<Vec<_>>>()
        .filter(|i| !i.is_empty())
}

impl Input {
    /// Elements of a row, as far as the metadata says.
    fn width(&self) -> Option<usize> {
        let sizes = self.shape.get(1..).unwrap_or_default().iter();
        sizes.map(|d| usize::try_from(*d).ok()).try_fold(1usize, |all, d| all.checked_mul(d?))
    }

    fn tensor(&self, rows: usize, data: Vec<Value>) -> Tensor {
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut().filter(|d| **d < 0) {
            *first = rows as i64;
        }
        let known: i64 = shape.iter().filter(|d| **d > 0).product::<i64>().max(1);
        // What remains is the one open dimension's; further ones are 1.
        let mut rest = data.len() as i64 / known;
        shape.iter_mut().filter(|d| **d < 0).for_each(|d| *d = std::mem::replace(&mut rest, 1));
        Tensor { name: self.name.clone(), datatype: self.datatype.clone(), shape, data }
    }

    /// Made up without knowing what it means.
    fn made_up(&self, rng: &mut Rng, rows: usize) -> Tensor {
        let open = |d: &i64| usize::try_from(*d).unwrap_or(OPEN_SIZE);
        let tail = self.shape.get(1..).unwrap_or_default().iter().map(open);
        let width = tail.fold(1usize, usize::saturating_mul).min(MOST_ELEMENTS);
        let first = self.shape.first().map_or(1, |d| usize::try_from(*d).unwrap_or(rows));
        let data = (0..width.saturating_mul(first).min(MOST_ELEMENTS)).map(|_| self.element(rng)).collect();
        self.tensor(rows, data)
    }

    fn element(&self, rng: &mut Rng) -> Value {
        match self.datatype.as_str() {
            "BYTES" => super::text::text(rng, 0, 600).into(),
            "BOOL" => json!(rng.below(2) == 1),
            kind if kind.starts_with("FP") => json!((rng.unit() * 1e4).round() / 1e4),
            _ => json!(rng.below(100)),
        }
    }
}

/// How rows become tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Each input is the field of its name.
    Columns,
    /// The one input is all fields, in their order.
    Table,
    /// No rows are known: tensors are made up from the metadata alone.
    MadeUp,
}

impl Mapping {
    /// The way for rows with these fields.
    pub(crate) fn of<'a>(inputs: &[Input], fields: impl Iterator<Item = &'a String>) -> Self {
        let names: Vec<&String> = fields.collect();
        match inputs {
            all if all.iter().all(|input| names.contains(&&input.name)) => Self::Columns,
            [only] if only.width() == Some(names.len()) && only.shape.len() == 2 => Self::Table,
            _ => Self::MadeUp,
        }
    }

    /// The tensors of `rows`.
    pub(crate) fn tensors(self, inputs: &[Input], rows: &[Sample], rng: &mut Rng) -> Vec<Tensor> {
        let tensor = |input: &Input| {
            let mut data = Vec::new();
            match self {
                Self::MadeUp => return input.made_up(rng, rows.len()),
                Self::Columns => rows
                    .iter()
                    .filter_map(|row| row.input.get(&input.name))
                    .for_each(|value| flatten(value, &mut data)),
                Self::Table => {
                    rows.iter()
                        .flat_map(|row| row.input.values())
                        .for_each(|value| flatten(value, &mut data));
                }
            }
            input.tensor(rows.len(), data)
        };
        inputs.iter().map(tensor).collect()
    }
}

fn flatten(value: &Value, out: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
        scalar => out.push(scalar.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, datatype: &str, shape: &[i64]) -> Input {
        Input { name: name.into(), datatype: datatype.into(), shape: shape.into() }
    }

    fn row(value: Value) -> Sample {
        Sample { input: value.as_object().unwrap().clone(), prediction: None, tolerance: 0.0 }
    }

    #[test]
    fn a_table_takes_the_fields_in_their_order() {
        let inputs = [input("input", "FP32", &[-1, 2])];
        let rows = [row(json!({"b": 1, "a": 2})), row(json!({"b": 3, "a": 4}))];
        let mapping = Mapping::of(&inputs, rows[0].input.keys());
        assert_eq!(mapping, Mapping::Table);
        let tensors = mapping.tensors(&inputs, &rows, &mut Rng::new(0, 0));
        assert_eq!(
            (&tensors[0].shape[..], &tensors[0].data[..]),
            (&[2, 2][..], &[json!(1), json!(2), json!(3), json!(4)][..])
        );
    }

    #[test]
    fn columns_take_the_field_of_their_name() {
        let inputs = [input("v", "FP32", &[-1, -1]), input("t", "BYTES", &[-1])];
        let rows = [row(json!({"t": "x", "v": [1, 2, 3]})), row(json!({"t": "y", "v": [4, 5, 6]}))];
        let mapping = Mapping::of(&inputs, rows[0].input.keys());
        assert_eq!(mapping, Mapping::Columns);
        let tensors = mapping.tensors(&inputs, &rows, &mut Rng::new(0, 0));
        assert_eq!(tensors.iter().map(|t| t.shape.clone()).collect::<Vec<_>>(), [vec![2, 3], vec![2]]);
    }

    #[test]
    fn without_rows_the_metadata_must_do() {
        let inputs = [input("x", "INT64", &[-1, 3, -1]), input("fixed", "BOOL", &[4])];
        let rows = [row(json!({})), row(json!({}))];
        assert_eq!(Mapping::of(&inputs, rows[0].input.keys()), Mapping::MadeUp);
        let tensors = Mapping::MadeUp.tensors(&inputs, &rows, &mut Rng::new(0, 0));
        assert_eq!((&tensors[0].shape[..], tensors[0].data.len()), (&[2, 3, 8][..], 48));
        assert_eq!((&tensors[1].shape[..], tensors[1].data.len()), (&[4][..], 4));
    }

    #[test]
    fn metadata_is_read_or_it_is_none() {
        let good = json!({"inputs": [{"name": "a", "datatype": "FP32", "shape": [-1]}]});
        assert_eq!(inputs(&good), Some(vec![input("a", "FP32", &[-1])]));
        for bad in [json!({}), json!({"inputs": []}), json!({"inputs": [{"name": "a"}]})] {
            assert_eq!(inputs(&bad), None, "{bad}");
        }
    }
}
