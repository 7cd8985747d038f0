//! Values that rows leave to be looked up: which they are, and how they join the batch.

use weir_types::{Batch, Scalar, Tensor, TensorData};

use crate::{
    Echo, FieldError, Loc, Rejection, RowDecoder,
    full::{Checked, Fault, check_scalar},
    plan::{FieldPlan, Plan},
    sink::{Cell, Sink},
};

/// A decoded body.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The rows. Where something is to be looked up there is nothing of meaning yet.
    pub batch: Batch,
    /// What the rows leave to be looked up.
    pub lookups: Lookups,
}

/// What the rows of a body leave to be looked up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lookups {
    /// One column an entity key, in the schema's order, strings or int64, one entry a row. A row
    /// without the key has an entry of no meaning; nothing is wanted by it.
    pub entities: Vec<TensorData>,
    /// The values that are not there, in the order of rows and fields.
    pub wanted: Vec<Wanted>,
    /// Whether the rows came as a list; where one may come by itself, errors name its place without one.
    pub listed: bool,
}

/// One value that is to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The row.
    pub row: usize,
    /// Index of the schema's field.
    pub field: usize,
}

impl Lookups {
    /// Whether every value is there.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The entity in `row` by the key at index `key` of the schema.
    pub fn entity(&self, key: usize, row: usize) -> Option<Scalar> {
        match self.entities.get(key)? {
            TensorData::String(names) => names.get(row).cloned().map(Scalar::String),
            TensorData::Int64(numbers) => numbers.get(row).copied().map(Scalar::Int),
            _ => None,
        }
    }
}

/// Why there is no value to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The error's type: `feature_missing`, `feature_stale`.
    pub kind: &'static str,
    /// One sentence that says what the caller can do.
    pub msg: String,
}

impl RowDecoder {
    /// Fills in what was looked up: `found` has one entry for each of the wanted values, in
    /// their order. A value that was found is checked and cast as one in the body is, so that
    /// the model cannot tell the two apart; for one that was not, the field's default stands.
    ///
    /// # Errors
    /// [`Rejection::Invalid`] with each value that there is not, or that the field refuses.
    pub fn fill(&self, decoded: Decoded, found: Vec<Result<Scalar, Absent>>) -> Result<Batch, Rejection> {
        let Decoded { batch, lookups } = decoded;
        if lookups.is_empty() {
            return Ok(batch);
        }
        let plan = &self.plan;
        let (shapes, data) = batch.inputs.into_iter().map(|t| (t.shape().to_vec(), t.into_data())).unzip();
        let shapes: Vec<Vec<usize>> = shapes;
        let mut sink = Sink::resume(plan, data, batch.rows);
        let mut errors = Vec::new();
        for (wanted, found) in lookups.wanted.iter().zip(found) {
            if errors.len() >= plan.limits.max_errors.max(1) {
                break;
            }
            let field = &plan.fields[wanted.field];
            match value(field, &found) {
                Ok(Some(cell)) => sink.cell(field, wanted.row, 0, cell),
                Ok(None) => drop(sink.default(field, wanted.row)),
                Err(fault) => errors.push(self.error(*wanted, fault, found.ok(), &lookups)),
            }
        }
        if !errors.is_empty() {
            return Err(Rejection::Invalid(errors));
        }
        let tensors = shapes.into_iter().zip(sink.into_data()).map(|(shape, data)| Tensor::new(shape, data));
        let inputs = tensors.collect::<Result<_, _>>().map_err(|_| Rejection::Unparsable)?;
        Ok(Batch { rows: batch.rows, inputs })
    }

    /// The entity is echoed: it is what the caller sent.
    fn error(&self, wanted: Wanted, fault: Fault, found: Option<Scalar>, lookups: &Lookups) -> FieldError {
        let plan = &self.plan;
        let key = plan.fields[wanted.field].key.map_or(0, |key| key - plan.own);
        let entity = echo(plan, &lookups.entity(key, wanted.row).unwrap_or(Scalar::Int(0)));
        let Fault { kind, mut msg, ctx } = fault;
        if let Some(found) = found {
            msg = unfit(plan, wanted, (&entity, &echo(plan, &found)), &msg);
        }
        FieldError { kind, loc: location(plan, wanted, lookups.listed), msg, input: entity, ctx }
    }
}

/// What to say of a value that the field refuses and that the caller has never seen.
fn unfit(plan: &Plan, wanted: Wanted, (entity, found): (&Echo, &Echo), why: &str) -> String {
    let field = &plan.schema.fields[wanted.field];
    let Some(source) = &field.source else { return why.to_owned() };
    format!(
        "`{}.{}` of `{}` {} is {}: {why}. Send `{}`, or put another value of the feature",
        source.view,
        source.feature,
        plan.schema.keys.get(source.key).map_or("", |key| &key.name),
        entity.as_json(),
        found.as_json(),
        field.name
    )
}

/// The cell to write; `None` for the default.
fn value(field: &FieldPlan, found: &Result<Scalar, Absent>) -> Result<Option<Cell>, Fault> {
    match found {
        Ok(scalar) => match check_scalar(field, scalar)? {
            Checked::Cell(cell) => Ok(Some(cell)),
            Checked::Missing => Ok(None),
        },
        Err(_) if field.default.is_some() => Ok(None),
        Err(Absent { kind, msg }) => Err(Fault { kind, msg: msg.clone(), ctx: None }),
    }
}

/// Where the value would have stood in the body.
fn location(plan: &Plan, wanted: Wanted, listed: bool) -> Vec<Loc> {
    let mut loc = vec![Loc::Key("body".into())];
    if let Some(key) = plan.rows_key().filter(|_| listed) {
        loc.extend([Loc::Key(key.to_owned().into()), Loc::Index(wanted.row)]);
    }
    loc.push(Loc::Key(plan.fields[wanted.field].name.clone().into()));
    loc
}

fn echo(plan: &Plan, value: &Scalar) -> Echo {
    match value {
        Scalar::String(text) => crate::full::echo_text(text, plan.limits.max_echo_bytes),
        Scalar::Int(number) => Echo::from_json(number.to_string()),
        Scalar::Float(number) => Echo::from_float(*number),
        Scalar::Bool(b) => Echo::from_json(b.to_string()),
    }
}
