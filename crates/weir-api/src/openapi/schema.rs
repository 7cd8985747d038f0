//! Rows in: a model's fields as JSON Schema (2020-12, what OpenAPI 3.1 uses).

use serde_json::{Map, Value, json};
use weir_artifact::{ModelSpec, scalar_json};
use weir_codec::BodyShape;
use weir_types::{DType, Dim, Extra, Field, Scalar};

use super::names::{Components, title, type_name};

/// Rows in the example of a list: enough to see that there can be more than one.
const EXAMPLE_ROWS: usize = 2;

/// The schema of a request body: a reference to a component.
pub(super) fn body(spec: &ModelSpec, shape: &BodyShape, components: &mut Components) -> Value {
    match shape {
        BodyShape::Row => row(spec, components),
        BodyShape::Rows { key } => rows(spec, key, components),
        BodyShape::Instances if spec.schema.fields.iter().any(|f| answers_to(f, "instances")) => {
            rows(spec, "instances", components)
        }
        BodyShape::Instances => {
            let (one, many) = (row(spec, components), rows(spec, "instances", components));
            json!({"anyOf": [one, many], "title": "Body"})
        }
        BodyShape::Columns { keys } => columns(spec, keys, components),
    }
}

fn answers_to(field: &Field, key: &str) -> bool {
    field.name == key || field.alias.iter().any(|a| a == key)
}

/// `HousingRow`, and with the version where another version has other rows.
fn component_names(spec: &ModelSpec, what: &str) -> [String; 2] {
    let model = type_name(spec.name.as_str());
    let versioned = format!("{model}{what}V{}", type_name(spec.version.as_str()));
    [format!("{model}{what}"), versioned]
}

fn row(spec: &ModelSpec, components: &mut Components) -> Value {
    let fields = spec.schema.fields.iter().map(|f| (f.name.clone(), looked_up(spec, f)));
    let properties = keys(spec).chain(fields).collect();
    let required = spec.schema.fields.iter().filter(|f| f.default.is_none() && f.source.is_none());
    let mut schema = object(spec, properties, required.map(|f| f.name.as_str()).collect());
    let alternatives: Vec<_> = (0..spec.schema.keys.len()).filter_map(|key| either(spec, key)).collect();
    if !alternatives.is_empty() {
        schema.insert("allOf".into(), alternatives.into());
    }
    if let Some(example) = spec.example_rows(EXAMPLE_ROWS).into_iter().next() {
        schema.insert("examples".into(), json!([example]));
    }
    components.schema(&component_names(spec, "Row"), schema.into())
}

/// The keys that name entities.
fn keys(spec: &ModelSpec) -> impl Iterator<Item = (String, Value)> + '_ {
    spec.schema.keys.iter().map(|key| {
        let mut schema = field(&key.field(0));
        let what = "Names the entity whose features stand in for fields that are left out.";
        schema["description"] = match schema["description"].as_str() {
            Some(text) => format!("{text}. {what}").into(),
            None => what.into(),
        };
        (key.name.clone(), schema)
    })
}

/// A field, with what stands in for it.
fn looked_up(spec: &ModelSpec, described: &Field) -> Value {
    let mut schema = field(described);
    if let Some(source) = &described.source {
        let key = spec.schema.keys.get(source.key).map_or("", |key| &key.name);
        let what = format!("Without it, `{}.{}` of `{key}` counts.", source.view, source.feature);
        schema["description"] = match schema["description"].as_str() {
            Some(text) => format!("{text}. {what}").into(),
            None => what.into(),
        };
    }
    schema
}

/// A row has the key, or all that would be looked up by it; nothing where all of that has
/// defaults.
fn either(spec: &ModelSpec, key: usize) -> Option<Value> {
    let by_key = |f: &&Field| f.default.is_none() && f.source.as_ref().is_some_and(|s| s.key == key);
    let fields: Vec<_> = spec.schema.fields.iter().filter(by_key).map(|f| f.name.as_str()).collect();
    let name = &spec.schema.keys.get(key)?.name;
    (!fields.is_empty()).then(|| json!({"anyOf": [{"required": [name]}, {"required": fields}]}))
}

