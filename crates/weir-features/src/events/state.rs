//! The aggregates of one entity in one view, as they are stored.
//!
//! `2`, the watermark (8 bytes); the number of event ids (2 bytes) and each: event time and the
//! first half of its SHA-256; then for each aggregate a series: name, kind, field, slide and
//! window in panes, the number of panes (2 bytes) and each: its number since the epoch (8
//! bytes), and what is kept of its events behind a length (4 bytes).
//!
//! A series is named by all that decides what is in it. So a feature that is declared otherwise
//! begins anew, and replicas with an older and a newer configuration keep a series each, side
//! by side, until its panes have passed.

use sha2::{Digest, Sha256};
use weir_types::Scalar;

use super::Taken;
use crate::{
    aggregate::Pane,
    config::AggregateKind,
    encoding::{Reader, put_long, put_short},
    features::Found,
    store::{Change, StoreError, Stored},
    value::EventTime,
    view::{Feature, FeatureId, MAX_FEATURES, MAX_PANES, View},
};

#[cfg(test)]
mod tests;

const VERSION: u8 = 2;

/// Event ids kept of one entity in one view: what must be rewritten with each event is bounded.
/// Beyond it the oldest is forgotten, which is counted: its event would be counted again.
const MAX_IDS: usize = 1024;

/// The name under which an event is remembered.
type Id = [u8; 16];

/// An event as one view takes it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) time: EventTime,
    pub(super) id: Option<Id>,
    /// One for each feature of the view.
    pub(super) values: std::sync::Arc<[Option<Scalar>]>,
}

/// What became of an event in one view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) taken: Taken,
    /// Ids that were forgotten for its own.
    pub(super) forgotten: u64,
}

pub(super) fn short_id(id: &str) -> Id {
    let mut short = Id::default();
    short.copy_from_slice(&Sha256::digest(id)[..16]);
    short
}

struct State<'a> {
    watermark: Option<EventTime>,
    /// Oldest first.
    ids: Vec<(EventTime, Id)>,
    series: Vec<Series<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name<'a> {
    feature: &'a [u8],
    kind: AggregateKind,
    of: &'a [u8],
    slide: i64,
}

struct Series<'a> {
    name: Name<'a>,
    /// Panes in the window.
    window: i64,
    /// Number since the epoch, and what is kept. Sorted.
    panes: Vec<(i64, Kept<'a>)>,
}

/// What is kept of a pane: as it is stored, until the first event of a call changes it. Then it
/// stays open for the others, and is written once.
enum Kept<'a> {
    Stored(&'a [u8]),
    Open(Pane),
}

impl Kept<'_> {
    /// `None` if what is stored cannot be read.
    fn open(&mut self, kind: AggregateKind) -> Option<&mut Pane> {
        if let Kept::Stored(bytes) = self {
            *self = Kept::Open(Pane::read(kind, bytes)?);
        }
        match self {
            Kept::Open(pane) => Some(pane),
            Kept::Stored(_) => None,
        }
    }

    fn read(&self, kind: AggregateKind) -> Option<Pane> {
        match self {
            Kept::Stored(bytes) => Pane::read(kind, bytes),
            Kept::Open(pane) => Some(pane.clone()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Kept::Stored(bytes) => put_long(out, bytes),
            Kept::Open(pane) => put_long(out, &pane.write()),
        }
    }
}

/// Counts `entries`, which are sorted by time, on what is stored of their entity.
pub(super) fn count(
    view: &View,
    current: Option<&[u8]>,
    entries: &[(usize, Entry)],
    now: EventTime,
) -> (Change, Result<Vec<(usize, Outcome)>, StoreError>) {
    let fresh = || Some(State { watermark: None, ids: Vec::new(), series: Vec::new() });
    let Some(mut state) = current.map_or_else(fresh, State::read) else {
        return (Change::Keep, Err(crate::features::unreadable(view)));
    };
    let mut outcomes = Vec::with_capacity(entries.len());
    for (row, entry) in entries {
        match state.add(view, entry, now) {
            Some(outcome) => outcomes.push((*row, outcome)),
            None => return (Change::Keep, Err(crate::features::unreadable(view))),
        }
    }
    if outcomes.iter().all(|(_, outcome)| outcome.taken != Taken::Accepted) {
        return (Change::Keep, Ok(outcomes));
    }
    state.forget(view, now);
    (Change::Put(state.write()), Ok(outcomes))
}

