//! The schemas that the oracle builds its applications from, as decoders.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Map, Value};
use weir_codec::{BodyShape, DecodeLimits, QueryDecoder, QueryParam, RowDecoder};
use weir_types::{Coercion, DType, Dim, Extra, Field, InputSlot, Rules, Scalar, Schema};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> Map<String, Value> {
    let text = std::fs::read_to_string(root().join("tests/pydantic").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every body schema: name and decoder.
pub(crate) fn decoders() -> Vec<(String, RowDecoder)> {
    let build = |schema: &Value| {
        let limits = DecodeLimits { max_rows: max_rows(schema), ..DecodeLimits::default() };
        RowDecoder::new(Arc::new(body_schema(schema)), shape(schema), limits).unwrap()
    };
    read("schemas.json").iter().map(|(name, schema)| (name.clone(), build(schema))).collect()
}

/// One of them.
pub(crate) fn decoder(name: &str) -> RowDecoder {
    decoders().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// Every set of query parameters: name and decoder.
pub(crate) fn queries() -> Vec<(String, QueryDecoder)> {
    let build = |params: &Value| {
        let params = params.as_array().unwrap().iter().map(param).collect();
        QueryDecoder::new(params, DecodeLimits::default()).unwrap()
    };
    read("params.json").iter().map(|(name, params)| (name.clone(), build(params))).collect()
}

fn max_rows(schema: &Value) -> usize {
    schema["shape"]["max_rows"].as_u64().unwrap_or(1) as usize
}

fn shape(schema: &Value) -> BodyShape {
    let shape = &schema["shape"];
    match shape["kind"].as_str().unwrap() {
        "row" => BodyShape::Row,
        "rows" => BodyShape::Rows { key: shape["key"].as_str().unwrap().into() },
        _ => {
            let index = |name: &Value| {
                let fields = schema["fields"].as_array().unwrap();
                fields.iter().position(|f| f["name"] == *name).unwrap()
            };
            let keys = shape["keys"].as_object().unwrap();
            BodyShape::Columns { keys: keys.iter().map(|(k, name)| (k.clone(), index(name))).collect() }
        }
    }
}

fn body_schema(schema: &Value) -> Schema {
    let packed = schema["packed"] == true;
    let mut fields: Vec<_> = schema["fields"].as_array().unwrap().iter().map(field).collect();
    for (i, field) in fields.iter_mut().enumerate() {
        (field.input, field.offset) = if packed { (0, i) } else { (i, 0) };
    }
    let slot = |f: &Field| InputSlot { name: f.name.clone(), dtype: f.dtype, row_shape: f.shape.clone() };
    let mut inputs: Vec<_> = fields.iter().map(slot).collect();
    if packed {
        inputs.truncate(1);
        inputs[0].row_shape = vec![Dim::Fixed(fields.len())];
    }
    let extra = if schema["extra"] == "forbid" { Extra::Forbid } else { Extra::Ignore };
    let coerce = if schema["coerce"] == "strict" { Coercion::Strict } else { Coercion::Lax };
    let schema = Schema { fields, inputs, extra, coerce, ..Schema::default() };
    schema.check().unwrap();
    schema
}

fn dtype(value: &Value) -> DType {
    value["dtype"].as_str().unwrap().parse().unwrap()
}

fn field(value: &Value) -> Field {
    let mut field = Field::new(value["name"].as_str().unwrap(), dtype(value), 0, 0);
    field.alias = list(&value["alias"]).map(|v| v.as_str().unwrap().into()).collect();
    field.shape = list(&value["shape"])
        .map(|v| v.as_u64().map_or(Dim::Any(None), |n| Dim::Fixed(n as usize)))
        .collect();
    field.nullable = value["nullable"] == true;
    field.default = value.get("default").map(scalar);
    field.rules = rules(value);
    field
}

fn param(value: &Value) -> QueryParam {
    QueryParam {
        name: value["name"].as_str().unwrap().into(),
        dtype: dtype(value),
        required: value["required"] == true,
        default: value.get("default").map(scalar),
        rules: rules(value),
    }
}

fn rules(value: &Value) -> Rules {
    let size = |key: &str| value[key].as_u64().map(|n| n as usize);
    Rules {
        ge: value["ge"].as_f64(),
        gt: value["gt"].as_f64(),
        le: value["le"].as_f64(),
        lt: value["lt"].as_f64(),
        one_of: value["enum"].as_array().map(|all| all.iter().map(scalar).collect()),
        min_length: size("min_length"),
        max_length: size("max_length"),
        pattern: value["pattern"].as_str().map(Into::into),
        allow_inf_nan: value["allow_inf_nan"] == true,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Bool(b) => Scalar::Bool(*b),
        Value::Number(n) => n.as_i64().map_or_else(|| Scalar::Float(n.as_f64().unwrap()), Scalar::Int),
        Value::String(text) => Scalar::String(text.clone()),
        other => panic!("{other} is no scalar"),
    }
}