fn rows(spec: &ModelSpec, key: &str, components: &mut Components) -> Value {
    let row = row(spec, components);
    let list = json!({
        "items": row,
        "type": "array",
        "maxItems": spec.limits.max_rows,
        "title": title(key),
    });
    let mut schema = object(spec, Map::from_iter([(key.to_owned(), list)]), vec![key]);
    let examples = spec.example_rows(EXAMPLE_ROWS);
    if !examples.is_empty() {
        schema.insert("examples".into(), json!([{key: examples}]));
    }
    // `HousingRows`; with the key where another route calls its list otherwise.
    let [rows, versioned] = component_names(spec, "Rows");
    let names = [rows.clone(), rows + &type_name(key), versioned];
    components.schema(&names, schema.into())
}

fn columns(spec: &ModelSpec, keys: &[(String, usize)], components: &mut Components) -> Value {
    let fields = || keys.iter().filter_map(|(key, place)| Some((key, spec.schema.place(*place)?)));
    let properties = fields().map(|(key, field)| (key.clone(), column(spec, key, &field))).collect();
    let mut schema = object(spec, properties, fields().map(|(key, _)| key.as_str()).collect());
    if let Some(example) = example_columns(spec, keys) {
        schema.insert("examples".into(), json!([example]));
    }
    components.schema(&component_names(spec, "Columns"), schema.into())
}

/// The example rows turned on their side.
fn example_columns(spec: &ModelSpec, keys: &[(String, usize)]) -> Option<Value> {
    let rows = Some(spec.example_rows(EXAMPLE_ROWS)).filter(|rows| !rows.is_empty())?;
    let column =
        |field: &Field| rows.iter().map(|row| row.get(&field.name).cloned()).collect::<Option<Vec<_>>>();
    let columns =
        keys.iter().map(|(key, field)| Some((key.clone(), column(spec.schema.fields.get(*field)?)?.into())));
    columns.collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn column(spec: &ModelSpec, key: &str, field: &Field) -> Value {
    let mut list = json!({
        "items": value(field),
        "type": "array",
        "maxItems": spec.limits.max_rows,
        "title": title(key),
    });
    describe(field, &mut list);
    list
}

/// An object schema in Pydantic's order of keywords.
fn object(spec: &ModelSpec, properties: Map<String, Value>, required: Vec<&str>) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("properties".into(), properties.into());
    if spec.schema.extra == Extra::Forbid {
        schema.insert("additionalProperties".into(), false.into());
    }
    schema.insert("type".into(), "object".into());
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema
}

/// One field of a row, with all that Pydantic would say about it.
fn field(field: &Field) -> Value {
    let mut schema = value(field);
    schema["title"] = title(&field.name).into();
    if let Some(default) = field.default.as_ref().and_then(|default| filled(field, default)) {
        schema["default"] = default;
    }
    describe(field, &mut schema);
    if let Some(example) = field.example.as_ref().and_then(|example| filled(field, example)) {
        schema["examples"] = json!([example]);
    }
    schema
}

/// Longest list that is written out as a default or an example.
const MAX_WRITTEN: usize = 16;

/// `one` in each place of the field's value; `None` where that is long, or the request
/// decides how many there are.
fn filled(field: &Field, one: &Scalar) -> Option<Value> {
    field.width().filter(|width| *width <= MAX_WRITTEN)?;
    let sizes = field.shape.iter().rev().map(Dim::fixed);
    sizes.into_iter().try_fold(scalar_json(one), |value, size| Some(vec![value; size?].into()))
}

fn describe(field: &Field, schema: &mut Value) {
    let other_names = match field.alias.as_slice() {
        [] => None,
        names => Some(format!(
            "Also accepted as {}.",
            names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
        )),
    };
    let parts: Vec<_> = field.description.iter().cloned().chain(other_names).collect();
    if !parts.is_empty() {
        schema["description"] = parts.join(". ").into();
    }
}

