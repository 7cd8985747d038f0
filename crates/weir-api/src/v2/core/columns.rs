//! Typed tables as one tensor a field: the columns are laid into the model's own input
//! tensors where the typed face lays its rows.

use std::borrow::Cow;

use half::{bf16, f16};
use weir_codec::{Decoded, Lookups, Wanted};
use weir_types::{
    Batch, DType, Dim, EntityKey, Error, Field, Scalar, Schema, Tensor, TensorData, element_count,
};

use super::{NamedTensor, TensorMetadata, cast::cast, cut};

/// The metadata of each field, then of each key; a single value is `[rows, 1]`, as MLflow's clients have it.
pub(super) fn metadata(schema: &Schema) -> Vec<TensorMetadata> {
    let shape = |field: &Field| {
        let dims: Vec<i64> = field.shape.iter().map(super::metadata::dim).collect();
        std::iter::once(-1).chain(if dims.is_empty() { vec![1] } else { dims }).collect()
    };
    let tensor =
        |f: Cow<'_, Field>| TensorMetadata { name: f.name.clone(), dtype: f.dtype, shape: shape(&f) };
    (0..places(schema)).filter_map(|place| schema.place(place)).map(tensor).collect()
}

/// How many columns a row has: fields, then keys.
fn places(schema: &Schema) -> usize {
    schema.fields.len() + schema.keys.len()
}

/// The field or, behind the fields, the key that is called `name`.
pub(super) fn place(schema: &Schema, name: &str) -> Option<usize> {
    let is = |own: &str, alias: &[String]| own == name || alias.iter().any(|a| a == name);
    let field = schema.fields.iter().position(|f| is(&f.name, &f.alias));
    let key = || schema.keys.iter().position(|k| is(&k.name, &k.alias));
    field.or_else(|| key().map(|key| schema.fields.len() + key))
}

/// Lays `inputs` into the model's own tensors. Fields with a default may be left out, and so may those that
/// are looked up, where there is the column of their key.
///
/// # Errors
/// `InvalidArgument` for columns that are unknown, missing, there twice, or of another type,
/// shape or number of rows than the schema and the first column say.
pub(super) fn decode(schema: &Schema, inputs: Vec<NamedTensor>, max_rows: usize) -> Result<Decoded, Error> {
    let mut columns = assign(schema, inputs)?;
    let rows = rows(schema, &columns)?;
    if rows > max_rows {
        return Err(Error::invalid(format!("{rows} rows in one request, the model takes {max_rows}")));
    }
    let keys = columns.split_off(schema.fields.len());
    let lookups = lookups(schema, &columns, keys, rows);
    let inputs =
        (0..schema.inputs.len()).map(|i| input(schema, i, &columns, rows)).collect::<Result<_, _>>()?;
    Ok(Decoded { batch: Batch { rows, inputs }, lookups })
}

/// What the columns that are not there leave to be looked up: of a field in every row or in none.
fn lookups(schema: &Schema, fields: &[Option<Tensor>], keys: Vec<Option<Tensor>>, rows: usize) -> Lookups {
    let left_out = |&at: &usize| {
        let source = schema.fields[at].source.as_ref().filter(|_| fields[at].is_none());
        source.is_some_and(|source| keys.get(source.key).is_some_and(Option::is_some))
    };
    let left: Vec<usize> = (0..fields.len()).filter(left_out).collect();
    if left.is_empty() {
        return Lookups::default();
    }
    let wanted = (0..rows).flat_map(|row| left.iter().map(move |&field| Wanted { row, field })).collect();
    let entities = keys.into_iter().zip(&schema.keys);
    let entities = entities.map(|(column, key)| column.map_or(filled(key.dtype, rows), Tensor::into_data));
    Lookups { entities: entities.collect(), wanted, listed: true }
}

/// One column a field, then one a key.
fn assign(schema: &Schema, inputs: Vec<NamedTensor>) -> Result<Vec<Option<Tensor>>, Error> {
    let mut columns: Vec<Option<Tensor>> = (0..places(schema)).map(|_| None).collect();
    for NamedTensor { name, tensor } in inputs {
        let place = place(schema, &name).and_then(|at| Some((at, schema.place(at)?)));
        let Some((index, field)) = place else {
            let names: Vec<_> = schema.names().take(32).collect();
            let text = format!("the model has no input {:?}, it has: {}", cut(&name), names.join(", "));
            return Err(Error::invalid(text));
        };
        let tensor = fitted(&field, tensor)?;
        if index >= schema.fields.len() {
            check_key(&field.name, &tensor)?;
        }
        if columns[index].replace(tensor).is_some() {
            return Err(Error::invalid(format!("the input `{}` is there twice", cut(&name))));
        }
    }
    Ok(columns)
}

