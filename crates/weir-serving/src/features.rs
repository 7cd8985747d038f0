//! The features stage: what rows leave to be looked up joins the batch before it is cached or
//! run, so that nothing behind this stage can tell a value that was looked up from one that was
//! sent.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use weir_artifact::ModelSpec;
use weir_codec::{Absent, Decoded, Lookups, Rejection, RowDecoder, Wanted};
use weir_features::{
    Entity, EventTime, FeatureError, FeatureId, FeatureRef, Features, Found, KeyType, MAX_ENTITY_BYTES,
    MAX_ROWS, Question, ViewId, Views,
};
use weir_types::{DType, Deadline, Error, ErrorCode, FeatureCatalogue, Scalar, Schema, ViewShape};

use crate::{Ready, Reason, Routed};

/// How the rows of one version are completed.
pub struct Lookup {
    features: Features,
    /// One a field of the schema.
    fields: Vec<Option<Source>>,
    keys: Vec<String>,
    trouble: Trouble,
}

/// How often the store could not be asked.
#[derive(Default)]
struct Trouble {
    requests: AtomicU64,
    /// Whether the last one was such a request: the log tells when that changes, not each time.
    now: AtomicBool,
}

impl Trouble {
    fn note(&self, error: &FeatureError) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.now.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "features cannot be looked up, fields have their defaults or requests fail: {error}"
            );
        }
    }

    fn over(&self) {
        if self.now.load(Ordering::Relaxed) && self.now.swap(false, Ordering::Relaxed) {
            tracing::info!("features can be looked up again");
        }
    }
}

/// Where one field's value is looked up.
struct Source {
    at: FeatureRef,
    key: usize,
    max_age: Option<Duration>,
    /// `view.feature`.
    path: String,
    field: String,
    /// Whether the field has a default, which the decoder puts in.
    has_default: bool,
}

/// Why a request cannot be completed.
#[derive(Debug)]
pub enum Incomplete {
    /// Values that there are not, or that the model's fields refuse.
    Rejected(Rejection),
    /// Everything else.
    Failed(Error),
}

