//! Rows are completed from feature views before they run.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use weir_codec::{BodyShape, DecodeLimits, RowDecoder};
use weir_features::{
    Entity, EventTime, Features, Memory, SharedStore, Store, StoreError, StoreFuture, Views,
};
use weir_serving::{
    Admission, Executed, Incomplete, LoadOptions, Loader, Predictor, Sender, ServingSnapshot,
};
use weir_types::{Access, AllowLocal, Authorizer, Clock, Credentials, Deadline, Error, ErrorCode, Scalar};

use crate::support::{Models, options};

/// A calendar that a test turns.
struct Calendar(Mutex<SystemTime>);

impl Clock for Calendar {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// A store that is away, or never answers.
struct Broken {
    answers: bool,
}

impl Store for Broken {
    fn get(&self, _: Vec<bytes::Bytes>) -> StoreFuture<Vec<Option<bytes::Bytes>>> {
        if self.answers {
            return Box::pin(std::future::ready(Err(StoreError::Unavailable)));
        }
        Box::pin(std::future::pending())
    }

    fn update(&self, _: Vec<weir_features::Update>) -> StoreFuture<()> {
        Box::pin(std::future::ready(Err(StoreError::Unavailable)))
    }

    fn kind(&self) -> weir_features::StoreKind {
        weir_features::StoreKind::Redis
    }
}

const START: SystemTime = SystemTime::UNIX_EPOCH;
const NAMES: [&str; 8] =
    ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"];
const EXPLICIT: &str = r#"{"MedInc": 8.3, "HouseAge": 41, "AveRooms": 7, "AveBedrms": 1, "Population": 322,
    "AveOccup": 2.5, "Latitude": 37.9, "Longitude": -122.2}"#;
const KEYED: &str = r#"{"user_id": 42, "AveRooms": 7, "AveBedrms": 1, "Population": 322, "AveOccup": 2.5,
    "Latitude": 37.9, "Longitude": -122.2}"#;

struct Bench {
    _models: Models,
    clock: Arc<Calendar>,
    features: Features,
    snapshot: ServingSnapshot,
}

impl Bench {
    fn new(store: impl FnOnce(Arc<Calendar>) -> SharedStore, house_age: &str) -> Self {
        let models = Models::new();
        models.add("housing", "1");
        let lines = NAMES.map(|name| match name {
            "MedInc" => {
                format!("[[input.field]]\nname = \"{name}\"\nfrom = \"user.income\"\nmax_age = \"1h\"\n")
            }
            "HouseAge" => format!("[[input.field]]\nname = \"{name}\"\nfrom = \"user.age\"\n{house_age}\n"),
            _ => format!("[[input.field]]\nname = \"{name}\"\n"),
        });
        models.write("housing/model.toml", &format!("labels = [\"no\", \"yes\"]\n{}", lines.concat()));
        let clock = Arc::new(Calendar(Mutex::new(START + Duration::from_secs(86_400))));
        let features = Features::new(views(), store(clock.clone()), clock.clone(), Duration::from_secs(300));
        let options = LoadOptions { features: Some(features.clone()), ..options(None) };
        let loader = Loader::new(vec![models.path().to_owned()], options);
        let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
        Self { _models: models, clock, features, snapshot }
    }

    fn in_memory() -> Self {
        Self::new(|clock| Arc::new(Memory::new(1 << 20, clock)), "")
    }

    async fn put(&self, at_secs: i64, income: f64, age: i64) {
        let values = vec![("income".into(), Scalar::Float(income)), ("age".into(), Scalar::Int(age))];
        let event_time = EventTime::from_micros(at_secs * 1_000_000);
        let row = weir_features::Row { entity: Entity::Int(42), event_time, values };
        self.features.put("user", vec![row]).await.unwrap();
    }

    async fn ask(&self, body: &str) -> Result<Executed, Incomplete> {
        let version = self.snapshot.version("housing", None).unwrap().clone();
        let schema = Arc::new(version.spec.schema.clone());
        let decoder = RowDecoder::looking_up(schema, BodyShape::Row, DecodeLimits::default()).unwrap();
        let decoded = decoder.decode_rows(body.as_bytes()).unwrap();
        let predictor = Predictor::new(Admission::new(1 << 20), self.clock.clone());
        let grant = AllowLocal.authorize(Credentials::default(), Access::Read).unwrap();
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
        let admitted = predictor.admit(Sender::granted(grant), 0, deadline).unwrap();
        let ready = admitted.route(version).complete(&decoder, decoded).await?;
        Ok(ready.execute().await.unwrap())
    }

