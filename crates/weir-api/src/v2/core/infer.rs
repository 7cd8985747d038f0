//! One inference: from a decoded request to the answer's tensors.

use weir_serving::{Admitted, CacheOutcome, Executed};
use weir_types::{Deadline, Error, Tensor};

use super::{ModelView, Parameters, Timeline, classify::classify, view::Wanted};

/// A request, decoded. The model and version it names are the [`ModelView`] beside it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct InferRequest {
    /// The caller's name for it; the answer repeats it.
    pub(crate) id: Option<String>,
    /// Of the request as a whole; `timeout`, `priority` and those of sequences are obeyed.
    pub(crate) parameters: Parameters,
    /// The inputs, in any order.
    pub(crate) inputs: Vec<NamedTensor>,
    /// The outputs wanted; all if there are none.
    pub(crate) outputs: Vec<RequestedOutput>,
}

/// A tensor and the input that it is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedTensor {
    /// The input.
    pub(crate) name: String,
    /// Its value: type, shape and data agree.
    pub(crate) tensor: Tensor,
}

/// An output that is wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RequestedOutput {
    /// The output.
    pub(crate) name: String,
    /// `classification` is obeyed here, the form of transport by the transport.
    pub(crate) parameters: Parameters,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InferResponse {
    /// The model that answered.
    pub(crate) model: String,
    /// Its version.
    pub(crate) version: String,
    /// The request's id.
    pub(crate) id: Option<String>,
    /// The outputs, in the order in which they were asked for.
    pub(crate) outputs: Vec<OutputTensor>,
    /// What the model's cache did, where it has one: told beside the answer, not in it.
    pub(crate) cache: Option<CacheOutcome>,
}

/// One output of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputTensor {
    /// The output.
    pub(crate) name: String,
    /// Its value.
    pub(crate) tensor: Tensor,
}

/// Runs `request` on the version behind `view`, and notes in `line` when it reached what. Its
/// `timeout` counts from when it was received.
///
/// # Errors
/// `InvalidArgument` where it does not fit the model, and what executing says.
pub(crate) async fn infer(
    mut admitted: Admitted,
    view: &ModelView,
    request: InferRequest,
    line: &mut Timeline<'_>,
) -> Result<InferResponse, Error> {
    let InferRequest { id, parameters, inputs, outputs } = request;
    if let Some(timeout) = parameters.timeout()? {
        admitted.shorten(Deadline::after(line.received, timeout));
    }
    if let Some(priority) = parameters.count("priority")? {
        admitted.prioritise(priority);
    }
    admitted.follow(parameters.sequence()?);
    let wanted = view.wanted(&outputs)?;
    let batch = view.batch(inputs)?;
    line.decoded(id.as_deref());
    let executed = admitted.route(view.version().clone()).batch(batch)?.execute().await?;
    view.stages.executed(executed.took);
    line.answered(executed.took.model);
    respond(id, &wanted, executed)
}

fn respond(id: Option<String>, wanted: &[Wanted], executed: Executed) -> Result<InferResponse, Error> {
    let (spec, cache) = (&executed.version.spec, executed.cache);
    let mut tensors: Vec<Option<Tensor>> = executed.outputs.tensors.into_iter().map(Some).collect();
    let mut outputs = Vec::with_capacity(wanted.len());
    for &Wanted { output, top } in wanted {
        let name = spec.signature.outputs[output].name.clone();
        // Each is wanted once, so that it can be taken.
        let tensor = tensors.get_mut(output).and_then(Option::take);
        let tensor = tensor.ok_or_else(|| Error::internal("the engine left out an output"))?;
        let tensor = match top {
            Some(top) => classify(&name, &tensor, top, &spec.labels)?,
            None => tensor,
        };
        outputs.push(OutputTensor { name, tensor });
    }
    Ok(InferResponse { model: spec.name.to_string(), version: spec.version.to_string(), id, outputs, cache })
}
