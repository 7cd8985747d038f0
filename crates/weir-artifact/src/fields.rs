//! From the model's inputs and `[[input.field]]` to the schema of a row.

use weir_types::{
    Coercion, DType, Dim, Extra, Field, InputSlot, Rules, Scalar, Schema, SchemaError, Signature,
};

use crate::{
    CoerceWord, ExtraWord, FieldTable, InputTable,
    report::Report,
    rules::{broken, rules, scalar},
};

/// The schema of a row; what is wrong goes to `report`.
pub(crate) fn schema(table: &InputTable, signature: &Signature, report: &mut Report) -> Schema {
    let inputs: Vec<InputSlot> = signature.inputs.iter().map(slot).collect();
    let fields: Vec<Field> = if table.field.is_empty() {
        inputs.iter().enumerate().map(|(i, slot)| whole_input(i, slot)).collect()
    } else {
        let mut tiler = Tiler { inputs: &inputs, filled: vec![0; inputs.len()], only: only(table, &inputs) };
        let fields = table.field.iter().enumerate();
        fields.filter_map(|(i, f)| tiler.field(f, &format!("input.field[{i}]"), report)).collect()
    };
    let extra = match table.extra {
        ExtraWord::Forbid => Extra::Forbid,
        ExtraWord::Ignore => Extra::Ignore,
    };
    let coerce = match table.coerce {
        CoerceWord::Lax => Coercion::Lax,
        CoerceWord::Strict => Coercion::Strict,
    };
    let inputs = narrowed(inputs, &fields);
    let schema = Schema { fields, keys: Vec::new(), inputs, extra, coerce };
    if report.problems.is_empty() {
        check(&schema, report);
    }
    schema
}

fn slot(input: &weir_types::TensorSpec) -> InputSlot {
    let row_shape = input.shape.iter().skip(1).cloned().collect();
    InputSlot { name: input.name.clone(), dtype: input.dtype, row_shape }
}

/// Where one field fills an input whose size is open, the input takes what the field takes.
fn narrowed(mut inputs: Vec<InputSlot>, fields: &[Field]) -> Vec<InputSlot> {
    for field in fields {
        let Some(slot) = inputs.get_mut(field.input) else { continue };
        if width(&slot.row_shape).is_none() && field.shape.len() == slot.row_shape.len() {
            slot.row_shape.clone_from(&field.shape);
        }
    }
    inputs
}

/// The field of an input that no `[[input.field]]` describes.
fn whole_input(index: usize, slot: &InputSlot) -> Field {
    Field { shape: natural_shape(slot), ..Field::new(slot.name.clone(), slot.dtype, index, 0) }
}

/// A row of one element is a single value, `[N, 1]` as well as `[N]`.
fn natural_shape(slot: &InputSlot) -> Vec<Dim> {
    if slot.row_shape.iter().all(|d| d.fixed() == Some(1)) { Vec::new() } else { slot.row_shape.clone() }
}

/// For each input, whether just one field can mean it.
fn only(table: &InputTable, inputs: &[InputSlot]) -> Vec<bool> {
    let named = |slot: &InputSlot| table.field.iter().filter(|f| named_input(f, slot)).count();
    match inputs {
        [_] => vec![table.field.len() == 1],
        many if many.len() == table.field.len() => vec![true; many.len()],
        many => many.iter().map(|slot| named(slot) == 1).collect(),
    }
}

fn named_input(field: &FieldTable, slot: &InputSlot) -> bool {
    field.input.as_deref().unwrap_or(&field.name) == slot.name
}

/// Lays fields side by side into the inputs.
struct Tiler<'a> {
    inputs: &'a [InputSlot],
    /// Elements of each input's row that fields fill so far.
    filled: Vec<usize>,
    only: Vec<bool>,
}