/// The aggregates `features` of `view` at `now`, from what is stored; `None` if that cannot be
/// read. The window of `now` ends with the pane that `now` is in: so it covers more than the
/// window less a slide, and at most the window.
pub(crate) fn look_up(
    view: &View,
    stored: &[u8],
    features: &[FeatureId],
    now: EventTime,
) -> Option<Vec<Option<Found>>> {
    let state = State::read(stored)?;
    let event_time = state.watermark?;
    let one = |&FeatureId(at): &FeatureId| {
        let feature = &view.features[at];
        let value = state.value(feature, now)?;
        Some(value.map(|value| Found { value, event_time }))
    };
    features.iter().map(one).collect()
}

impl<'a> State<'a> {
    fn read(stored: &'a [u8]) -> Option<Self> {
        let mut from = Reader(stored);
        if from.u8()? != VERSION {
            return None;
        }
        let watermark = Some(from.time()?);
        let count = from.u16()?;
        let ids = (0..count).map(|_| Some((from.time()?, from.array()?))).collect::<Option<_>>()?;
        let mut series = Vec::new();
        while !from.0.is_empty() {
            series.push(Series::read(&mut from)?);
        }
        Some(Self { watermark, ids, series })
    }

    /// Counts one event; `None` if what is stored cannot be read.
    fn add(&mut self, view: &'a View, entry: &Entry, now: EventTime) -> Option<Outcome> {
        let lateness = view.stream.as_ref().map(|s| s.lateness).unwrap_or_default();
        let outcome = |taken| Some(Outcome { taken, forgotten: 0 });
        if self.watermark.is_some_and(|mark| entry.time < mark.minus(lateness)) {
            return outcome(Taken::Late);
        }
        if entry.id.is_some_and(|id| self.ids.iter().any(|(_, seen)| *seen == id)) {
            return outcome(Taken::Duplicate);
        }
        let mark = self.watermark.map_or(entry.time, |mark| mark.max(entry.time));
        self.watermark = Some(mark);
        for (feature, value) in view.features.iter().zip(entry.values.iter()) {
            if let Some(value) = value {
                self.series_of(feature)?.add(entry.time, value, now)?;
            }
        }
        let forgotten = entry.id.map_or(0, |id| self.remember(id, entry.time, mark.minus(lateness)));
        Some(Outcome { taken: Taken::Accepted, forgotten })
    }

    /// Ids of events that would be late need no remembering. Returns how many others were
    /// forgotten.
    fn remember(&mut self, id: Id, time: EventTime, earliest: EventTime) -> u64 {
        self.ids.drain(..self.ids.partition_point(|(time, _)| *time < earliest));
        let at = self.ids.partition_point(|(other, _)| *other <= time);
        self.ids.insert(at, (time, id));
        if self.ids.len() <= MAX_IDS {
            return 0;
        }
        self.ids.remove(0);
        1
    }