/// As on the typed face, a text that names an entity is not empty and not endless.
fn check_key(name: &str, tensor: &Tensor) -> Result<(), Error> {
    let fits = |text: &String| (1..=EntityKey::MAX_CHARS).contains(&text.chars().count());
    match tensor.as_strings().unwrap_or_default().iter().position(|text| !fits(text)) {
        None => Ok(()),
        Some(row) => Err(Error::invalid(format!(
            "the input `{name}` has 1 to {} characters, which row {row} has not",
            EntityKey::MAX_CHARS
        ))),
    }
}

/// `tensor` as the field's own type, where it has its shape and every value its equal.
fn fitted(field: &Field, tensor: Tensor) -> Result<Tensor, Error> {
    let own = tensor.shape().get(1..).unwrap_or_default();
    let scalar = field.shape.is_empty() && matches!(own, [] | [1]);
    let same = |(dim, n): (&Dim, &usize)| dim.fixed().is_none_or(|d| d == *n);
    let listed = own.len() == field.shape.len() && field.shape.iter().zip(own).all(same);
    if !tensor.shape().is_empty() && (scalar || listed) {
        if tensor.dtype() == field.dtype {
            return Ok(tensor);
        }
        if let Some(cast) = cast(&tensor, field.dtype) {
            return cast.map_err(|(at, value)| {
                let (name, own) = (&field.name, super::datatype(field.dtype));
                let row = at / tensor.row_width().max(1);
                Error::invalid(format!("the input `{name}` is {own}, which {value} of row {row} is not"))
            });
        }
    }
    let shown: Vec<_> = field.shape.iter().map(ToString::to_string).collect();
    let shown = if shown.is_empty() { "1".to_owned() } else { shown.join(", ") };
    Err(Error::invalid(format!(
        "the input `{}` is {} [rows, {shown}], got {} {:?}",
        field.name,
        super::datatype(field.dtype),
        super::datatype(tensor.dtype()),
        tensor.shape()
    )))
}

fn rows(schema: &Schema, columns: &[Option<Tensor>]) -> Result<usize, Error> {
    let mut known: Option<(usize, &str)> = None;
    for (place, (name, column)) in schema.names().zip(columns).enumerate() {
        let Some(column) = column else {
            missing(schema, place, columns)?;
            continue;
        };
        match known {
            Some((rows, first)) if rows != column.rows() => {
                return Err(Error::invalid(format!(
                    "the input `{name}` has {} rows and `{first}` has {rows}",
                    column.rows()
                )));
            }
            _ => known = Some((column.rows(), name)),
        }
    }
    known.map(|(rows, _)| rows).ok_or_else(|| Error::invalid("the request has no input"))
}

/// Whether the column at `place` may be left out: a key, a field with a default, one whose key is there.
fn missing(schema: &Schema, place: usize, columns: &[Option<Tensor>]) -> Result<(), Error> {
    let Some(field) = schema.fields.get(place).filter(|f| f.default.is_none()) else { return Ok(()) };
    let name = &field.name;
    let Some(key) = field.source.as_ref().map(|source| source.key) else {
        return Err(Error::invalid(format!("the input `{name}` is missing")));
    };
    match columns.get(schema.fields.len() + key) {
        Some(Some(_)) => Ok(()),
        _ => {
            let key = schema.keys.get(key).map_or("", |key| &key.name);
            let text = format!("the input `{name}` is missing, and `{key}`, by which it is looked up");
            Err(Error::invalid(text))
        }
    }
}

/// One of the model's own tensors.
fn input(schema: &Schema, index: usize, columns: &[Option<Tensor>], rows: usize) -> Result<Tensor, Error> {
    let slot = &schema.inputs[index];
    let fields = || schema.fields.iter().zip(columns).filter(|(f, _)| f.input == index);
    let width = slot.row_shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?));
    let wrong = |e: weir_types::TensorError| Error::invalid(format!("input `{}`: {e}", cut(&slot.name)));
    let Some(width) = width else {
        // What the request decides is filled by one field alone, whole.
        let tensor = fields().find_map(|(_, column)| column.clone());
        return tensor.ok_or_else(|| Error::invalid(format!("the input `{}` is missing", cut(&slot.name))));
    };
    let shape: Vec<usize> =
        std::iter::once(rows).chain(slot.row_shape.iter().filter_map(Dim::fixed)).collect();
    let count = element_count(&shape).map_err(wrong)?;
    let mut data = filled(slot.dtype, count);
    for (field, column) in fields() {
        let (at, len) = (field.offset, field.width().unwrap_or(0));
        match column {
            Some(column) => scatter(&mut data, column.data(), (rows, width), (at, len)),
            None => {
                let one = constant(field, len);
                let at = |row: usize| row * width + at;
                (0..rows).for_each(|row| scatter(&mut data, &one, (1, width), (at(row), len)));
            }
        }
    }
    Tensor::new(shape, data).map_err(wrong)
}

