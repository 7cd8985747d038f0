//! One version of a model as tensors, and the checks of a request against it.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use weir_codec::{BodyShape, Decoded, Lookups, RowDecoder};
use weir_serving::ServedVersion;
use weir_types::{Batch, Dim, Error, Tensor, TensorSpec};

use super::{
    ModelConfig, ModelMetadata, NamedTensor, RequestedOutput, TensorMetadata, columns, cut, datatype,
    rules::FieldRules,
};
use crate::{
    grpc,
    metrics::{Metrics, RouteMetrics, StageMetrics},
    predict::decode_limits,
    server::Shared,
    v2::rest::INFER_PATH,
};

/// Most outputs that a classification asks for, per row.
const MAX_CLASSES: u64 = 10_000;

/// A version as the protocol's clients see it.
pub(crate) struct ModelView {
    version: Arc<ServedVersion>,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
    rules: FieldRules,
    /// Checks and casts what was looked up as the typed face does; for tables that look up.
    completing: Option<RowDecoder>,
    /// Handles of the version's stages.
    pub(crate) stages: StageMetrics,
    /// Counts inference requests to this version.
    pub(crate) metrics: Arc<RouteMetrics>,
    calls: OnceLock<Arc<RouteMetrics>>,
    streamed: OnceLock<Arc<RouteMetrics>>,
    /// `<model>/<version>`, for the header that names what answered.
    pub(crate) named: HeaderValue,
}

/// One output of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Index into the signature's outputs.
    pub(super) output: usize,
    /// How many classes a row, where classification is asked for.
    pub(super) top: Option<usize>,
}

impl ModelView {
    pub(super) fn new(version: Arc<ServedVersion>, metrics: &Metrics) -> Self {
        let spec = &version.spec;
        let named = format!("{}/{}", spec.name, spec.version);
        let inputs = match spec.columns {
            true => columns::metadata(&spec.schema),
            false => spec.signature.inputs.iter().map(TensorMetadata::from).collect(),
        };
        Self {
            inputs,
            outputs: spec.signature.outputs.iter().map(TensorMetadata::from).collect(),
            rules: FieldRules::new(&spec.schema),
            completing: completing(&version),
            stages: metrics.stages(&version),
            metrics: Arc::new(metrics.route("POST", INFER_PATH, Some(&version))),
            calls: OnceLock::new(),
            streamed: OnceLock::new(),
            // Names are ASCII.
            named: HeaderValue::from_str(&named).unwrap_or(HeaderValue::from_static("")),
            version,
        }
    }

    /// The version.
    pub(crate) fn version(&self) -> &Arc<ServedVersion> {
        &self.version
    }

    /// Counts gRPC requests to this version: calls, or those of streams. Made with the first
    /// of them: most models never see one, and each histogram is 18 lines of `/metrics`.
    pub(crate) fn grpc(&self, shared: &Shared, stream: bool) -> &Arc<RouteMetrics> {
        let (slot, path) =
            if stream { (&self.streamed, grpc::STREAM_PATH) } else { (&self.calls, grpc::INFER_PATH) };
        slot.get_or_init(|| Arc::new(shared.metrics.route("gRPC", path, Some(&self.version))))
    }

    /// The inputs, as clients see them.
    pub(crate) fn inputs(&self) -> &[TensorMetadata] {
        &self.inputs
    }

    /// The metadata, with the versions handed in.
    pub(super) fn metadata(&self, versions: Vec<String>) -> ModelMetadata {
        ModelMetadata {
            name: self.version.spec.name.to_string(),
            versions,
            platform: match self.version.engine.name {
                // What others run is not ONNX for all that is known.
                name @ ("graph" | "remote") => name.to_owned(),
                name => format!("onnx_{}", name.replace('-', "")),
            },
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
        }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig::new(self)
    }

    /// What fills in looked-up values, for tables that look any up.
    pub(super) fn completing(&self) -> Option<&RowDecoder> {
        self.completing.as_ref()
    }

    /// Turns `inputs` into the model's own input tensors, and what they leave to be looked up.
    ///
    /// # Errors
    /// `InvalidArgument` where they are not what the model takes, with the first reason.
    pub(crate) fn decode(&self, inputs: Vec<NamedTensor>) -> Result<Decoded, Error> {
        let spec = &self.version.spec;
        let decoded = match spec.columns {
            true => columns::decode(&spec.schema, inputs, spec.limits.max_rows)?,
            false => Decoded { batch: self.tensors(inputs)?, lookups: Lookups::default() },
        };
        self.rules.check(&decoded)?;
        Ok(decoded)
    }

