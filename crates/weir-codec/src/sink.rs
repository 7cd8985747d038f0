//! Where decoded values go: the model's input tensors, growing row by row.

use weir_types::{Batch, Tensor, TensorData};

use crate::{
    Decoded, Lookups, Wanted, number,
    plan::{FieldPlan, Plan},
};

/// One value of a field's kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Float(f64),
    Int(i128),
    Bool(bool),
    Text(String),
}

/// Tensors under construction.
pub(crate) struct Sink<'p> {
    plan: &'p Plan,
    data: Vec<TensorData>,
    rows: usize,
    /// Lengths that the first value decided, one list a field; empty where no field is open.
    open: Vec<Vec<Option<usize>>>,
    /// What is to be looked up.
    wanted: Vec<Wanted>,
    /// Whether the rows came as a list.
    listed: bool,
}

impl<'p> Sink<'p> {
    /// An empty batch with room for one row.
    pub(crate) fn new(plan: &'p Plan) -> Self {
        let room =
            |slot: &crate::plan::SlotPlan| TensorData::with_capacity(slot.dtype, slot.width.unwrap_or(0));
        let open = if plan.slots.iter().any(|s| s.open_field.is_some()) {
            plan.fields.iter().map(|f| vec![None; f.dims.len()]).collect()
        } else {
            Vec::new()
        };
        let data = plan.slots.iter().map(room).collect();
        Self { plan, data, rows: 0, open, wanted: Vec::new(), listed: false }
    }

    /// Goes on with tensors that were finished before.
    pub(crate) fn resume(plan: &'p Plan, data: Vec<TensorData>, rows: usize) -> Self {
        Self { plan, data, rows, open: Vec::new(), wanted: Vec::new(), listed: false }
    }

    /// The tensors' data, for one that was resumed.
    pub(crate) fn into_data(self) -> Vec<TensorData> {
        self.data
    }

    /// Rows begun.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Begins a row and tells its index.
    pub(crate) fn begin_row(&mut self) -> usize {
        self.rows += 1;
        for (data, slot) in self.data.iter_mut().zip(&self.plan.slots) {
            if let Some(width) = slot.width {
                grow(data, self.rows * width);
            }
        }
        self.rows - 1
    }

    /// Says that the list of `field` at nesting `level` has `len` items.
    ///
    /// # Errors
    /// The length that an earlier value of this request decided, if it is another one.
    pub(crate) fn note_len(&mut self, field: usize, level: usize, len: usize) -> Result<(), usize> {
        match self.open.get_mut(field).and_then(|levels| levels.get_mut(level)) {
            None => Ok(()),
            Some(slot) => match *slot {
                Some(before) if before != len => Err(before),
                _ => {
                    *slot = Some(len);
                    Ok(())
                }
            },
        }
    }

    /// Writes a float, rounded to the field's dtype.
    pub(crate) fn float(&mut self, field: &FieldPlan, row: usize, element: usize, x: f64) {
        let at = field.index(row, element);
        match &mut self.data[field.input] {
            TensorData::Float32(v) => put(v, at, x as f32),
            TensorData::Float64(v) => put(v, at, x),
            TensorData::Float16(v) => put(v, at, number::half_bits(x, 10)),
            TensorData::Bfloat16(v) => put(v, at, number::half_bits(x, 7)),
            _ => {}
        }
    }

    /// Writes an integer, which the field's rules have found to fit.
    pub(crate) fn int(&mut self, field: &FieldPlan, row: usize, element: usize, n: i128) {
        let at = field.index(row, element);
        match &mut self.data[field.input] {
            TensorData::Int8(v) => put(v, at, n as i8),
            TensorData::Int16(v) => put(v, at, n as i16),
            TensorData::Int32(v) => put(v, at, n as i32),
            TensorData::Int64(v) => put(v, at, n as i64),
            TensorData::Uint8(v) => put(v, at, n as u8),
            TensorData::Uint16(v) => put(v, at, n as u16),
            TensorData::Uint32(v) => put(v, at, n as u32),
            TensorData::Uint64(v) => put(v, at, n as u64),
            _ => {}
        }
    }

