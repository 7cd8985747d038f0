//! The service of feature views: put, get, delete, look up.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use weir_types::{Clock, Scalar};

use crate::{
    error::{FeatureError, Problem},
    store::{Change, SharedStore, StoreError, Stored, Told, Update, telling},
    value::{Entity, EventTime},
    view::{FeatureId, View, ViewId, Views},
};

mod check;
mod row;
mod tally;

pub(crate) use check::{Checker, twice};
pub(crate) use tally::Tally;
pub use tally::ViewStats;

/// Most rows, events, entities or questions of one call.
pub const MAX_ROWS: usize = 10_000;

/// What is put of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which entity.
    pub entity: Entity,
    /// Since when the values are so. Default: now.
    pub event_time: Option<EventTime>,
    /// Some or all of the view's features.
    pub values: Vec<(Box<str>, Scalar)>,
}

/// What became of one row that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Features that have the new value.
    pub written: usize,
    /// Features that kept theirs, because it is newer.
    pub outdated: usize,
}

/// Some features of one entity.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The view.
    pub view: ViewId,
    /// Which entity.
    pub entity: &'a Entity,
    /// Which of the view's features.
    pub features: &'a [FeatureId],
}

/// A feature's value.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The value, of the feature's type.
    pub value: Scalar,
    /// Since when it is so; of an aggregate, the event time of the entity's newest event.
    pub event_time: EventTime,
}

/// The features of entities. Cheap to clone.
///
/// Each feature of a row has its own event time: a row that is put changes those of its
/// features that are not newer already, so that several producers can write parts of a view and
/// late writes do no harm. Of two writes with the same event time, the later one wins. A delete
/// forgets values and times alike.
#[derive(Clone)]
pub struct Features {
    pub(crate) views: Views,
    pub(crate) store: SharedStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ahead: Duration,
    pub(crate) tallies: Arc<[Tally]>,
}

impl Features {
    /// The features of `views` in `store`. Event times may be `ahead` of `clock`.
    pub fn new(views: Views, store: SharedStore, clock: Arc<dyn Clock>, ahead: Duration) -> Self {
        let tallies = views.iter().map(|_| Tally::default()).collect();
        Self { views, store, clock, ahead, tallies }
    }

    /// The views.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// The time on the clock that event times are compared with.
    pub fn now(&self) -> EventTime {
        self.clock.wall().into()
    }