impl Tiler<'_> {
    fn field(&mut self, table: &FieldTable, path: &str, report: &mut Report) -> Option<Field> {
        let input = report.keep(&format!("{path}.input"), self.input(table))?;
        let slot = &self.inputs[input];
        let dtype = table.dtype.map_or(slot.dtype, DType::from);
        if dtype != slot.dtype {
            let message = format!(
                "field `{}` is {dtype}, but the model's input `{}` takes {}",
                table.name, slot.name, slot.dtype
            );
            report.at(&format!("{path}.dtype"), message);
        }
        let shape = report.keep(&format!("{path}.shape"), self.shape(table, input))?;
        let field = field(table, dtype, shape, path, report);
        let offset = self.filled[input];
        self.filled[input] = offset.saturating_add(field.width().unwrap_or(1));
        Some(Field { input, offset, ..field })
    }

    /// The input that the field fills: the one it names, the one that has its name, or the
    /// first with room.
    fn input(&self, table: &FieldTable) -> Result<usize, String> {
        if let Some(name) = &table.input {
            return self.inputs.iter().position(|s| s.name == *name).ok_or_else(|| {
                let names: Vec<_> = self.inputs.iter().map(|s| format!("`{}`", s.name)).collect();
                format!("the model has no input `{name}`, it has {}", names.join(", "))
            });
        }
        if let [_] = self.inputs {
            return Ok(0);
        }
        let named = self.inputs.iter().position(|s| s.name == table.name);
        let room = || (0..self.inputs.len()).find(|&i| self.has_room(i));
        named
            .or_else(room)
            .ok_or_else(|| format!("field `{}` is one too many: the model's inputs are full", table.name))
    }

    fn has_room(&self, input: usize) -> bool {
        match width(&self.inputs[input].row_shape) {
            Some(width) => self.filled[input] < width,
            None => self.filled[input] == 0,
        }
    }

    fn shape(&self, table: &FieldTable, input: usize) -> Result<Vec<Dim>, String> {
        let slot = &self.inputs[input];
        let Some(dims) = &table.shape else {
            return match width(&slot.row_shape) {
                _ if self.only[input] => Ok(natural_shape(slot)),
                Some(_) => Ok(Vec::new()),
                None => Err(free_size(table, slot)),
            };
        };
        let shape: Vec<Dim> =
            dims.iter().map(|&d| usize::try_from(d).map_or(Dim::Any(None), Dim::Fixed)).collect();
        if let Some(bad) = dims.iter().find(|&&d| d < -1 || d == 0) {
            return Err(format!("`shape` takes sizes from 1, or -1 for any size, got {bad}"));
        }
        match (width(&slot.row_shape), width(&shape)) {
            (Some(_), Some(_)) => Ok(shape),
            (Some(_), None) => Err(format!(
                "`shape` cannot leave a size open: the input `{}` takes {}",
                slot.name,
                row(&slot.row_shape)
            )),
            (None, _) if !self.only[input] => Err(free_size(table, slot)),
            (None, _) if narrows(&shape, &slot.row_shape) => Ok(shape),
            (None, _) => Err(format!(
                "`shape` does not fit the input `{}`, which takes {}",
                slot.name,
                row(&slot.row_shape)
            )),
        }
    }
}

fn free_size(table: &FieldTable, slot: &InputSlot) -> String {
    format!(
        "field `{}` cannot share the input `{}`, which takes {}: only one field can fill an input of open size",
        table.name,
        slot.name,
        row(&slot.row_shape)
    )
}

/// Whether `shape` is `of` with some open sizes fixed.
fn narrows(shape: &[Dim], of: &[Dim]) -> bool {
    shape.len() == of.len()
        && shape.iter().zip(of).all(|(s, o)| o.fixed().is_none() || s.fixed() == o.fixed())
}

fn width(shape: &[Dim]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
}

fn row(shape: &[Dim]) -> String {
    let dims: Vec<_> = shape.iter().map(ToString::to_string).collect();
    format!("[{}] a row", dims.join(", "))
}

fn field(table: &FieldTable, dtype: DType, shape: Vec<Dim>, path: &str, report: &mut Report) -> Field {
    if table.name.is_empty() {
        report.at(&format!("{path}.name"), "`name` must not be empty");
    }
    let rules = rules(table, dtype, path, report);
    let mut single = |key: &str, value: &Option<Scalar>| {
        let value = value.as_ref()?;
        report.keep(&format!("{path}.{key}"), single(key, value, dtype, &shape, &rules))
    };
    let default = single("default", &table.default);
    let example = single("example", &table.example);
    Field {
        alias: table.alias.clone(),
        nullable: table.nullable,
        description: table.description.clone(),
        shape,
        default,
        rules,
        example,
        ..Field::new(table.name.clone(), dtype, 0, 0)
    }
}

/// A default or example: of the field's type, allowed by its rules, and for a single value.
fn single(key: &str, value: &Scalar, dtype: DType, shape: &[Dim], rules: &Rules) -> Result<Scalar, String> {
    if !shape.is_empty() {
        return Err(format!("`{key}` is for single values, this field takes {}", row(shape)));
    }
    let value = scalar(value, dtype).map_err(|e| format!("`{key}`: {e}"))?;
    match broken(&value, rules) {
        Some(why) => Err(format!("`{key}` would be refused: {why}")),
        None => Ok(value),
    }
}

/// What remains to be checked once every field has its place.
fn check(schema: &Schema, report: &mut Report) {
    for error in schema.check().err().unwrap_or_default() {
        let last = |name: &str| {
            schema.fields.iter().rposition(|f| f.name == name || f.alias.iter().any(|a| a == name))
        };
        match &error {
            SchemaError::DuplicateKey(key) => {
                let place = last(key).map_or("input".to_owned(), |i| format!("input.field[{i}].name"));
                report.at(&place, error.to_string());
            }
            SchemaError::NoMissingValue(name, _) => {
                let place = last(name).map_or("input".to_owned(), |i| format!("input.field[{i}].nullable"));
                report.at(&place, error.to_string());
            }
            SchemaError::Coverage { input, .. } => {
                let last = schema.fields.iter().rposition(|f| schema.inputs[f.input].name == *input);
                let place = last.map_or("input".to_owned(), |i| format!("input.field[{i}]"));
                report.at(
                    &place,
                    format!("{error}: there must be one field a column, in the order of the columns"),
                );
            }
        }
    }
}
