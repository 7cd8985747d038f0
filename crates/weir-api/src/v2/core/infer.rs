//! One inference: from a decoded request to the answer's tensors.

use weir_codec::{Decoded, Rejection};
use weir_features::EventTime;
use weir_serving::{Admitted, CacheOutcome, Executed, Incomplete, Ready, Routed};
use weir_types::{Deadline, Error, ErrorCode, Tensor};

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
    /// The oldest event time among the values that were looked up, told likewise.
    pub(crate) feature_asof: Option<EventTime>,
}

/// One output of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputTensor {
    /// The output.
    pub(crate) name: String,
    /// Its value.
    pub(crate) tensor: Tensor,
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What to tell.
    pub(crate) error: Error,
    /// Whether that is the request's own mistake, which sending it again does not change.
    pub(crate) always: bool,
}

impl Refused {
    /// A refusal for what `error` says of the request alone.
    pub(crate) fn always(error: Error) -> Self {
        Self { always: error.code == ErrorCode::InvalidArgument, error }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, always: false }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// Runs `request` on the version behind `view`, and notes in `line` when it reached what. Its
/// `timeout` counts from when it was received.
///
/// # Errors
/// `InvalidArgument` where it does not fit the model, and what executing says.
pub(crate) async fn infer(
    admitted: Admitted,
    view: &ModelView,
    request: InferRequest,
    line: &mut Timeline,
) -> Result<InferResponse, Refused> {
    let Asked { id, wanted, routed, decoded } =
        check(admitted, view, request, line).map_err(Refused::always)?;
    let ready = if decoded.lookups.is_empty() {
        routed.batch(decoded.batch).map_err(Refused::always)?
    } else {
        let ready = complete(routed, view, decoded).await?;
        line.looked_up();
        ready
    };
    let executed = ready.execute().await?;
    view.stages.executed(executed.took);
    line.answered(executed.took.model);
    Ok(respond(id, &wanted, executed)?)
}

/// A request that fits its model.
struct Asked {
    id: Option<String>,
    wanted: Vec<Wanted>,
    routed: Routed,
    decoded: Decoded,
}

fn check(
    mut admitted: Admitted,
    view: &ModelView,
    request: InferRequest,
    line: &mut Timeline,
) -> Result<Asked, Error> {
    let InferRequest { id, parameters, inputs, outputs } = request;
    if let Some(timeout) = parameters.timeout()? {
        admitted.shorten(Deadline::after(line.received, timeout));
    }
    if let Some(priority) = parameters.count("priority")? {
        admitted.prioritise(priority);
    }
    admitted.follow(parameters.sequence()?);
    let wanted = view.wanted(&outputs)?;
    let decoded = view.decode(inputs)?;
    line.decoded(id.as_deref());
    Ok(Asked { id, wanted, routed: admitted.route(view.version().clone()), decoded })
}

/// Looks up what the columns left out, as the typed face does.
async fn complete(routed: Routed, view: &ModelView, decoded: Decoded) -> Result<Ready, Error> {
    let nothing = || Error::internal("the version has nothing to fill looked-up values in with");
    let decoder = view.completing().ok_or_else(nothing)?;
    routed.complete(decoder, decoded).await.map_err(|incomplete| match incomplete {
        Incomplete::Failed(error) => error,
        Incomplete::Rejected(Rejection::Invalid(errors)) => {
            let first = errors.into_iter().next().map_or_else(String::new, |error| error.msg);
            Error::new(ErrorCode::ValidationFailed, first)
        }
        Incomplete::Rejected(Rejection::Unparsable) => {
            Error::internal("the looked-up values do not fit the model")
        }
    })
}

fn respond(id: Option<String>, wanted: &[Wanted], executed: Executed) -> Result<InferResponse, Error> {
    let Executed { cache, feature_asof, .. } = executed;
    let spec = &executed.version.spec;
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
    let (model, version) = (spec.name.to_string(), spec.version.to_string());
    Ok(InferResponse { model, version, id, outputs, cache, feature_asof })
}
