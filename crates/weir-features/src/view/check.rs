//! From `[[view]]` tables to views: all that is wrong, each with its place.

use std::{collections::HashSet, time::Duration};

use weir_types::{DType, ModelName, Scalar};

use super::{
    Aggregate, Feature, MAX_FEATURES, MAX_PANES, MAX_ROW_BYTES, MAX_VIEWS, Stream, View, ViewProblem,
};
use crate::{
    aggregate,
    config::{AggregateKind, FeatureConfig, ViewConfig},
    value::cast,
};

/// The narrowest pane: events may be a pane ahead of the server's clock, and clocks differ.
const LEAST_SLIDE: Duration = Duration::from_secs(1);

/// The widest window, and the longest lateness and time to live.
const LONGEST: Duration = Duration::from_secs(3660 * 86_400);

/// Longest name of an entity, a feature or a field of events, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 64;

struct Problems {
    path: String,
    found: Vec<ViewProblem>,
}

impl Problems {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.found.push(ViewProblem { path, message: message.into() });
    }
}

/// The checked views, or everything that is wrong.
pub(super) fn views(configs: &[ViewConfig]) -> Result<Vec<View>, Vec<ViewProblem>> {
    let mut problems = Problems { path: "view".into(), found: Vec::new() };
    if configs.len() > MAX_VIEWS {
        problems.add("", format!("there are {} feature views, at most {MAX_VIEWS} may be", configs.len()));
        return Err(problems.found);
    }
    let mut names = HashSet::new();
    let mut views = Vec::with_capacity(configs.len());
    for (i, config) in configs.iter().enumerate() {
        problems.path = format!("view[{i}]");
        if !names.insert(config.name.as_str()) {
            problems.add("name", format!("two feature views are called `{}`", config.name));
        }
        views.push(view(config, &mut problems));
    }
    if problems.found.is_empty() { Ok(views) } else { Err(problems.found) }
}

fn view(config: &ViewConfig, problems: &mut Problems) -> View {
    for (key, name) in [("name", Some(&config.name)), ("stream", config.stream.as_ref())] {
        if name.is_some_and(|n| n.contains('.') || n.parse::<ModelName>().is_err()) {
            problems.add(
                key,
                format!("`{key}` takes 1 to 128 of a-z, 0-9, '_' and '-', a letter or digit first"),
            );
        }
    }
    if !is_name(&config.entity) {
        problems.add("entity", format!("`entity` {NAME}"));
    }
    times(config, problems);
    let place = problems.path.clone();
    let features = features(config, problems);
    problems.path = place;
    size(&features, problems);
    View {
        name: config.name.as_str().into(),
        entity: config.entity.as_str().into(),
        key: config.key,
        ttl: config.ttl.map(|d| d.get()),
        stream: config.stream.as_ref().map(|name| Stream {
            name: name.as_str().into(),
            lateness: config.lateness.unwrap_or_default().get(),
        }),
        features,
        description: config.description.clone(),
    }
}

const NAME: &str = "takes 1 to 64 of a-z, A-Z, 0-9, '_' and '-'";

fn is_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(word)
}

fn times(config: &ViewConfig, problems: &mut Problems) {
    if config.stream.is_some() && config.ttl.is_some() {
        problems.add("ttl", "a view with `stream` has no `ttl`: the windows say how long events count");
    }
    if config.stream.is_none() && config.lateness.is_some() {
        problems.add("lateness", "`lateness` is for views with `stream`");
    }
    for (key, time) in [("ttl", config.ttl), ("lateness", config.lateness)] {
        if time.is_some_and(|d| d.get() > LONGEST) {
            problems.add(key, format!("`{key}` is at most 3660d"));
        }
    }
    if config.ttl.is_some_and(|d| d.get().is_zero()) {
        problems.add("ttl", "a `ttl` of nothing would never give a value out: leave it away for no limit");
    }
}

fn features(config: &ViewConfig, problems: &mut Problems) -> Vec<Feature> {
    let count = config.feature.len();
    if !(1..=MAX_FEATURES).contains(&count) {
        problems.add("feature", format!("a feature view has 1 to {MAX_FEATURES} features, this one {count}"));
        return Vec::new();
    }
    let (place, mut names) = (problems.path.clone(), HashSet::new());
    let mut features = Vec::with_capacity(count);
    for (i, feature) in config.feature.iter().enumerate() {
        problems.path = format!("{place}.feature[{i}]");
        if !is_name(&feature.name) {
            problems.add("name", format!("a feature's `name` {NAME}"));
        }
        if !names.insert(feature.name.as_str()) {
            problems.add("name", format!("two features are called `{}`", feature.name));
        }
        features.push(one_feature(feature, config.stream.is_some(), problems));
    }
    features
}

