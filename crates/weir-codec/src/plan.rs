//! A schema compiled for decoding: looked at once when a model loads, so that nothing is
//! left to decide per row.

mod rules;

use std::{collections::HashMap, sync::Arc};

use weir_types::{DType, Dim, Field, Schema};

pub(crate) use rules::{Check, FloatRules, IntRules, Limit, OneOf, TextFault, TextRules};

use crate::{BodyShape, CodecError, DecodeLimits, sink::Cell};

/// One field, ready to be decoded.
#[derive(Debug)]
pub(crate) struct FieldPlan {
    /// The key, and what errors call it.
    pub(crate) name: String,
    /// Lengths of the nested lists that its value is; `None` where the request decides.
    pub(crate) dims: Vec<Option<usize>>,
    /// Whether `null` is a value (of an element, for lists).
    pub(crate) nullable: bool,
    /// What an absent key means.
    pub(crate) default: Option<Cell>,
    /// Type and rules of the value, or of each element.
    pub(crate) check: Check,
    /// Allowed values.
    pub(crate) one_of: Option<OneOf>,
    /// Index of the input it fills.
    pub(crate) input: usize,
    /// First element of the input's row, and the row's width; `None` where the request
    /// decides the width, which one field alone fills then.
    pub(crate) place: Option<Place>,
    /// Number of elements, 1 for a scalar; meaningless without a place.
    pub(crate) width: usize,
    /// The entity key (an index of [`Plan::fields`]) that its value can be looked up by.
    pub(crate) key: Option<usize>,
}

/// Where a field lies in an input of fixed width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// First element within the row.
    pub(crate) offset: usize,
    /// Elements of the input's row.
    pub(crate) stride: usize,
}

impl FieldPlan {
    /// A scalar field that fills no input: a query parameter.
    pub(crate) fn standalone(f: &Field) -> Result<Self, CodecError> {
        field(f, &[SlotPlan::scalar(f.dtype)], 0)
    }

    /// Index into the input's elements; `None` means "append".
    pub(crate) fn index(&self, row: usize, element: usize) -> Option<usize> {
        self.place.map(|place| row * place.stride + place.offset + element)
    }
}

/// One model input.
#[derive(Debug)]
pub(crate) struct SlotPlan {
    /// Element type.
    pub(crate) dtype: DType,
    /// Row dimensions, `None` where the request decides.
    pub(crate) dims: Vec<Option<usize>>,
    /// Elements of a row where all dimensions are fixed.
    pub(crate) width: Option<usize>,
    /// The field whose lists decide the open dimensions.
    pub(crate) open_field: Option<usize>,
}

impl SlotPlan {
    /// A column of single values.
    fn scalar(dtype: DType) -> Self {
        Self { dtype, dims: Vec::new(), width: Some(1), open_field: None }
    }
}

/// What a key of a row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyUse {
    /// Index of the field.
    pub(crate) field: usize,
    /// 0 for the name, then the aliases in order: of several keys the lowest counts.
    pub(crate) rank: usize,
}

/// Everything a decoder needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) schema: Arc<Schema>,
    pub(crate) shape: BodyShape,
    pub(crate) limits: DecodeLimits,
    /// The schema's fields, then its entity keys: to the decoder they are fields too, that fill
    /// columns of their own behind the model's inputs.
    pub(crate) fields: Vec<FieldPlan>,
    /// How many of them are the schema's fields.
    pub(crate) own: usize,
    pub(crate) slots: Vec<SlotPlan>,
    /// For columns: fields that no column fills.
    pub(crate) uncovered: Vec<usize>,
    keys: HashMap<Box<str>, KeyUse>,
}

/// The list key of [`BodyShape::Instances`].
pub(crate) const INSTANCES: &str = "instances";

impl Plan {
    pub(crate) fn new(
        schema: Arc<Schema>,
        shape: BodyShape,
        limits: DecodeLimits,
    ) -> Result<Self, CodecError> {
        let mut slots = slots(&schema)?;
        let inputs = slots.len();
        slots.extend(schema.keys.iter().map(|key| SlotPlan::scalar(key.dtype)));
        let own = schema.fields.len();
        let keyed: Vec<Field> = schema.keys.iter().enumerate().map(|(i, k)| k.field(inputs + i)).collect();
        let all = schema.fields.iter().chain(&keyed);
        let fields = all.map(|f| field(f, &slots, own)).collect::<Result<Vec<_>, _>>()?;
        let uncovered = uncovered(&shape, &fields, own)?;
        let keys = keys(&schema);
        // Body, list of rows, row, then the field's own lists: no shape nests deeper.
        let needed = 3 + fields.iter().map(|f| f.dims.len()).max().unwrap_or(0);
        if limits.max_depth < needed {
            return Err(CodecError::Depth { max_depth: limits.max_depth, needed });
        }
        Ok(Self { schema, shape, limits, fields, own, slots, uncovered, keys })
    }

