//! Typed tables as one tensor a field: the columns are laid into the model's own input
//! tensors where the typed face lays its rows.

use half::{bf16, f16};
use weir_types::{Batch, DType, Dim, Error, Field, Scalar, Schema, Tensor, TensorData, element_count};

use super::{NamedTensor, TensorMetadata, cast::cast, cut};

/// The metadata of each field; a single value is `[rows, 1]`, as MLflow's clients have it.
pub(super) fn metadata(schema: &Schema) -> Vec<TensorMetadata> {
    let shape = |field: &Field| {
        let dims: Vec<i64> = field.shape.iter().map(super::metadata::dim).collect();
        std::iter::once(-1).chain(if dims.is_empty() { vec![1] } else { dims }).collect()
    };
    schema
        .fields
        .iter()
        .map(|f| TensorMetadata { name: f.name.clone(), dtype: f.dtype, shape: shape(f) })
        .collect()
}

/// Lays `inputs` into the model's own tensors. Fields with a default may be left out.
///
/// # Errors
/// `InvalidArgument` for columns that are unknown, missing, there twice, or of another type,
/// shape or number of rows than the schema and the first column say.
pub(super) fn batch(schema: &Schema, inputs: Vec<NamedTensor>, max_rows: usize) -> Result<Batch, Error> {
    let columns = assign(schema, inputs)?;
    let rows = rows(schema, &columns)?;
    if rows > max_rows {
        return Err(Error::invalid(format!("{rows} rows in one request, the model takes {max_rows}")));
    }
    let inputs =
        (0..schema.inputs.len()).map(|i| input(schema, i, &columns, rows)).collect::<Result<_, _>>()?;
    Ok(Batch { rows, inputs })
}

/// One column a field.
fn assign(schema: &Schema, inputs: Vec<NamedTensor>) -> Result<Vec<Option<Tensor>>, Error> {
    let mut columns: Vec<Option<Tensor>> = schema.fields.iter().map(|_| None).collect();
    for NamedTensor { name, tensor } in inputs {
        let position = schema.fields.iter().position(|f| f.name == name || f.alias.contains(&name));
        let Some(index) = position else {
            let names: Vec<_> = schema.fields.iter().take(32).map(|f| f.name.as_str()).collect();
            let text = format!("the model has no input {:?}, it has: {}", cut(&name), names.join(", "));
            return Err(Error::invalid(text));
        };
        let tensor = fitted(&schema.fields[index], tensor)?;
        if columns[index].replace(tensor).is_some() {
            return Err(Error::invalid(format!("the input `{}` is there twice", cut(&name))));
        }
    }
    Ok(columns)
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
    for (field, column) in schema.fields.iter().zip(columns) {
        let Some(column) = column else {
            match field.default {
                Some(_) => continue,
                None => return Err(Error::invalid(format!("the input `{}` is missing", field.name))),
            }
        };
        match known {
            Some((rows, first)) if rows != column.rows() => {
                return Err(Error::invalid(format!(
                    "the input `{}` has {} rows and `{first}` has {rows}",
                    field.name,
                    column.rows()
                )));
            }
            _ => known = Some((column.rows(), &field.name)),
        }
    }
    known.map(|(rows, _)| rows).ok_or_else(|| Error::invalid("the request has no input"))
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