fn one_feature(config: &FeatureConfig, streamed: bool, problems: &mut Problems) -> Feature {
    let aggregate = match (streamed, config.aggregate) {
        (true, None) => {
            problems.add(
                "",
                "a view with `stream` has aggregates only: say `aggregate`, or put it into another view",
            );
            None
        }
        (true, Some(kind)) => aggregate_of(config, kind, problems),
        (false, _) => {
            not_aggregated(config, problems);
            None
        }
    };
    let dtype = dtype(config, problems);
    Feature {
        name: config.name.as_str().into(),
        dtype,
        default: default(config, dtype, problems),
        aggregate,
        description: config.description.clone(),
    }
}

fn not_aggregated(config: &FeatureConfig, problems: &mut Problems) {
    let said = [
        ("aggregate", config.aggregate.is_some()),
        ("of", config.of.is_some()),
        ("window", config.window.is_some()),
        ("slide", config.slide.is_some()),
    ];
    for (key, _) in said.iter().filter(|(_, said)| *said) {
        problems.add(key, format!("`{key}` is for views that name the `stream` of events they are fed by"));
    }
}

fn dtype(config: &FeatureConfig, problems: &mut Problems) -> DType {
    use AggregateKind::{Count, Distinct, Last, Max, Mean, Min, Sum};
    let asked = config.dtype.map(DType::from);
    let number = |d: DType| d.is_float() || d.int_bounds().is_some();
    let (usual, fits, takes): (_, fn(DType) -> bool, _) = match config.aggregate {
        None => {
            if asked.is_none() {
                problems.add("", "a feature that is no aggregate needs a `dtype`");
            }
            return asked.unwrap_or(DType::Float64);
        }
        Some(Count | Distinct) => (DType::Int64, |d| d == DType::Int64, "int64"),
        Some(Sum | Mean) => (DType::Float64, DType::is_float, "float32 or float64"),
        Some(Min | Max) => (DType::Float64, |d| d != DType::Bool && d != DType::String, "a type of numbers"),
        Some(Last) => return asked.unwrap_or(DType::Float64),
    };
    let dtype = asked.unwrap_or(usual);
    if !(fits(dtype) && number(dtype)) {
        problems.add("dtype", format!("this aggregate is {takes}, no {dtype}"));
    }
    dtype
}

fn default(config: &FeatureConfig, dtype: DType, problems: &mut Problems) -> Option<Scalar> {
    let said = config.default.clone();
    let zero = match config.aggregate {
        Some(AggregateKind::Count | AggregateKind::Distinct | AggregateKind::Sum) => Some(Scalar::Int(0)),
        _ => None,
    };
    match cast(&said.or(zero)?, dtype) {
        Ok(value) => Some(value),
        Err(why) => {
            problems.add("default", format!("`default`: {why}"));
            None
        }
    }
}

fn aggregate_of(config: &FeatureConfig, kind: AggregateKind, problems: &mut Problems) -> Option<Aggregate> {
    match &config.of {
        None if kind != AggregateKind::Count => {
            problems.add("", "an aggregate needs `of`, the field of the events that it draws together");
        }
        Some(of) if !is_name(of) => problems.add("of", format!("`of` {NAME}")),
        _ => {}
    }
    let Some(window) = config.window.map(|d| d.get()) else {
        problems.add("", "an aggregate needs a `window`, such as \"1h\"");
        return None;
    };
    let slide = config.slide.map_or(window, |d| d.get());
    if slide < LEAST_SLIDE || window > LONGEST || !slide.as_nanos().is_multiple_of(1000) {
        problems.add("window", "a window is at most 3660d and slides by at least 1s, in whole microseconds");
        return None;
    }
    let panes = i64::try_from(window.as_nanos() / slide.as_nanos()).unwrap_or(i64::MAX);
    if !window.as_nanos().is_multiple_of(slide.as_nanos()) || !(1..=MAX_PANES).contains(&panes) {
        let message = format!(
            "`slide` divides `window`, into at most {MAX_PANES} panes: \"{}\" into \"{}\" does not",
            config.slide.unwrap_or_default(),
            config.window.unwrap_or_default()
        );
        problems.add(if config.slide.is_some() { "slide" } else { "window" }, message);
        return None;
    }
    let slide_micros = i64::try_from(slide.as_micros()).unwrap_or(i64::MAX);
    Some(Aggregate { kind, of: config.of.as_deref().map(Into::into), slide_micros, panes })
}

fn size(features: &[Feature], problems: &mut Problems) {
    let aggregates = features.iter().filter_map(|f| f.aggregate.as_ref());
    let bytes: usize = aggregates.map(aggregate::most_bytes).sum();
    if bytes > MAX_ROW_BYTES {
        let message = format!(
            "the aggregates of one entity could take {bytes} bytes, at most {MAX_ROW_BYTES} are kept: \
             fewer panes (a wider `slide`), fewer `distinct` or strings, or several views"
        );
        problems.add("feature", message);
    }
}