    /// Puts rows into `view`, in their order. Either all rows are right or none is written; a
    /// store that fails may have written some of them.
    ///
    /// # Errors
    /// [`FeatureError`]; all problems of all rows at once.
    pub async fn put(&self, view: &str, rows: Vec<Row>) -> Result<Vec<Written>, FeatureError> {
        let id = self.id(view)?;
        let view = self.fed_by_hand(view)?;
        let rows = self.check_rows(view, rows)?;
        let (updates, told): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| row.update(view.ttl)).unzip();
        self.store.update(updates).await?;
        let written: Vec<Written> =
            told.into_iter().map(|told| told.get()?).collect::<Result<_, StoreError>>()?;
        self.tallies[id.0].put(&written);
        Ok(written)
    }

    /// What is known of an entity: a value or `None` for each of the view's features, in their
    /// order.
    ///
    /// # Errors
    /// [`FeatureError`]
    pub async fn get(&self, view: &str, entity: &Entity) -> Result<Vec<Option<Found>>, FeatureError> {
        let id = self.id(view)?;
        let all: Vec<_> = (0..self.views.view(id).features.len()).map(FeatureId).collect();
        self.look_up(&[Question { view: id, entity, features: &all }]).await
    }

    /// Forgets entities: their values and event times, or their events. Whether there was
    /// anything to forget, for each.
    ///
    /// # Errors
    /// [`FeatureError`]
    pub async fn delete(&self, view: &str, entities: &[Entity]) -> Result<Vec<bool>, FeatureError> {
        let view = self.views.view(self.id(view)?);
        let mut checker = Checker::new(entities.len());
        let keys = entities.iter().enumerate().filter_map(|(i, entity)| checker.entity(i, view, entity));
        let keys: Vec<Bytes> = keys.collect();
        checker.finish()?;
        let forget = |key| telling(key, |current| (Change::Delete, current.is_some()));
        let (updates, told): (Vec<_>, Vec<_>) = keys.into_iter().map(forget).unzip();
        self.store.update(updates).await?;
        told.into_iter().map(|told| Ok(told.get()?)).collect()
    }

    /// The features asked for, one after the other as the questions name them, with one look-up
    /// for all. `None` is a feature of which nothing is known, or nothing within its time to
    /// live or its window; its default is the caller's to put in.
    ///
    /// # Errors
    /// [`FeatureError`]; a problem's row is the place of the question.
    pub async fn look_up(&self, questions: &[Question<'_>]) -> Result<Vec<Option<Found>>, FeatureError> {
        let mut checker = Checker::new(questions.len());
        let keys = questions.iter().enumerate();
        let keys: Vec<_> =
            keys.filter_map(|(i, q)| checker.entity(i, self.views.view(q.view), q.entity)).collect();
        checker.finish()?;
        let (stored, now) = (self.store.get(keys).await?, self.now());
        let mut found = Vec::with_capacity(questions.iter().map(|q| q.features.len()).sum());
        for (question, stored) in questions.iter().zip(stored) {
            match stored {
                None => found.resize_with(found.len() + question.features.len(), || None),
                Some(stored) => self.read(question, &stored, now, &mut found)?,
            }
            let known = found.iter().rev().take(question.features.len()).flatten().count();
            self.tallies[question.view.0].looked_up(question.features.len(), known);
        }
        Ok(found)
    }

    fn read(
        &self,
        question: &Question<'_>,
        stored: &[u8],
        now: EventTime,
        found: &mut Vec<Option<Found>>,
    ) -> Result<(), StoreError> {
        let view = self.views.view(question.view);
        if view.stream.is_some() {
            let features = question.features;
            let values = crate::events::state::look_up(view, stored, features, now);
            found.extend(values.ok_or_else(|| unreadable(view))?);
            return Ok(());
        }
        let cells = row::read(stored).ok_or_else(|| unreadable(view))?;
        found.extend(question.features.iter().map(|&FeatureId(at)| {
            let feature = &view.features[at];
            let cell = cells.iter().find(|cell| *cell.name == *feature.name.as_bytes())?;
            let known = view.ttl.is_none_or(|ttl| cell.time.plus(ttl) > now) && cell.fits(feature.dtype);
            known.then(|| Found { value: cell.value.clone(), event_time: cell.time })
        }));
        Ok(())
    }

    /// Counters of each view since the start.
    pub fn stats(&self) -> Vec<ViewStats> {
        self.views.iter().zip(self.tallies.iter()).map(|(view, tally)| tally.stats(view)).collect()
    }

    pub(crate) fn id(&self, view: &str) -> Result<ViewId, FeatureError> {
        self.views.find(view).ok_or_else(|| FeatureError::Unknown(self.views.unknown_view(view)))
    }

    fn fed_by_hand(&self, name: &str) -> Result<&View, FeatureError> {
        let view = self.views.view(self.id(name)?);
        match &view.stream {
            None => Ok(view),
            Some(stream) => Err(FeatureError::Unsuited(format!(
                "view `{name}` is fed by the events of stream `{}`: send those instead",
                stream.name
            ))),
        }
    }

    fn check_rows(&self, view: &View, rows: Vec<Row>) -> Result<Vec<Checked>, FeatureError> {
        let (now, mut checker) = (self.now(), Checker::new(rows.len()));
        let mut checked = Vec::with_capacity(rows.len());
        for (i, row) in rows.into_iter().enumerate() {
            if checker.is_full() {
                break;
            }
            let key = checker.entity(i, view, &row.entity);
            let time = checker.time(i, row.event_time.unwrap_or(now), now, self.ahead);
            let cells = checker.values(i, view, row.values);
            if let Some(key) = key {
                checked.push(Checked { key, time, cells });
            }
        }
        checker.finish()?;
        Ok(checked)
    }
}

/// A row without fault.
struct Checked {
    key: Bytes,
    time: EventTime,
    cells: Vec<(Box<str>, Scalar)>,
}

impl Checked {
    fn update(self, ttl: Option<Duration>) -> (Update, Told<Result<Written, StoreError>>) {
        let Self { key, time, cells: new } = self;
        telling(key, move |current| match current.map_or(Some(Vec::new()), row::read) {
            Some(cells) => merge(cells, &new, time, ttl),
            None => (Change::Keep, Err(StoreError::Failed("a stored row cannot be read".into()))),
        })
    }
}

fn merge<'a>(
    mut cells: Vec<row::Cell<'a>>,
    new: &'a [(Box<str>, Scalar)],
    time: EventTime,
    ttl: Option<Duration>,
) -> (Change, Result<Written, StoreError>) {
    let mut written = 0;
    for (name, value) in new {
        let fresh = row::Cell { name: name.as_bytes(), time, value: value.clone() };
        match cells.iter_mut().find(|cell| cell.name == name.as_bytes()) {
            Some(cell) if cell.time > time => continue,
            Some(cell) => *cell = fresh,
            None => cells.push(fresh),
        }
        written += 1;
    }
    let outcome = Ok(Written { written, outdated: new.len() - written });
    if written == 0 {
        return (Change::Keep, outcome);
    }
    let newest = cells.iter().map(|cell| cell.time).max();
    let expires = ttl.and_then(|ttl| newest.map(|time| time.plus(ttl)));
    (Change::Put(Stored { value: row::write(cells).into(), expires }), outcome)
}

pub(crate) fn unreadable(view: &View) -> StoreError {
    StoreError::Failed(format!("a stored row of view `{}` cannot be read", view.name))
}

impl From<Vec<Problem>> for FeatureError {
    fn from(problems: Vec<Problem>) -> Self {
        FeatureError::Invalid(problems)
    }
}