    async fn kinds(&self, body: &str) -> Vec<String> {
        match self.ask(body).await.unwrap_err() {
            Incomplete::Rejected(weir_codec::Rejection::Invalid(errors)) => {
                errors.iter().map(|e| format!("{} {}", e.kind, e.msg)).collect()
            }
            other => vec![format!("{other:?}")],
        }
    }
}

fn views() -> Views {
    let text = r#"{"name": "user", "entity": "user_id", "key": "int64",
        "feature": [{"name": "income", "dtype": "float64"}, {"name": "age", "dtype": "int32"}]}"#;
    Views::new(&[serde_json::from_str(text).unwrap()]).unwrap()
}

fn failed(result: Result<Executed, Incomplete>) -> Error {
    match result.unwrap_err() {
        Incomplete::Failed(error) => error,
        Incomplete::Rejected(rejection) => panic!("{rejection}"),
    }
}

#[tokio::test]
async fn an_entity_answers_as_its_values_do_and_a_sent_value_counts() {
    let bench = Bench::in_memory();
    bench.put(86_000, 8.3, 41).await;
    let keyed = bench.ask(KEYED).await.unwrap();
    let explicit = bench.ask(EXPLICIT).await.unwrap();
    assert_eq!(keyed.outputs, explicit.outputs);
    assert_eq!(keyed.feature_asof, EventTime::from_micros(86_000_000_000));
    assert_eq!(explicit.feature_asof, None);
    bench.put(86_001, 0.1, 41).await;
    let sent = KEYED.replacen('{', "{\"MedInc\": 8.3, ", 1);
    assert_eq!(bench.ask(&sent).await.unwrap().outputs, explicit.outputs);
    assert_ne!(bench.ask(KEYED).await.unwrap().outputs, explicit.outputs);
}

#[tokio::test]
async fn what_is_not_known_is_told_for_each_field() {
    let told = Bench::in_memory().kinds(KEYED).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("feature_missing `user.income` is not known of `user_id` 42"), "{told:?}");
}

#[tokio::test]
async fn a_value_beyond_its_age_is_none() {
    let bench = Bench::new(|clock| Arc::new(Memory::new(1 << 20, clock)), "default = 41.0");
    bench.put(86_400 - 3600, 8.3, 30).await;
    assert!(bench.ask(KEYED).await.is_ok(), "an hour is not more than an hour");
    *bench.clock.0.lock().unwrap() += Duration::from_secs(1);
    let told = bench.kinds(KEYED).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("feature_stale `user.income` of `user_id` 42 is 3601 s old"), "{told:?}");
}

#[tokio::test]
async fn without_its_store_only_defaults_are_known() {
    let bench = Bench::new(|_| Arc::new(Broken { answers: true }), "default = 41.0");
    let error = failed(bench.ask(KEYED).await);
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("`user.income` cannot be looked up now"), "{error}");
    let sent = KEYED.replacen('{', "{\"MedInc\": 8.3, ", 1);
    let explicit = bench.ask(EXPLICIT).await.unwrap();
    assert_eq!(bench.ask(&sent).await.unwrap().outputs, explicit.outputs);
    let version = bench.snapshot.version("housing", None).unwrap();
    assert_eq!(version.lookup.as_ref().unwrap().without_store(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_costs_no_more_than_the_deadline() {
    let bench = Bench::new(|_| Arc::new(Broken { answers: false }), "");
    assert_eq!(failed(bench.ask(KEYED).await).code, ErrorCode::DeadlineExceeded);
}

#[test]
fn a_model_whose_view_is_unknown_is_not_loaded() {
    let models = Models::new();
    models.add("housing", "1");
    let fields = NAMES.map(|n| format!("[[input.field]]\nname = \"{n}\"\nfrom = \"nobody.{n}\"\n")).concat();
    models.write("housing/model.toml", &fields);
    let store = Arc::new(Memory::new(1 << 20, Arc::new(weir_types::SystemClock)));
    let features = Features::new(views(), store, Arc::new(weir_types::SystemClock), Duration::ZERO);
    let options = LoadOptions { features: Some(features), ..options(None) };
    let loader = Loader::new(vec![models.path().to_owned()], options);
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    let public = snapshot.failures()[0].reason.public();
    assert!(
        public.starts_with("wrong at model.toml:3:8, model.toml:") && !public.contains("nobody"),
        "{public}"
    );
    let reason = snapshot.failures()[0].reason.to_string();
    assert_eq!(reason.lines().count(), 8, "{reason}");
    assert!(reason.contains("model.toml:3:8: there is no feature view `nobody`"), "{reason}");
}