    fn series_of(&mut self, feature: &'a Feature) -> Option<&mut Series<'a>> {
        let (name, window) = Name::of(feature)?;
        let at = self.series.iter().position(|s| s.name == name).unwrap_or(self.series.len());
        if at == self.series.len() {
            self.series.push(Series { name, window, panes: Vec::new() });
        }
        self.series[at].window = window;
        self.series.get_mut(at)
    }

    fn value(&self, feature: &Feature, now: EventTime) -> Option<Option<Scalar>> {
        let (name, window) = Name::of(feature)?;
        let Some(series) = self.series.iter().find(|s| s.name == name) else { return Some(None) };
        let last = now.micros().div_euclid(name.slide);
        let mut sum: Option<Pane> = None;
        for (_, stored) in series.panes.iter().filter(|(at, _)| *at <= last && *at > last - window) {
            let pane = stored.read(name.kind)?;
            match &mut sum {
                Some(sum) => sum.merge(pane),
                None => sum = Some(pane),
            }
        }
        Some(sum.and_then(|pane| pane.value(feature.dtype)))
    }

    /// Drops what no look-up reads any more. Series of another configuration go with their
    /// last pane, and are few.
    fn forget(&mut self, view: &View, now: EventTime) {
        for series in &mut self.series {
            let last = now.micros().div_euclid(series.name.slide);
            // One more than the window: another replica's clock may be behind.
            series.panes.retain(|(at, _)| *at >= last - series.window);
        }
        self.series.retain(|series| !series.panes.is_empty());
        if self.series.len() > MAX_FEATURES {
            let ours =
                |name: Name<'_>| view.features.iter().any(|f| Name::of(f).is_some_and(|(n, _)| n == name));
            self.series.retain(|series| ours(series.name));
        }
    }

    fn write(&self) -> Stored {
        let mut out = vec![VERSION];
        let watermark = self.watermark.unwrap_or_default();
        out.extend_from_slice(&watermark.micros().to_le_bytes());
        out.extend_from_slice(&(self.ids.len() as u16).to_le_bytes()); // at most MAX_IDS
        for (time, id) in &self.ids {
            out.extend_from_slice(&time.micros().to_le_bytes());
            out.extend_from_slice(id);
        }
        self.series.iter().for_each(|series| series.write(&mut out));
        let end = self.series.iter().filter_map(Series::end).max();
        Stored { value: out.into(), expires: Some(end.unwrap_or(watermark)) }
    }
}

impl<'a> Name<'a> {
    /// The series of a feature, and its window in panes; `None` if it is no aggregate.
    fn of(feature: &'a Feature) -> Option<(Self, i64)> {
        let aggregate = feature.aggregate.as_ref()?;
        let of = aggregate.of.as_deref().unwrap_or_default().as_bytes();
        let feature = feature.name.as_bytes();
        Some((Self { feature, kind: aggregate.kind, of, slide: aggregate.slide_micros }, aggregate.panes))
    }
}

impl<'a> Series<'a> {
    fn add(&mut self, time: EventTime, value: &Scalar, now: EventTime) -> Option<()> {
        let Name { kind, slide, .. } = self.name;
        let number = time.micros().div_euclid(slide);
        if number < now.micros().div_euclid(slide) - self.window {
            return Some(()); // no window reaches back to it
        }
        let pane = Pane::one(kind, time, value);
        match self.panes.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => self.panes[at].1.open(kind)?.merge(pane),
            Err(at) => self.panes.insert(at, (number, Kept::Open(pane))),
        }
        Some(())
    }

    /// When no window reaches back to its panes any more, by any replica's clock.
    fn end(&self) -> Option<EventTime> {
        let (last, _) = self.panes.last()?;
        let end = last.saturating_add(self.window + 1).saturating_mul(self.name.slide);
        Some(EventTime::from_micros(end).unwrap_or_default().max(EventTime::default()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_short(out, self.name.feature);
        out.push(code(self.name.kind));
        put_short(out, self.name.of);
        out.extend_from_slice(&self.name.slide.to_le_bytes());
        out.extend_from_slice(&self.window.to_le_bytes());
        out.extend_from_slice(&(self.panes.len() as u16).to_le_bytes()); // at most MAX_PANES + 3
        for (number, pane) in &self.panes {
            out.extend_from_slice(&number.to_le_bytes());
            pane.write(out);
        }
    }

    fn read(from: &mut Reader<'a>) -> Option<Self> {
        let (feature, kind, of) = (from.short()?, kind(from.u8()?)?, from.short()?);
        let (slide, window, count) = (from.i64()?, from.i64()?, from.u16()?);
        if slide < 1 || !(1..=MAX_PANES).contains(&window) {
            return None;
        }
        let pane = |_| Some((from.i64()?, Kept::Stored(from.long()?)));
        let panes: Vec<_> = (0..count).map(pane).collect::<Option<_>>()?;
        let name = Name { feature, kind, of, slide };
        panes.is_sorted_by(|a, b| a.0 < b.0).then_some(Self { name, window, panes })
    }
}

const KINDS: [AggregateKind; 7] = [
    AggregateKind::Count,
    AggregateKind::Sum,
    AggregateKind::Mean,
    AggregateKind::Min,
    AggregateKind::Max,
    AggregateKind::Last,
    AggregateKind::Distinct,
];

/// The number that stands for a kind in what is stored: its place in [`KINDS`].
fn code(kind: AggregateKind) -> u8 {
    kind as u8
}

fn kind(code: u8) -> Option<AggregateKind> {
    KINDS.get(usize::from(code)).copied()
}
