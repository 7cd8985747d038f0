//! The methods there are, and what counts their calls.

use crate::metrics::{Metrics, RouteMetrics};

/// A method that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    ServerLive,
    ServerReady,
    ModelReady,
    ServerMetadata,
    ModelMetadata,
    ModelInfer,
    ModelStreamInfer,
    ModelConfig,
    ModelStatistics,
    RepositoryIndex,
    RepositoryModelLoad,
    RepositoryModelUnload,
    TraceSetting,
    LogSettings,
    HealthCheck,
    HealthWatch,
    Reflection,
    ReflectionAlpha,
}

/// Inference, as calls and as streams: those are counted for each model.
pub(crate) const INFER_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
pub(crate) const STREAM_PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Each method and its path.
const PATHS: [(Method, &str); 18] = [
    (Method::ServerLive, "/inference.GRPCInferenceService/ServerLive"),
    (Method::ServerReady, "/inference.GRPCInferenceService/ServerReady"),
    (Method::ModelReady, "/inference.GRPCInferenceService/ModelReady"),
    (Method::ServerMetadata, "/inference.GRPCInferenceService/ServerMetadata"),
    (Method::ModelMetadata, "/inference.GRPCInferenceService/ModelMetadata"),
    (Method::ModelInfer, INFER_PATH),
    (Method::ModelStreamInfer, STREAM_PATH),
    (Method::ModelConfig, "/inference.GRPCInferenceService/ModelConfig"),
    (Method::ModelStatistics, "/inference.GRPCInferenceService/ModelStatistics"),
    (Method::RepositoryIndex, "/inference.GRPCInferenceService/RepositoryIndex"),
    (Method::RepositoryModelLoad, "/inference.GRPCInferenceService/RepositoryModelLoad"),
    (Method::RepositoryModelUnload, "/inference.GRPCInferenceService/RepositoryModelUnload"),
    (Method::TraceSetting, "/inference.GRPCInferenceService/TraceSetting"),
    (Method::LogSettings, "/inference.GRPCInferenceService/LogSettings"),
    (Method::HealthCheck, "/grpc.health.v1.Health/Check"),
    (Method::HealthWatch, "/grpc.health.v1.Health/Watch"),
    (Method::Reflection, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    (Method::ReflectionAlpha, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

impl Method {
    /// The method at `path`.
    pub(super) fn find(path: &str) -> Option<Self> {
        PATHS.iter().find(|(_, p)| *p == path).map(|(method, _)| *method)
    }

    /// Whether it does work, rather than saying how the server is.
    pub(super) fn is_work(self) -> bool {
        use Method::{
            HealthCheck, HealthWatch, ModelReady, Reflection, ReflectionAlpha, ServerLive, ServerReady,
        };
        let tells = matches!(self, HealthCheck | HealthWatch | Reflection | ReflectionAlpha);
        !tells && !matches!(self, ServerLive | ServerReady | ModelReady)
    }

    /// Its path.
    pub(super) fn path(self) -> &'static str {
        PATHS[self as usize].1
    }
}

/// What counts the calls of each method. They are routes of the method `gRPC`; `code` is the
/// HTTP status of the same outcome.
pub(crate) struct Methods {
    each: Vec<RouteMetrics>,
    unmatched: RouteMetrics,
}

impl Methods {
    /// Handles in `metrics`.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let each = PATHS.iter().map(|(_, path)| metrics.route("gRPC", path, None)).collect();
        Self { each, unmatched: metrics.route("gRPC", "unmatched", None) }
    }

    pub(super) fn metrics(&self, method: Option<Method>) -> &RouteMetrics {
        method.and_then(|m| self.each.get(m as usize)).unwrap_or(&self.unmatched)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reflection, *};

    #[test]
    fn every_method_that_is_declared_is_served_and_no_other() {
        let mut served: Vec<&str> = PATHS.iter().map(|(_, path)| *path).collect();
        let mut declared = reflection::methods();
        served.sort_unstable();
        declared.sort_unstable();
        assert_eq!(served, declared);
    }

    #[test]
    fn methods_and_paths_are_in_one_order() {
        for (method, path) in PATHS {
            assert_eq!((Method::find(path), method.path()), (Some(method), path));
        }
    }
}
