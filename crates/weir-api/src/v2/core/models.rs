//! The served versions as the protocol shows them, found by name.

use std::{collections::HashMap, sync::Arc};

use weir_serving::{ServedVersion, ServingSnapshot};
use weir_types::{Error, ModelName};

use super::{ModelMetadata, ModelView, cut};
use crate::metrics::Metrics;

/// Every version's view; made with the snapshot, off the request path.
pub(crate) struct Models {
    snapshot: Arc<ServingSnapshot>,
    views: HashMap<String, HashMap<String, Arc<ModelView>>>,
}

impl Models {
    pub(crate) fn new(snapshot: Arc<ServingSnapshot>, metrics: &Metrics) -> Self {
        let mut views: HashMap<String, HashMap<String, Arc<ModelView>>> = HashMap::new();
        for version in snapshot.models().flat_map(|(_, model)| model.versions()) {
            let view = Arc::new(ModelView::new(version.clone(), metrics));
            let (name, version) = (version.spec.name.to_string(), version.spec.version.to_string());
            views.entry(name).or_default().insert(version, view);
        }
        Self { snapshot, views }
    }

    /// The version asked for; the latest without one, or with an empty one as gRPC has it.
    ///
    /// # Errors
    /// `NotFound`, naming what there is; `Unavailable` for a model that failed to load.
    pub(crate) fn view(&self, name: &str, version: Option<&str>) -> Result<&Arc<ModelView>, Error> {
        let served = self.snapshot.version(model_name(name)?.as_str(), version.filter(|v| !v.is_empty()))?;
        let versions = self.views.get(served.spec.name.as_str());
        versions
            .and_then(|v| v.get(served.spec.version.as_str()))
            .ok_or_else(|| Error::internal("the version has no view"))
    }

    /// The metadata of a version, with all the versions that its model has.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(crate) fn metadata(&self, name: &str, version: Option<&str>) -> Result<ModelMetadata, Error> {
        let view = self.view(name, version)?;
        let versions = self.versions(Some(&view.version().spec.name));
        Ok(view.metadata(versions.map(|v| v.spec.version.to_string()).collect()))
    }

    /// One version, all of a model (no version, or an empty one), or all that is served (no
    /// name, or an empty one).
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(crate) fn asked(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Vec<Arc<ServedVersion>>, Error> {
        let Some(name) = name.filter(|n| !n.is_empty()) else {
            return Ok(self.versions(None).cloned().collect());
        };
        let view = self.view(name, version)?;
        Ok(match version.filter(|v| !v.is_empty()) {
            Some(_) => vec![view.version().clone()],
            None => self.versions(Some(&view.version().spec.name)).cloned().collect(),
        })
    }

    /// The versions of one model, or of all.
    fn versions<'s>(&'s self, name: Option<&'s ModelName>) -> impl Iterator<Item = &'s Arc<ServedVersion>> {
        let models = self.snapshot.models().filter(move |(n, _)| name.is_none_or(|name| *n == name));
        models.flat_map(|(_, model)| model.versions())
    }
}

/// The model that a client means. Names are lower-case here and Triton's are not: what was
/// `ResNet50` there is `resnet50`, and whoever asks for the one gets the other. That is never
/// ambiguous, since no two names differ in case alone.
///
/// # Errors
/// `NotFound` for what cannot be a name.
pub(crate) fn model_name(asked: &str) -> Result<ModelName, Error> {
    let none = |_| Error::not_found(format!("there is no model `{}`", cut(asked)));
    asked.to_ascii_lowercase().parse().map_err(none)
}
