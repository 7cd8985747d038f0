//! Feature views, checked: what the services work with.

use std::{collections::HashMap, sync::Arc, time::Duration};

use weir_types::{DType, Scalar};

use crate::config::{KeyType, ViewConfig};

mod check;

/// Most views of one server.
pub const MAX_VIEWS: usize = 1024;

/// Most features of one view.
pub const MAX_FEATURES: usize = 256;

/// Most panes (window divided by slide) of one aggregate.
pub const MAX_PANES: i64 = 256;

/// Most bytes that the aggregates of one entity in one view may come to.
pub const MAX_ROW_BYTES: usize = 4 << 20;

/// All feature views of a server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Views(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    views: Vec<View>,
    by_name: HashMap<Box<str>, ViewId>,
    by_stream: HashMap<Box<str>, Vec<ViewId>>,
}

/// Which view, by its place in [`Views::iter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewId(pub(crate) usize);

/// Which feature, by its place in [`View::features`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeatureId(pub(crate) usize);

/// One feature of one view: what `view.feature` resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeatureRef {
    /// The view.
    pub view: ViewId,
    /// The feature in it.
    pub feature: FeatureId,
}

/// A feature view.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub name: Box<str>,
    /// What a row is about, such as `user_id`.
    pub entity: Box<str>,
    /// Type of the entity's key.
    pub key: KeyType,
    /// How long after its event time a value is given out.
    pub ttl: Option<Duration>,
    /// The stream whose events feed it; `None` for a view whose rows are put.
    pub stream: Option<Stream>,
    /// What is known of an entity.
    pub features: Vec<Feature>,
    /// One sentence.
    pub description: Option<String>,
}

/// How a view takes part in a stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The stream's name.
    pub name: Box<str>,
    /// How much older than the entity's newest event another may be.
    pub lateness: Duration,
}

/// One feature.
#[derive(Debug, Clone)]
pub struct Feature {
    /// Its name.
    pub name: Box<str>,
    /// Its type.
    pub dtype: DType,
    /// The value where none is known.
    pub default: Option<Scalar>,
    /// How it comes from events; `None` if it is put.
    pub aggregate: Option<Aggregate>,
    /// One sentence.
    pub description: Option<String>,
}

/// An aggregate over the panes of a window. A pane is the time from one multiple of the slide
/// (since the epoch) to the next.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// How events are drawn together.
    pub kind: crate::config::AggregateKind,
    /// The field of the events; `None` counts events.
    pub of: Option<Box<str>>,
    /// Width of a pane in microseconds, at least 1,000,000.
    pub slide_micros: i64,
    /// Panes in the window, 1 to [`MAX_PANES`].
    pub panes: i64,
}

/// What is wrong with a view, at a key path such as `view[0].feature[2].window`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewProblem {
    /// Key path in `weir.toml`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Views {
    /// Checks the `[[view]]` tables.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(configs: &[ViewConfig]) -> Result<Self, Vec<ViewProblem>> {
        let views = check::views(configs)?;
        let mut inner = Inner::default();
        for (i, view) in views.iter().enumerate() {
            inner.by_name.insert(view.name.clone(), ViewId(i));
            if let Some(stream) = &view.stream {
                inner.by_stream.entry(stream.name.clone()).or_default().push(ViewId(i));
            }
        }
        Ok(Self(Arc::new(Inner { views, ..inner })))
    }

    /// The views in the operator's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &View> + Clone {
        self.0.views.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.views.is_empty()
    }

    /// The view of this name.
    pub fn find(&self, name: &str) -> Option<ViewId> {
        self.0.by_name.get(name).copied()
    }

    /// The view; ids come from the same `Views`.
    pub fn view(&self, id: ViewId) -> &View {
        &self.0.views[id.0]
    }

    /// The feature; references come from the same `Views`.
    pub fn feature(&self, at: FeatureRef) -> &Feature {
        &self.view(at.view).features[at.feature.0]
    }

    /// The views that `stream` feeds; empty if no view names it.
    pub fn fed_by(&self, stream: &str) -> &[ViewId] {
        self.0.by_stream.get(stream).map_or(&[], Vec::as_slice)
    }

    /// The names of all streams, in no order.
    pub fn streams(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.by_stream.keys().map(AsRef::as_ref)
    }

    /// What `view.feature` means.
    ///
    /// # Errors
    /// What is unknown, and which known name is nearest.
    pub fn resolve(&self, path: &str) -> Result<FeatureRef, String> {
        let (view, feature) = path
            .split_once('.')
            .ok_or_else(|| format!("`{}` is no feature: write `view.feature`", echo(path)))?;
        let id = self.find(view).ok_or_else(|| self.unknown_view(view))?;
        let feature = self.view(id).find(feature)?;
        Ok(FeatureRef { view: id, feature })
    }

    /// What to say of a view that there is not: which known name is nearest, or all if they are few.
    pub fn unknown_view(&self, name: &str) -> String {
        let known = self.iter().map(|v| v.name.as_ref());
        format!("there is no feature view `{}`{}", echo(name), meant(name, known))
    }

    /// The same of a stream.
    pub fn unknown_stream(&self, name: &str) -> String {
        format!("no feature view is fed by a stream `{}`{}", echo(name), meant(name, self.streams()))
    }
}

impl View {
    /// The feature of this name.
    ///
    /// # Errors
    /// That there is none, and which known name is nearest.
    pub fn find(&self, feature: &str) -> Result<FeatureId, String> {
        let at = self.features.iter().position(|f| *f.name == *feature);
        at.map(FeatureId).ok_or_else(|| {
            let known = self.features.iter().map(|f| f.name.as_ref());
            format!("view `{}` has no feature `{}`{}", self.name, echo(feature), meant(feature, known))
        })
    }
}

/// ": did you mean `x`?", or all there is to choose from if that is little.
pub(crate) fn meant<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    const FEW: usize = 8;
    if let Some(near) = weir_config::nearest(word, known.clone()) {
        return format!(": did you mean `{near}`?");
    }
    let mut names: Vec<_> = known.map(|name| format!("`{name}`")).collect();
    names.sort_unstable();
    if names.is_empty() || names.len() > FEW { String::new() } else { format!(", only {}", names.join(", ")) }
}

/// The caller's text as a message may repeat it.
pub(crate) fn echo(text: &str) -> String {
    const MOST: usize = 64;
    let short = text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    short.collect::<String>() + more
}
