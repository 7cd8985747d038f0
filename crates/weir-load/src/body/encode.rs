//! Rows and bodies become requests of a face.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    http::{BLANK, Body, Head},
    rows::{Rows, Sample},
    schema::Schema,
    tensors::{Input, Mapping},
    wire::{self, Tensor},
};
use crate::{
    answer::{Expected, predictions},
    plan::{Request, Source},
    rng::Rng,
};

/// How a body is written.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// One row, or `{"instances": […]}`.
    Instances(Rows),
    /// Whatever the schema of a route says.
    Body(Schema),
    /// V2 with JSON or binary tensors, or gRPC.
    Tensors { rows: Rows, inputs: Vec<Input>, mapping: Mapping, way: Way },
}

/// How tensors are written.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// As JSON numbers.
    Json,
    /// As bytes behind the JSON.
    Binary,
    /// As the raw contents of a protobuf message.
    Grpc {
        /// The model's name.
        model: String,
        /// Its version; the latest without one.
        version: Option<String>,
    },
}

/// Makes requests of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    pub(crate) head: Head,
    pub(crate) form: Form,
    /// Rows of a request; each of them as likely.
    pub(crate) rows: Vec<usize>,
    /// Whether V2 bodies carry the time left.
    pub(crate) deadline: bool,
}

impl Source for Encoder {
    fn request(&self, rng: &mut Rng) -> Request {
        let rows = self.rows.get(rng.below(self.rows.len())).copied().unwrap_or(1);
        let (body, expected) = match &self.form {
            Form::Body(schema) => (json_body(&schema.body(rng, rows)), None),
            Form::Instances(source) => instances(&source.draw(rng, rows)),
            Form::Tensors { rows: source, inputs, mapping, way } => {
                let drawn = source.draw(rng, rows);
                let tensors = mapping.tensors(inputs, &drawn, rng);
                (self.tensors(&tensors, way), None)
            }
        };
        let (wire, slots) = match &self.form {
            Form::Tensors { way: Way::Grpc { .. }, .. } => (body.bytes.into(), Vec::new()),
            _ => self.head.with(Some(&body)),
        };
        Request { wire, slots, rows: u32::try_from(rows).unwrap_or(u32::MAX), expected }
    }
}

fn json_body(value: &Value) -> Body {
    Body { bytes: value.to_string().into_bytes(), ..Body::default() }
}

/// The body of typed rows and, where every row has a prediction, what must come back.
fn instances(rows: &[Sample]) -> (Body, Option<Arc<Expected>>) {
    let body = match rows {
        [one] => json_body(&Value::Object(one.input.clone())),
        many => json_body(&json!({"instances": many.iter().map(|r| &r.input).collect::<Vec<_>>()})),
    };
    let known: Option<Vec<Value>> = rows.iter().map(|row| row.prediction.clone()).collect();
    let tolerance = rows.iter().map(|row| row.tolerance).fold(0.0, f64::max);
    (body, known.map(|values| Arc::new(Expected { value: predictions(values), tolerance, bytes: None })))
}

impl Encoder {
    fn tensors(&self, tensors: &[Tensor], way: &Way) -> Body {
        match way {
            Way::Grpc { model, version } => {
                let bytes = wire::request(model, version.as_deref(), tensors).unwrap_or_default();
                Body { bytes, ..Body::default() }
            }
            Way::Json => self.v2(tensors, false),
            Way::Binary => self.v2(tensors, true),
        }
    }

    fn v2(&self, tensors: &[Tensor], binary: bool) -> Body {
        let mut blobs = Vec::new();
        let mut input = |tensor: &Tensor| {
            let mut value = json!({"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype});
            match wire::raw(&tensor.datatype, &tensor.data).filter(|_| binary) {
                Some(raw) => {
                    value["parameters"] = json!({"binary_data_size": raw.len()});
                    blobs.extend(raw);
                }
                None => value["data"] = Value::Array(tensor.data.clone()),
            }
            value
        };
        let inputs: Value = tensors.iter().map(&mut input).collect();
        let (bytes, slot) = self.v2_json(&inputs, binary);
        let json = binary.then_some(bytes.len());
        Body { bytes: [bytes, blobs].concat(), json, slot }
    }

    /// The JSON of a V2 request. `timeout` is written by hand: its place must be known.
    fn v2_json(&self, inputs: &Value, binary: bool) -> (Vec<u8>, Option<usize>) {
        let mut out = String::from("{");
        let mut slot = None;
        if self.deadline || binary {
            out.push_str("\"parameters\":{");
            if self.deadline {
                out.push_str("\"timeout\":");
                slot = Some(out.len());
                out.push_str(BLANK);
            }
            if binary {
                out.push_str(if self.deadline { "," } else { "" });
                out.push_str("\"binary_data_output\":true");
            }
            out.push_str("},");
        }
        out.push_str(&format!("\"inputs\":{inputs}}}"));
        (out.into_bytes(), slot)
    }
}
