//! Feature views, event streams, keys that name entities, `Idempotency-Key`.

use std::sync::Arc;

use weir_codec::BodyShape;
use weir_features::Features;
use weir_types::{DType, EntityKey, FeatureSource, Scalar};

use super::{golden_of, housing};
use crate::{
    config::RouteMethod,
    operation::{Operation, OperationKind, ResponseTemplate, Word},
    state::{State, endpoints},
};

/// The housing model with two fields that are looked up, and the views they come from.
fn with_state() -> Vec<Operation> {
    let views = r#"[
        {"name": "block", "entity": "block_id", "key": "int64", "description": "Block groups.",
         "feature": [{"name": "income", "dtype": "float32", "description": "in tens of thousands"},
                     {"name": "kind", "dtype": "string", "default": "house"}]},
        {"name": "spend", "entity": "user", "stream": "payments", "lateness": "1m", "feature": [
            {"name": "total", "aggregate": "sum", "of": "amount", "window": "1h"}]}]"#;
    let views: Vec<weir_features::ViewConfig> = serde_json::from_str(views).unwrap();
    let clock = Arc::new(weir_types::SystemClock);
    let store = Arc::new(weir_features::Memory::new(0, clock.clone()));
    let views = weir_features::Views::new(&views).unwrap();
    let features = Features::new(views, store, clock, std::time::Duration::ZERO);
    let state = State { features: Some(features), ..State::default() };
    let mut spec = housing();
    let source = |feature: &str| {
        Some(FeatureSource { view: "block".into(), feature: feature.into(), key: 0, max_age: None })
    };
    spec.schema.fields[0].source = source("income");
    spec.schema.fields[1].source = source("age");
    spec.schema.fields[1].default = Some(Scalar::Float(30.0));
    spec.schema.keys.push(EntityKey {
        name: "block_id".into(),
        alias: vec!["block".into()],
        dtype: DType::Int64,
        description: Some("the block group".into()),
        example: Some(Scalar::Int(42)),
    });
    let predict = Operation {
        path: "/v1/models/housing:predict".into(),
        method: RouteMethod::Post,
        tag: "models".into(),
        summary: "Predict".into(),
        kind: OperationKind::Predict {
            response: ResponseTemplate {
                entries: vec![
                    ("prediction".into(), Word::Answer(spec.answer("prediction").unwrap().clone())),
                    ("asof".into(), Word::FeatureAsof),
                ],
                many: true,
            },
            spec: Arc::new(spec),
            shape: BodyShape::Rows { key: "houses".into() },
            selectable: false,
            cached: false,
        },
    };
    let of_state = endpoints(&state).into_iter().map(|endpoint| Operation {
        path: endpoint.path(),
        method: endpoint.method(),
        tag: "state".into(),
        summary: endpoint.summary(),
        kind: OperationKind::State(endpoint),
    });
    std::iter::once(predict).chain(of_state).collect()
}

#[test]
fn online_state_is_described() {
    golden_of("state.json", &with_state(), true);
}