/// Runs `$body` with `$to` and `$from` bound to the vectors inside, where their types agree.
macro_rules! pairwise {
    ($a:expr, $b:expr, $to:ident, $from:ident => $body:expr) => {
        pairwise!(@ $a, $b, $to, $from, $body, Bool Int8 Int16 Int32 Int64 Uint8 Uint16 Uint32 Uint64
            Float16 Bfloat16 Float32 Float64 String)
    };
    (@ $a:expr, $b:expr, $to:ident, $from:ident, $body:expr, $($variant:ident)*) => {
        match ($a, $b) {
            $((TensorData::$variant($to), TensorData::$variant($from)) => $body,)*
            // `fitted` has made the types the same.
            _ => {}
        }
    };
}

/// Copies `len` elements a row of `from` to element `at` of each row of `to`.
fn scatter(to: &mut TensorData, from: &TensorData, (rows, width): (usize, usize), (at, len): (usize, usize)) {
    pairwise!(to, from, to, from => for row in 0..rows {
        to[row * width + at..][..len].clone_from_slice(&from[row * len..][..len]);
    });
}

fn filled(dtype: DType, count: usize) -> TensorData {
    match dtype {
        DType::Bool => TensorData::Bool(vec![false; count]),
        DType::Int8 => TensorData::Int8(vec![0; count]),
        DType::Int16 => TensorData::Int16(vec![0; count]),
        DType::Int32 => TensorData::Int32(vec![0; count]),
        DType::Int64 => TensorData::Int64(vec![0; count]),
        DType::Uint8 => TensorData::Uint8(vec![0; count]),
        DType::Uint16 => TensorData::Uint16(vec![0; count]),
        DType::Uint32 => TensorData::Uint32(vec![0; count]),
        DType::Uint64 => TensorData::Uint64(vec![0; count]),
        DType::Float16 => TensorData::Float16(vec![0; count]),
        DType::Bfloat16 => TensorData::Bfloat16(vec![0; count]),
        DType::Float32 => TensorData::Float32(vec![0.0; count]),
        DType::Float64 => TensorData::Float64(vec![0.0; count]),
        DType::String => TensorData::String(vec![String::new(); count]),
    }
}

/// A field's default, `len` times.
fn constant(field: &Field, len: usize) -> TensorData {
    // The typed routes were compiled with the same default: it is of the field's type.
    let (int, float) = match &field.default {
        Some(Scalar::Int(n)) => (*n, *n as f64),
        Some(Scalar::Float(x)) => (0, *x),
        _ => (0, 0.0),
    };
    match field.dtype {
        DType::Bool => TensorData::Bool(vec![matches!(field.default, Some(Scalar::Bool(true))); len]),
        DType::Int8 => TensorData::Int8(vec![int as i8; len]),
        DType::Int16 => TensorData::Int16(vec![int as i16; len]),
        DType::Int32 => TensorData::Int32(vec![int as i32; len]),
        DType::Int64 => TensorData::Int64(vec![int; len]),
        DType::Uint8 => TensorData::Uint8(vec![int as u8; len]),
        DType::Uint16 => TensorData::Uint16(vec![int as u16; len]),
        DType::Uint32 => TensorData::Uint32(vec![int as u32; len]),
        DType::Uint64 => TensorData::Uint64(vec![int as u64; len]),
        DType::Float16 => TensorData::Float16(vec![f16::from_f64(float).to_bits(); len]),
        DType::Bfloat16 => TensorData::Bfloat16(vec![bf16::from_f64(float).to_bits(); len]),
        DType::Float32 => TensorData::Float32(vec![float as f32; len]),
        DType::Float64 => TensorData::Float64(vec![float; len]),
        DType::String => {
            let text = match &field.default {
                Some(Scalar::String(text)) => text.clone(),
                _ => String::new(),
            };
            TensorData::String(vec![text; len])
        }
    }
}