    /// What `key` means in a row.
    pub(crate) fn key(&self, key: &str) -> Option<KeyUse> {
        self.keys.get(key).copied()
    }

    /// The key under which a body lists rows, if it may.
    pub(crate) fn rows_key(&self) -> Option<&str> {
        match &self.shape {
            BodyShape::Rows { key } => Some(key),
            BodyShape::Instances if self.key(INSTANCES).is_none() => Some(INSTANCES),
            _ => None,
        }
    }
}

fn dims(shape: &[Dim]) -> Vec<Option<usize>> {
    shape.iter().map(Dim::fixed).collect()
}

fn product(dims: &[Option<usize>]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d)?))
}

fn slots(schema: &Schema) -> Result<Vec<SlotPlan>, CodecError> {
    schema.inputs.iter().enumerate().map(|(index, slot)| {
        let dims = dims(&slot.row_shape);
        let width = product(&dims);
        let mut filling = schema.fields.iter().enumerate().filter(|(_, f)| f.input == index);
        let open_field = match (width, filling.next(), filling.next()) {
            (Some(_), ..) => None,
            (None, Some((at, only)), None) if only.shape == slot.row_shape => Some(at),
            _ => {
                return Err(CodecError::Shape(format!(
                    "input `{}` has a dimension that the request decides: exactly one field of the same shape must fill it",
                    slot.name
                )));
            }
        };
        Ok(SlotPlan { dtype: slot.dtype, dims, width, open_field })
    }).collect()
}

fn field(f: &Field, slots: &[SlotPlan], own: usize) -> Result<FieldPlan, CodecError> {
    let slot = slots.get(f.input).ok_or_else(|| {
        CodecError::Shape(format!("field `{}` fills input {}, which there is not", f.name, f.input))
    })?;
    if slot.dtype != f.dtype {
        return Err(CodecError::Shape(format!(
            "field `{}` is {}, but the input it fills is {}",
            f.name, f.dtype, slot.dtype
        )));
    }
    let place = slot.width.map(|stride| Place { offset: f.offset, stride });
    let dims = dims(&f.shape);
    let width = product(&dims);
    if let Some(place) = place
        && width.and_then(|n| n.checked_add(place.offset)).is_none_or(|end| end > place.stride)
    {
        return Err(CodecError::Shape(format!("field `{}` reaches beyond the row of its input", f.name)));
    }
    let default = rules::default(f)?;
    if default.is_some() && place.is_none() {
        return Err(CodecError::DefaultLength(f.name.clone()));
    }
    if f.source.is_some() && !dims.is_empty() {
        return Err(CodecError::Shape(format!("field `{}` is looked up, so it is a single value", f.name)));
    }
    Ok(FieldPlan {
        name: f.name.clone(),
        key: f.source.as_ref().map(|source| own + source.key),
        dims,
        nullable: f.nullable,
        default,
        check: rules::check(f)?,
        one_of: rules::one_of(f)?,
        input: f.input,
        place,
        width: width.unwrap_or(0),
    })
}

fn keys(schema: &Schema) -> HashMap<Box<str>, KeyUse> {
    let mut keys = HashMap::new();
    let fields = schema.fields.iter().map(|f| (&f.name, &f.alias));
    let entities = schema.keys.iter().map(|k| (&k.name, &k.alias));
    for (field, (name, alias)) in fields.chain(entities).enumerate() {
        for (rank, key) in std::iter::once(name).chain(alias).enumerate() {
            // `Schema::check` refuses duplicates; the first field keeps the key otherwise.
            keys.entry(key.as_str().into()).or_insert(KeyUse { field, rank });
        }
    }
    keys
}

fn uncovered(shape: &BodyShape, fields: &[FieldPlan], own: usize) -> Result<Vec<usize>, CodecError> {
    let BodyShape::Columns { keys } = shape else { return Ok(Vec::new()) };
    for (i, (key, field)) in keys.iter().enumerate() {
        if *field >= fields.len() {
            return Err(CodecError::Shape(format!("column `{key}` fills field {field}, which there is not")));
        }
        if keys[..i].iter().any(|(k, f)| k == key || f == field) {
            return Err(CodecError::Shape(format!("column `{key}` or its field is named twice")));
        }
    }
    let covered = |index: usize| keys.iter().any(|&(_, f)| f == index);
    let open: Vec<_> = (0..own).filter(|&i| !covered(i)).collect();
    let looked_up = |i: usize| fields[i].key.is_some_and(covered);
    match open.iter().find(|&&i| fields[i].default.is_none() && !looked_up(i)) {
        Some(&i) => Err(CodecError::Shape(format!(
            "field `{}` has neither a column in the request nor a default",
            fields[i].name
        ))),
        None => Ok(open),
    }
}