    fn tensors(&self, inputs: Vec<NamedTensor>) -> Result<Batch, Error> {
        let specs = &self.version.spec.signature.inputs;
        let mut places: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
        for NamedTensor { name, tensor } in inputs {
            let Some(index) = specs.iter().position(|s| s.name == name) else {
                return Err(self.no_column(&name).unwrap_or_else(|| unknown("input", &name, specs)));
            };
            check_tensor(&specs[index], &tensor)?;
            if places[index].replace(tensor).is_some() {
                return Err(Error::invalid(format!("the input `{}` is there twice", cut(&name))));
            }
        }
        let missing = |(place, spec): (Option<Tensor>, &TensorSpec)| {
            place.ok_or_else(|| Error::invalid(format!("the input `{}` is missing", spec.name)))
        };
        let inputs: Vec<Tensor> = places.into_iter().zip(specs).map(missing).collect::<Result<_, _>>()?;
        let rows = inputs.first().map_or(0, Tensor::rows);
        match inputs.iter().zip(specs).find(|(t, _)| t.rows() != rows) {
            Some((tensor, spec)) => Err(Error::invalid(format!(
                "the input `{}` has {} rows and `{}` has {rows}",
                spec.name,
                tensor.rows(),
                specs[0].name
            ))),
            None => Ok(Batch { rows, inputs }),
        }
    }

    /// What to say to a caller who sends the table of a model that shows its own tensors here, as it must
    /// to have something looked up.
    fn no_column(&self, name: &str) -> Option<Error> {
        let spec = &self.version.spec;
        columns::place(&spec.schema, name).filter(|_| spec.schema.looks_up())?;
        let own: Vec<_> = spec.signature.inputs.iter().take(32).map(|s| s.name.as_str()).collect();
        Some(Error::invalid(format!(
            "the model takes its own tensors here ({}), which hold every value. To have some looked up, ask \
             /v1/models/{}:predict, or let it take `{}` as an input: `[v2] columns = true` in its model.toml",
            own.join(", "),
            spec.name,
            cut(name)
        )))
    }

    /// What the answer holds: the outputs asked for in the request's order, all without.
    ///
    /// # Errors
    /// `InvalidArgument` for an output that the model does not have, or twice.
    pub(super) fn wanted(&self, outputs: &[RequestedOutput]) -> Result<Vec<Wanted>, Error> {
        let signature = &self.version.spec.signature;
        if outputs.is_empty() {
            return Ok((0..signature.outputs.len()).map(|output| Wanted { output, top: None }).collect());
        }
        let mut wanted: Vec<Wanted> = Vec::with_capacity(outputs.len().min(signature.outputs.len()));
        for RequestedOutput { name, parameters } in outputs {
            let Some(output) = signature.output(name) else {
                return Err(unknown("output", name, &signature.outputs));
            };
            if wanted.iter().any(|w| w.output == output) {
                return Err(Error::invalid(format!("the output `{}` is asked for twice", cut(name))));
            }
            let top = parameters.count("classification")?.filter(|&n| n > 0);
            // Bounded by the output's width anyway; this keeps the conversion exact.
            wanted.push(Wanted { output, top: top.map(|n| n.min(MAX_CLASSES) as usize) });
        }
        Ok(wanted)
    }
}

fn completing(version: &ServedVersion) -> Option<RowDecoder> {
    let spec = Some(&version.spec).filter(|spec| spec.columns && spec.schema.looks_up())?;
    let (schema, limits) = (Arc::new(spec.schema.clone()), decode_limits(version));
    // The typed route was compiled of the same: what does not fit together was refused there.
    RowDecoder::looking_up(schema, BodyShape::Instances, limits).ok()
}

fn unknown(what: &str, name: &str, specs: &[TensorSpec]) -> Error {
    let names: Vec<_> = specs.iter().take(32).map(|s| s.name.as_str()).collect();
    Error::invalid(format!("the model has no {what} {:?}, it has: {}", cut(name), names.join(", ")))
}

fn check_tensor(spec: &TensorSpec, tensor: &Tensor) -> Result<(), Error> {
    if tensor.dtype() != spec.dtype {
        return Err(Error::invalid(format!(
            "the input `{}` is {}, got {}",
            spec.name,
            datatype(spec.dtype),
            datatype(tensor.dtype())
        )));
    }
    let fits = |(dim, n): (&Dim, &usize)| dim.fixed().is_none_or(|d| d == *n);
    let same = spec.shape.len() == tensor.shape().len() && spec.shape.iter().zip(tensor.shape()).all(fits);
    if same {
        return Ok(());
    }
    let takes: Vec<i64> = spec.shape.iter().map(super::metadata::dim).collect();
    // A shape is as long as the caller likes.
    let got = cut(&format!("{:?}", tensor.shape()));
    Err(Error::invalid(format!("the input `{}` has the shape {takes:?}, -1 for any, got {got}", spec.name)))
}
