//! The served versions as the protocol shows them, found by name.

use std::{collections::HashMap, sync::Arc};

use weir_serving::ServingSnapshot;
use weir_types::Error;

use super::{ModelMetadata, ModelView};
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
        let served = self.snapshot.version(name, version.filter(|v| !v.is_empty()))?;
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
        let model = self.snapshot.models().find(|(n, _)| n.as_str() == name);
        let versions = model.into_iter().flat_map(|(_, m)| m.versions());
        Ok(view.metadata(versions.map(|v| v.spec.version.to_string()).collect()))
    }
}