/// The value itself: type and limits, `null` beside them, lists around them for its
/// dimensions.
fn value(field: &Field) -> Value {
    let element = match field.nullable {
        true => json!({"anyOf": [element(field), {"type": "null"}]}),
        false => element(field),
    };
    field.shape.iter().rev().fold(element, |items, dim| match dim {
        Dim::Fixed(n) => json!({"items": items, "type": "array", "maxItems": n, "minItems": n}),
        Dim::Any(_) => json!({"items": items, "type": "array"}),
    })
}

fn element(field: &Field) -> Value {
    let mut schema = Map::new();
    schema.insert("type".into(), json_type(field.dtype).into());
    let rules = &field.rules;
    if let Some(allowed) = &rules.one_of {
        let allowed: Vec<_> = allowed.iter().map(scalar_json).collect();
        match allowed.as_slice() {
            [only] => schema.insert("const".into(), only.clone()),
            _ => schema.insert("enum".into(), allowed.into()),
        };
    }
    match field.dtype {
        DType::Bool => {}
        DType::String => {
            let lengths = [("maxLength", rules.max_length), ("minLength", rules.min_length)];
            schema.extend(lengths.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?.into()))));
            schema.extend(rules.pattern.iter().map(|p| ("pattern".to_owned(), p.as_str().into())));
        }
        dtype => {
            let limits = Limits { ge: rules.ge, gt: rules.gt, le: rules.le, lt: rules.lt };
            schema.extend(limits.within(dtype));
        }
    }
    schema.into()
}

/// JSON Schema's name for the values of `dtype`.
pub(super) fn json_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "boolean",
        DType::String => "string",
        dtype if dtype.is_float() => "number",
        _ => "integer",
    }
}

/// Limits on a number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) ge: Option<f64>,
    pub(super) gt: Option<f64>,
    pub(super) le: Option<f64>,
    pub(super) lt: Option<f64>,
}

impl Limits {
    /// The keywords, in Pydantic's order, and where no limit was set the type's own: an int8
    /// field does not take 200, and a float32 field nothing beyond 3.4e38.
    pub(super) fn within(self, dtype: DType) -> Vec<(String, Value)> {
        let bounds = dtype.int_bounds();
        let own = |own: Option<Value>, inclusive: Option<f64>, exclusive: Option<f64>| match inclusive {
            Some(limit) => Some(number(dtype, limit)),
            None => own.filter(|_| exclusive.is_none()),
        };
        let maximum =
            own(bounds.and_then(|b| integer(b.1)).or_else(|| largest(dtype, 1.0)), self.le, self.lt);
        let minimum =
            own(bounds.and_then(|b| integer(b.0)).or_else(|| largest(dtype, -1.0)), self.ge, self.gt);
        [
            ("maximum", maximum),
            ("exclusiveMaximum", self.lt.map(|limit| number(dtype, limit))),
            ("minimum", minimum),
            ("exclusiveMinimum", self.gt.map(|limit| number(dtype, limit))),
        ]
        .into_iter()
        .filter_map(|(keyword, limit)| Some((keyword.to_owned(), limit?)))
        .collect()
    }
}

/// The largest JSON number that a float type narrower than what JSON numbers are read as
/// takes: the last that still rounds to a finite value, which is above the type's largest.
fn largest(dtype: DType, sign: f64) -> Option<Value> {
    // The largest finite value and half the step to the next: where rounding ends in infinity.
    let edge = match dtype {
        DType::Float32 => f64::from(f32::MAX) + 2f64.powi(103),
        DType::Float16 => 65_504.0 + 16.0,
        DType::Bfloat16 => f64::from(f32::from_bits(0x7f7f_0000)) + 2f64.powi(119),
        _ => return None,
    };
    Some(json!(sign * edge.next_down()))
}

/// Limits of integers as integers where they are whole, as a person would write them.
fn number(dtype: DType, limit: f64) -> Value {
    let whole = dtype.int_bounds().is_some() && limit.fract() == 0.0 && limit.abs() < 9e15;
    // Exact: a whole number below 2^53.
    if whole { json!(limit as i64) } else { json!(limit) }
}

fn integer(value: i128) -> Option<Value> {
    i64::try_from(value).map(Value::from).or_else(|_| u64::try_from(value).map(Value::from)).ok()
}