    /// Writes a boolean.
    pub(crate) fn bool(&mut self, field: &FieldPlan, row: usize, element: usize, b: bool) {
        if let TensorData::Bool(v) = &mut self.data[field.input] {
            put(v, field.index(row, element), b);
        }
    }

    /// Writes a string.
    pub(crate) fn text(&mut self, field: &FieldPlan, row: usize, element: usize, text: String) {
        if let TensorData::String(v) = &mut self.data[field.input] {
            put(v, field.index(row, element), text);
        }
    }

    /// Writes what stands for "missing": NaN, or the empty string.
    pub(crate) fn missing(&mut self, field: &FieldPlan, row: usize, element: usize) {
        match &self.data[field.input] {
            TensorData::String(_) => self.text(field, row, element, String::new()),
            _ => self.float(field, row, element, f64::NAN),
        }
    }

    /// Writes a value of any kind.
    pub(crate) fn cell(&mut self, field: &FieldPlan, row: usize, element: usize, cell: Cell) {
        match cell {
            Cell::Float(x) => self.float(field, row, element, x),
            Cell::Int(n) => self.int(field, row, element, n),
            Cell::Bool(b) => self.bool(field, row, element, b),
            Cell::Text(text) => self.text(field, row, element, text),
        }
    }

    /// Writes the field's default to all its elements; `false` if it has none.
    #[must_use]
    pub(crate) fn default(&mut self, field: &FieldPlan, row: usize) -> bool {
        let Some(default) = &field.default else { return false };
        for element in 0..field.width {
            self.cell(field, row, element, default.clone());
        }
        true
    }

    /// Notes that the field's value is to be looked up.
    pub(crate) fn want(&mut self, row: usize, field: usize) {
        self.wanted.push(Wanted { row, field });
    }

    /// Notes that the rows come as a list.
    pub(crate) fn list(&mut self) {
        self.listed = true;
    }

    /// What was decoded. `None` only if the plan is at odds with itself.
    pub(crate) fn finish(self) -> Option<Decoded> {
        let Self { plan, mut data, rows, open, wanted, listed } = self;
        let keys = plan.schema.keys.len();
        let entities = if keys == 0 { Vec::new() } else { data.split_off(plan.slots.len() - keys) };
        let mut inputs = Vec::with_capacity(data.len());
        for (data, slot) in data.into_iter().zip(&plan.slots) {
            let learned = slot.open_field.and_then(|f| open.get(f));
            let mut shape = Vec::with_capacity(1 + slot.dims.len());
            shape.push(rows);
            for (level, dim) in slot.dims.iter().enumerate() {
                let seen = || learned.and_then(|l| l.get(level).copied().flatten());
                shape.push(dim.or_else(seen).unwrap_or(0));
            }
            inputs.push(Tensor::new(shape, data).ok()?);
        }
        Some(Decoded { batch: Batch { rows, inputs }, lookups: Lookups { entities, wanted, listed } })
    }
}

fn put<T>(values: &mut Vec<T>, at: Option<usize>, value: T) {
    match at {
        Some(at) => values[at] = value,
        None => values.push(value),
    }
}

fn grow(data: &mut TensorData, len: usize) {
    match data {
        TensorData::Bool(v) => v.resize(len, false),
        TensorData::Int8(v) => v.resize(len, 0),
        TensorData::Int16(v) => v.resize(len, 0),
        TensorData::Int32(v) => v.resize(len, 0),
        TensorData::Int64(v) => v.resize(len, 0),
        TensorData::Uint8(v) => v.resize(len, 0),
        TensorData::Uint16(v) | TensorData::Float16(v) | TensorData::Bfloat16(v) => v.resize(len, 0),
        TensorData::Uint32(v) => v.resize(len, 0),
        TensorData::Uint64(v) => v.resize(len, 0),
        TensorData::Float32(v) => v.resize(len, 0.0),
        TensorData::Float64(v) => v.resize(len, 0.0),
        TensorData::String(v) => v.resize(len, String::new()),
    }
}