impl From<Error> for Incomplete {
    fn from(error: Error) -> Self {
        Incomplete::Failed(error)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The views as models see them.
fn catalogue(views: &Views) -> FeatureCatalogue {
    let shape = |view: &weir_features::View| ViewShape {
        entity: view.entity.to_string(),
        key: match view.key {
            KeyType::String => DType::String,
            KeyType::Int64 => DType::Int64,
        },
        features: view.features.iter().map(|f| (f.name.to_string(), f.dtype)).collect(),
    };
    FeatureCatalogue(views.iter().map(|view| (view.name.to_string(), shape(view))).collect())
}

/// Binds `spec` to the views of `features`; `None` where it looks nothing up, or there are no
/// features to look up.
///
/// # Errors
/// Every problem, one a line.
pub(crate) fn bind(spec: &mut ModelSpec, features: Option<&Features>) -> Result<Option<Arc<Lookup>>, Reason> {
    let Some(features) = features.filter(|_| !spec.lookups.is_empty()) else { return Ok(None) };
    spec.bind_features(&catalogue(features.views())).map_err(|problems| Reason::of_files(&problems))?;
    let lookup = Lookup::new(&spec.schema, features);
    let public = "it looks up features that the server's views do not have";
    lookup.map(|lookup| Some(Arc::new(lookup))).map_err(|text| Reason::new(public, text))
}

impl Lookup {
    fn new(schema: &Schema, features: &Features) -> Result<Self, String> {
        let source = |field: &weir_types::Field| {
            let Some(source) = &field.source else { return Ok(None) };
            let path = format!("{}.{}", source.view, source.feature);
            let at = features.views().resolve(&path)?;
            let (key, max_age, has_default) = (source.key, source.max_age, field.default.is_some());
            Ok(Some(Source { at, key, max_age, path, field: field.name.clone(), has_default }))
        };
        let fields = schema.fields.iter().map(source).collect::<Result<_, String>>()?;
        let keys = schema.keys.iter().map(|key| key.name.clone()).collect();
        Ok(Self { features: features.clone(), fields, keys, trouble: Trouble::default() })
    }

    /// Requests for which the store could not be asked: they had defaults, or failed.
    pub fn without_store(&self) -> u64 {
        self.trouble.requests.load(Ordering::Relaxed)
    }

    fn source(&self, wanted: &Wanted) -> Result<&Source, Error> {
        let source = self.fields.get(wanted.field).and_then(Option::as_ref);
        source.ok_or_else(|| Error::internal("a value was left to a look-up that the model does not have"))
    }

    /// What is known of each wanted value, in their order, with one look-up for all of them.
    async fn ask(&self, lookups: &Lookups) -> Result<Vec<Option<Found>>, FeatureError> {
        let mut groups = Groups::default();
        for (index, wanted) in lookups.wanted.iter().enumerate() {
            if let Some(source) = self.fields.get(wanted.field).and_then(Option::as_ref) {
                groups.add(index, wanted.row, source, lookups);
            }
        }
        let mut answers = vec![None; lookups.wanted.len()];
        for groups in groups.0.chunks(MAX_ROWS) {
            let questions: Vec<_> = groups.iter().map(Group::question).collect();
            let found = self.features.look_up(&questions).await?;
            let places = groups.iter().flat_map(|group| group.places.iter());
            for (&place, found) in places.zip(found) {
                answers[place] = found;
            }
        }
        Ok(answers)
    }

    /// The value to use, and since when it is so.
    fn judge(
        &self,
        source: &Source,
        entity: &Scalar,
        found: Option<Found>,
        now: EventTime,
    ) -> (Result<Scalar, Absent>, Option<EventTime>) {
        let stale = |f: &Found| source.max_age.filter(|most| f.event_time.age(now) > *most);
        let absent = match found {
            Some(found) => match stale(&found) {
                None => return (Ok(found.value), Some(found.event_time)),
                Some(most) => self.stale(source, entity, found.event_time.age(now), most),
            },
            None => self.missing(source, entity),
        };
        let default = self.features.views().feature(source.at).default.clone();
        (default.ok_or(absent), None)
    }

    fn missing(&self, source: &Source, entity: &Scalar) -> Absent {
        let Source { path, field, key, .. } = source;
        let msg = format!(
            "`{path}` is not known of `{}` {}: send `{field}`, or put the feature first",
            self.keys.get(*key).map_or("", String::as_str),
            shown(entity)
        );
        Absent { kind: "feature_missing", msg }
    }

    fn stale(&self, source: &Source, entity: &Scalar, age: Duration, most: Duration) -> Absent {
        let Source { path, field, key, .. } = source;
        let msg = format!(
            "`{path}` of `{}` {} is {} s old, at most {} s are taken: send `{field}`, or put a newer one",
            self.keys.get(*key).map_or("", String::as_str),
            shown(entity),
            age.as_secs(),
            most.as_secs()
        );
        Absent { kind: "feature_stale", msg }
    }
}

/// The caller's word as a message repeats it.
fn shown(entity: &Scalar) -> String {
    match entity {
        Scalar::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Scalar::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

/// What is asked about one entity of one view.
struct Group {
    view: ViewId,
    entity: Entity,
    features: Vec<FeatureId>,
    /// Which of the wanted values the features are.
    places: Vec<usize>,
}

impl Group {
    fn question(&self) -> Question<'_> {
        Question { view: self.view, entity: &self.entity, features: &self.features }
    }
}

/// What is asked, one group a row and view.
#[derive(Default)]
struct Groups(Vec<Group>);

impl Groups {
    /// Of an entity whose name no store takes, nothing is known and nothing is asked.
    fn add(&mut self, place: usize, row: usize, source: &Source, lookups: &Lookups) {
        let entity = match lookups.entity(source.key, row) {
            Some(Scalar::Int(number)) => Entity::Int(number),
            Some(Scalar::String(text)) if (1..=MAX_ENTITY_BYTES).contains(&text.len()) => {
                Entity::String(text.into())
            }
            _ => return,
        };
        // Wanted values come row by row, so an open group of this view and entity is near.
        const NEAR: usize = 8;
        let at = source.at;
        let near = self.0.iter_mut().rev().take(NEAR);
        match near.into_iter().find(|group| group.view == at.view && group.entity == entity) {
            Some(group) => {
                group.features.push(at.feature);
                group.places.push(place);
            }
            None => {
                let (features, places) = (vec![at.feature], vec![place]);
                self.0.push(Group { view: at.view, entity, features, places });
            }
        }
    }
}

impl Routed {
    /// Takes decoded rows and fills in what they leave to be looked up: explicit values stay as
    /// they are; what the store does not know, or only from too long ago, has the feature's
    /// default, else the field's.
    ///
    /// # Errors
    /// [`Incomplete::Rejected`] for values without any of these, `Unavailable` where the store
    /// cannot be asked and a field has no default, `DeadlineExceeded`, and what
    /// [`batch`](Self::batch) says.
    pub async fn complete(self, decoder: &RowDecoder, decoded: Decoded) -> Result<Ready, Incomplete> {
        if decoded.lookups.is_empty() {
            return Ok(self.batch(decoded.batch)?);
        }
        self.check_rows(decoded.batch.rows)?;
        let lookup = self.lookup()?;
        let (values, asof) = look_up(&lookup, &decoded.lookups, self.deadline()).await?;
        let batch = decoder.fill(decoded, values).map_err(Incomplete::Rejected)?;
        Ok(self.batch(batch)?.with_asof(asof))
    }
}

/// What to fill in, and the oldest event time among it.
type Filled = (Vec<Result<Scalar, Absent>>, Option<EventTime>);

async fn look_up(lookup: &Lookup, lookups: &Lookups, deadline: Deadline) -> Result<Filled, Incomplete> {
    let asked = tokio::time::timeout_at(deadline.instant().into(), lookup.ask(lookups)).await;
    let late =
        |_| Error::new(ErrorCode::DeadlineExceeded, "the deadline passed while features were looked up");
    let found = match asked.map_err(late)? {
        Ok(found) => found,
        Err(error) => {
            lookup.trouble.note(&error);
            return Ok((without_store(lookup, lookups, &error)?, None));
        }
    };
    lookup.trouble.over();
    let now = lookup.features.now();
    let mut oldest: Option<EventTime> = None;
    let mut values = Vec::with_capacity(found.len());
    for (wanted, found) in lookups.wanted.iter().zip(found) {
        let source = lookup.source(wanted)?;
        let entity = lookups.entity(source.key, wanted.row).unwrap_or(Scalar::Int(0));
        let (value, time) = lookup.judge(source, &entity, found, now);
        oldest = oldest.into_iter().chain(time).min();
        values.push(value);
    }
    Ok((values, oldest))
}

/// Without its store, the server knows defaults alone.
fn without_store(
    lookup: &Lookup,
    lookups: &Lookups,
    error: &FeatureError,
) -> Result<Vec<Result<Scalar, Absent>>, Error> {
    let mut told = BTreeMap::new();
    let mut values = Vec::with_capacity(lookups.wanted.len());
    for wanted in &lookups.wanted {
        let source = lookup.source(wanted)?;
        match lookup.features.views().feature(source.at).default.clone() {
            Some(default) => values.push(Ok(default)),
            None if source.has_default => {
                values.push(Err(Absent { kind: "feature_missing", msg: String::new() }))
            }
            None => drop(told.insert(wanted.field, &source.path)),
        }
    }
    match told.values().next() {
        None => Ok(values),
        Some(path) => {
            let text = format!("`{path}` cannot be looked up now ({error}), and has no default");
            Err(Error::new(ErrorCode::Unavailable, text))
        }
    }
}
