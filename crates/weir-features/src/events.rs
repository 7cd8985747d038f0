//! The service of event streams: events become aggregates of entities.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use weir_types::Scalar;

use crate::{
    aggregate::accept,
    error::{FeatureError, Part},
    features::{Checker, Features, twice},
    store::{StoreError, Told, Update, telling},
    value::{Entity, EventTime},
    view::{View, ViewId, meant},
};

pub(crate) mod state;

use state::{Entry, Outcome};

/// Longest id of an event, in bytes.
pub const MAX_EVENT_ID_BYTES: usize = 256;

/// Something that happened to an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// To which entity.
    pub entity: Entity,
    /// When. Default: now.
    pub event_time: Option<EventTime>,
    /// A name of its own, at most [`MAX_EVENT_ID_BYTES`]: an event that is sent again under it
    /// is not counted again.
    pub id: Option<Box<str>>,
    /// Its fields: those that the aggregates of the stream's views draw together.
    pub values: Vec<(Box<str>, Scalar)>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taken {
    /// It is older than the lateness allows, in every view of the stream, and was not counted.
    Late,
    /// An event with its id was counted before.
    Duplicate,
    /// It is counted.
    Accepted,
}

/// Event streams. Cheap to clone.
///
/// The *watermark* of an entity in a view is the greatest event time of those of its events
/// that were counted. An event older than the watermark less the view's `lateness` is late: it
/// is refused and counted as such. So events that arrive in any order, none later than that,
/// give the same values. The watermark is the entity's own and kept with it: a producer whose
/// clock is ahead cannot make everybody's events late, and all replicas on one store agree.
#[derive(Clone)]
pub struct Events(Features);

impl Events {
    /// The streams that feed views of `features`.
    pub fn new(features: Features) -> Self {
        Self(features)
    }

    /// Counts `events`, oldest first. Either all events are right or none is counted; a store
    /// that fails may have counted some, which an `id` keeps from being counted again.
    ///
    /// # Errors
    /// [`FeatureError`]; all problems of all events at once.
    pub async fn ingest(&self, stream: &str, events: Vec<Event>) -> Result<Vec<Taken>, FeatureError> {
        let views = self.0.views.fed_by(stream);
        if views.is_empty() {
            return Err(FeatureError::Unknown(self.0.views.unknown_stream(stream)));
        }
        let (count, now) = (events.len(), self.0.now());
        let groups = self.check(views, events, now)?;
        let (updates, told): (Vec<_>, Vec<_>) =
            groups.into_iter().map(|group| self.update(group, now)).unzip();
        self.0.store.update(updates).await?;
        let mut taken = vec![Taken::Late; count];
        for (view, told) in told {
            for (row, outcome) in told.get()?? {
                self.tally(view, outcome);
                taken[row] = taken[row].max(outcome.taken);
            }
        }
        Ok(taken)
    }

    fn tally(&self, view: ViewId, outcome: Outcome) {
        let tally = &self.0.tallies[view.0];
        let counter = match outcome.taken {
            Taken::Accepted => &tally.accepted,
            Taken::Late => &tally.late,
            Taken::Duplicate => &tally.duplicates,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tally.forgotten.fetch_add(outcome.forgotten, Ordering::Relaxed);
    }

    fn check(
        &self,
        views: &[ViewId],
        events: Vec<Event>,
        now: EventTime,
    ) -> Result<Vec<Group>, FeatureError> {
        let mut checker = Checker::new(events.len());
        let mut groups: BTreeMap<(ViewId, Bytes), Vec<(usize, Entry)>> = BTreeMap::new();
        for (row, event) in events.into_iter().enumerate() {
            if checker.is_full() {
                break;
            }
            self.check_fields(&mut checker, row, views, &event);
            let time = event.event_time.unwrap_or(now);
            for &id in views {
                let view = self.0.views.view(id);
                checker.time(row, time, now, self.0.ahead.min(narrowest(view)));
                let values = values(&mut checker, row, view, &event.values);
                if let Some(key) = checker.entity(row, view, &event.entity) {
                    let entry = Entry { time, id: event.id.as_deref().map(state::short_id), values };
                    groups.entry((id, key)).or_default().push((row, entry));
                }
            }
        }
        checker.finish()?;
        Ok(groups.into_iter().map(|((view, key), entries)| Group { view, key, entries }).collect())
    }

    fn check_fields(&self, checker: &mut Checker, row: usize, views: &[ViewId], event: &Event) {
        let features = || views.iter().flat_map(|&id| &self.0.views.view(id).features);
        let known = || features().filter_map(|f| f.aggregate.as_ref()?.of.as_deref());
        let mut seen = HashSet::new();
        for (name, _) in &event.values {
            if checker.is_full() {
                break;
            }
            if !seen.insert(name) {
                checker.add(row, Part::value(name), twice);
            } else if !known().any(|of| *of == **name) {
                let why = || format!("no aggregate of the stream takes it{}", meant(name, known()));
                checker.add(row, Part::value(name), why);
            }
        }
        if let Some(id) = event.id.as_deref().filter(|id| !(1..=MAX_EVENT_ID_BYTES).contains(&id.len())) {
            let why = || format!("has {} bytes, 1 to {MAX_EVENT_ID_BYTES} are taken", id.len());
            checker.add(row, Part::EventId, why);
        }
    }

    fn update(&self, group: Group, now: EventTime) -> (Update, (ViewId, Told<Outcomes>)) {
        let Group { view: id, key, mut entries } = group;
        entries.sort_by_key(|(_, entry)| entry.time);
        let views = self.0.views.clone();
        let (update, told) =
            telling(key, move |current| state::count(views.view(id), current, &entries, now));
        (update, (id, told))
    }
}

type Outcomes = Result<Vec<(usize, Outcome)>, StoreError>;

/// The events of one entity for one view.
struct Group {
    view: ViewId,
    key: Bytes,
    entries: Vec<(usize, Entry)>,
}

/// How far ahead of the clock the events of a view may be: within the next pane of every
/// aggregate, so that few panes lie ahead of those that are read.
fn narrowest(view: &View) -> Duration {
    let slides = view.features.iter().filter_map(|f| f.aggregate.as_ref()).map(|a| a.slide_micros);
    slides.min().map_or(Duration::MAX, |micros| Duration::from_micros(micros.unsigned_abs()))
}

/// For each feature of the view, the value it takes of the event; `None` if the event has none.
fn values(
    checker: &mut Checker,
    row: usize,
    view: &View,
    values: &[(Box<str>, Scalar)],
) -> Arc<[Option<Scalar>]> {
    let mut one = |feature: &crate::view::Feature| {
        let aggregate = feature.aggregate.as_ref()?;
        let Some(of) = &aggregate.of else { return Some(Scalar::Bool(true)) };
        let (_, value) = values.iter().find(|(name, _)| name == of)?;
        let accepted = accept(aggregate.kind, feature.dtype, value);
        accepted.map_err(|why| checker.add(row, Part::value(of), || why)).ok()
    };
    view.features.iter().map(&mut one).collect()
}
