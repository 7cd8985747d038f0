//! The paths of feature views and event streams. Each view has its own, so that the docs page
//! shows its features and their types.

use std::{collections::BTreeSet, sync::Arc};

use weir_features::{Features, View, Views};

use super::State;
use crate::config::RouteMethod;

/// Where features begin.
pub(crate) const FEATURES: &str = "/v1/features/";
/// Where streams begin.
pub(crate) const EVENTS: &str = "/v1/events/";

/// What can be done with online state.
#[derive(Debug, Clone)]
pub enum StateEndpoint {
    /// What is known of one entity.
    Get(Arc<View>),
    /// Puts features of one entity.
    Put(Arc<View>),
    /// Forgets one entity.
    Delete(Arc<View>),
    /// Puts features of many entities.
    PutMany(Arc<View>),
    /// Events of a stream, by its name, and the views that it feeds.
    Events(String, Vec<Arc<View>>),
}

impl StateEndpoint {
    /// The method.
    pub(crate) fn method(&self) -> RouteMethod {
        match self {
            StateEndpoint::Get(_) => RouteMethod::Get,
            StateEndpoint::Put(_) => RouteMethod::Put,
            StateEndpoint::Delete(_) => RouteMethod::Delete,
            StateEndpoint::PutMany(_) | StateEndpoint::Events(..) => RouteMethod::Post,
        }
    }

    /// The path.
    pub(crate) fn path(&self) -> String {
        match self {
            StateEndpoint::Get(view) | StateEndpoint::Put(view) | StateEndpoint::Delete(view) => {
                format!("{FEATURES}{}/{{entity}}", view.name)
            }
            StateEndpoint::PutMany(view) => format!("{FEATURES}{}", view.name),
            StateEndpoint::Events(stream, _) => format!("{EVENTS}{stream}"),
        }
    }

    /// The path that it is counted under: a histogram a view would be most of `/metrics`.
    pub(crate) fn counted_as(&self) -> &'static str {
        match self {
            StateEndpoint::Get(_) | StateEndpoint::Put(_) | StateEndpoint::Delete(_) => {
                "/v1/features/{view}/{entity}"
            }
            StateEndpoint::PutMany(_) => "/v1/features/{view}",
            StateEndpoint::Events(..) => "/v1/events/{stream}",
        }
    }

    /// One line for the docs page.
    pub(crate) fn summary(&self) -> String {
        match self {
            StateEndpoint::Get(view) => format!("What is known of a {} in {}", view.entity, view.name),
            StateEndpoint::Put(view) => format!("Put features of a {} into {}", view.entity, view.name),
            StateEndpoint::Delete(view) => format!("Forget a {} in {}", view.entity, view.name),
            StateEndpoint::PutMany(view) => format!("Put features of many into {}", view.name),
            StateEndpoint::Events(stream, _) => format!("Send events of {stream}"),
        }
    }
}

/// Everything that can be done with `state`.
pub(crate) fn endpoints(state: &State) -> Vec<StateEndpoint> {
    let Some(features) = &state.features else { return Vec::new() };
    let views = features.views();
    views.iter().flat_map(of_view).chain(streams(views)).collect()
}

/// A view that a stream feeds takes no rows.
fn of_view(view: &View) -> Vec<StateEndpoint> {
    let view = Arc::new(view.clone());
    let mut all = vec![StateEndpoint::Get(view.clone())];
    if view.stream.is_none() {
        all.extend([StateEndpoint::Put(view.clone()), StateEndpoint::PutMany(view.clone())]);
    }
    all.push(StateEndpoint::Delete(view));
    all
}

/// What to say of a path that no route answers, where it names a view or stream that there is not.
pub(crate) fn unknown(features: Option<&Features>, path: &str) -> Option<String> {
    let views = features?.views();
    let name = |begin: &str| {
        let rest = path.strip_prefix(begin)?;
        rest.split('/').next().filter(|name| !name.is_empty())
    };
    match (name(FEATURES), name(EVENTS)) {
        (Some(view), _) if views.find(view).is_none() => Some(views.unknown_view(view)),
        (_, Some(stream)) if views.fed_by(stream).is_empty() => Some(views.unknown_stream(stream)),
        _ => None,
    }
}

fn streams(views: &Views) -> Vec<StateEndpoint> {
    let names: BTreeSet<&str> = views.streams().collect();
    let fed =
        |stream: &str| views.fed_by(stream).iter().map(|&id| Arc::new(views.view(id).clone())).collect();
    names.into_iter().map(|stream| StateEndpoint::Events(stream.to_owned(), fed(stream))).collect()
}
