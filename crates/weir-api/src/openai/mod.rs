//! `POST /v1/embeddings` as OpenAI's clients speak it, over the models that embed texts.
//!
//! The model is named in the body, so that access to it can be decided behind the body only,
//! as on gRPC; before that the caller must be one who may read. Reference:
//! <https://platform.openai.com/docs/api-reference/embeddings>.

mod request;
mod respond;

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Response, header, request::Parts};
use hyper::body::Incoming;
use weir_artifact::Task;
use weir_serving::{Admitted, Room, Sender, ServedVersion, ServingSnapshot};
use weir_types::{Access, Credentials, Deadline, Dim, Error, ErrorCode, Grant, Tensor, TensorData};

use self::request::Request;
use crate::{
    body,
    exchange::Origin,
    face::Face,
    head,
    listener::Body,
    metrics::{Metrics, RouteMetrics},
    server::Shared,
    state::idempotency::{Once, Refuse},
    v2::core::{ModelView, NamedTensor},
};

pub(crate) use request::FORMATS;
pub(crate) use respond::TYPES;

/// Where embeddings are asked for.
pub(crate) const PATH: &str = "/v1/embeddings";

/// The models that embed texts.
pub(crate) struct Embedders {
    /// What each counts, by its name.
    metrics: HashMap<String, Arc<RouteMetrics>>,
    /// Most rows that any of them takes: what bounds a body before its model is known.
    max_rows: usize,
}

impl Embedders {
    /// Those of `snapshot`, in their latest versions.
    pub(crate) fn new(snapshot: &ServingSnapshot, metrics: &Metrics) -> Self {
        let counted = |version: &Arc<ServedVersion>| {
            (version.spec.name.to_string(), Arc::new(metrics.route("POST", PATH, Some(version))))
        };
        Self {
            metrics: embedders(snapshot).map(counted).collect(),
            max_rows: embedders(snapshot).map(|version| version.spec.limits.max_rows).max().unwrap_or(1),
        }
    }

    fn names(&self) -> String {
        let mut names: Vec<_> = self.metrics.keys().map(String::as_str).collect();
        names.sort_unstable();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// Reads the body of a request as the route does: its model and its texts, or why not.
pub(crate) fn read_request(body: &[u8], max_texts: usize) -> Result<(String, Vec<String>), String> {
    let read = request::read(body, max_texts);
    read.map(|r| (r.model, r.input)).map_err(|refusal| refusal.error.message.into_owned())
}

/// The latest versions of the models that embed texts.
pub(crate) fn embedders(snapshot: &ServingSnapshot) -> impl Iterator<Item = &Arc<ServedVersion>> {
    let latest = snapshot.models().filter_map(|(_, model)| model.versions().last());
    latest.filter(|version| version.spec.task == Task::Embedding)
}

/// Why a request was not answered, and the parameter that is to blame.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: Error,
    parameter: Option<&'static str>,
    /// Whether it is the request's own mistake, which sending it again does not change.
    always: bool,
}

impl Refusal {
    /// What is wrong with a request that was read is its texts.
    fn of_input(error: Error) -> Self {
        let parameter = (error.code == ErrorCode::InvalidArgument).then_some("input");
        Self { error, parameter, always: parameter.is_some() }
    }

    /// The same, of a request that ran.
    fn of_running(error: Error) -> Self {
        Self { always: false, ..Self::of_input(error) }
    }

    fn invalid(parameter: &'static str, message: impl Into<String>) -> Self {
        Self { error: Error::invalid(message.into()), parameter: Some(parameter), always: true }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, parameter: None, always: false }
    }
}

impl Refuse for Refusal {
    fn last_word(self) -> Result<Response<Body>, Self> {
        if self.always { Ok(respond::refusal(&self)) } else { Err(self) }
    }
}

/// Answers one request from head to body. The response carries what its model counts.
pub(crate) async fn answer(
    shared: &Shared,
    face: &Face,
    (from, head): (Origin<'_>, &Parts),
    incoming: &mut Incoming,
) -> Response<Body> {
    let call = Call { shared, face, from, head, received: shared.predictor.clock().now() };
    call.answer(incoming).await.unwrap_or_else(|refusal| respond::refusal(&refusal))
}

/// One request, its body apart.
struct Call<'a> {
    shared: &'a Shared,
    face: &'a Face,
    from: Origin<'a>,
    head: &'a Parts,
    received: Instant,
}

impl Call<'_> {
    async fn answer(&self, incoming: &mut Incoming) -> Result<Response<Body>, Refusal> {
        self.authorize(Access::Read)?;
        let timeout =
            head::timeout(&self.head.headers, self.shared.request_timeout()).map_err(Error::invalid)?;
        let deadline = Deadline::after(self.received, timeout);
        let (bytes, room) = self.read(incoming, deadline).await?;
        let start = self.shared.predictor.clock().now();
        let request = request::read(&bytes, self.face.embedders.max_rows)?;
        let view = self.view(&request)?;
        let counts = self.face.embedders.metrics.get(view.version().spec.name.as_str());
        let counts = counts.ok_or_else(|| not_an_embedder(&request.model, &self.face.embedders))?;
        let work = async {
            let mut admitted = room.admit(self.sender(view)?, deadline);
            admitted.cache(head::cache_control(&self.head.headers));
            admitted.would_run(view.version())?;
            let once = Once::of(self.shared, self.head, admitted.principal(), &bytes, deadline)?;
            // The texts are out of it: it need not be held while the model runs.
            drop(bytes);
            let work = self.embed(view, request, admitted, start);
            match once {
                Some(once) => once.run(work).await,
                None => work.await,
            }
        };
        let mut response = work.await.unwrap_or_else(|refusal| respond::refusal(&refusal));
        response.extensions_mut().insert(counts.clone());
        Ok(response)
    }

    fn sender(&self, view: &ModelView) -> Result<Sender, Error> {
        let grant = self.authorize(Access::Invoke(&view.version().spec.name))?;
        Ok(self.from.sender(grant))
    }

    fn authorize(&self, access: Access<'_>) -> Result<Grant, Error> {
        let authorization = self.head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        self.shared.authorizer.authorize(Credentials { authorization }, access)
    }

    async fn read(&self, incoming: &mut Incoming, deadline: Deadline) -> Result<(Bytes, Room), Error> {
        let headers = &self.head.headers;
        if !head::is_json(headers) {
            let text = "the body is JSON: send Content-Type: application/json";
            return Err(Error::new(ErrorCode::UnsupportedMediaType, text));
        }
        let mut room = self.shared.predictor.room();
        room.fits(body::check_head(headers, self.shared.body_limits())?)?;
        let bytes = body::read_into(incoming, &mut room, deadline, self.shared.body_limits()).await?;
        Ok((bytes, room))
    }

    /// The latest version of the model that is asked for.
    fn view(&self, request: &Request) -> Result<&ModelView, Refusal> {
        match self.face.v2.view(&request.model, None) {
            Ok(view) => Ok(view),
            Err(error) => Err(Refusal { parameter: Some("model"), ..error.into() }),
        }
    }

    async fn embed(
        &self,
        view: &ModelView,
        request: Request,
        admitted: Admitted,
        start: Instant,
    ) -> Result<Response<Body>, Refusal> {
        check_dimensions(view, request.dimensions)?;
        let clock = self.shared.predictor.clock();
        // Its only input is there: nothing is left to be looked up.
        let decoded = view.decode(vec![texts(view, request.input)?]);
        let batch = decoded.map_err(Refusal::of_input)?.batch;
        let decoding = clock.now() - start;
        view.stages.decode.observe(decoding);
        let trace = self.from.trace;
        trace.iter().for_each(|scope| scope.add("decode", (start, start + decoding), |_| {}));
        let ready = admitted.route(view.version().clone()).batch(batch).map_err(Refusal::of_input)?;
        let executed = ready.execute().await.map_err(Refusal::of_running)?;
        view.stages.executed(executed.took);
        let start = clock.now();
        let response = respond::embeddings(view, &executed, request.encoding)?;
        let encoding = clock.now() - start;
        view.stages.encode.observe(encoding);
        trace.iter().for_each(|scope| scope.add("encode", (start, start + encoding), |_| {}));
        executed.version.executor.stats().face(decoding, encoding);
        Ok(response)
    }
}

fn not_an_embedder(model: &str, embedders: &Embedders) -> Refusal {
    Refusal::invalid(
        "model",
        format!("model `{model}` embeds no texts; models that do: {}", embedders.names()),
    )
}

/// The only input of an embedder.
fn texts(view: &ModelView, input: Vec<String>) -> Result<NamedTensor, Error> {
    let name = view.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
    let tensor = Tensor::new(vec![input.len()], TensorData::String(input));
    Ok(NamedTensor { name, tensor: tensor.map_err(|e| Error::invalid(e.to_string()))? })
}

/// A model's vectors have one size. Cutting them short is sound for models that were trained
/// for it, and none of the formats that are read here says which were.
fn check_dimensions(view: &ModelView, asked: Option<u64>) -> Result<(), Refusal> {
    let spec = &view.version().spec;
    let gives = spec.signature.outputs.first().and_then(|o| o.shape.get(1)).and_then(Dim::fixed);
    match asked {
        None => Ok(()),
        Some(n) if gives.is_some_and(|gives| gives as u64 == n) => Ok(()),
        Some(n) => {
            let gives = gives.map_or("as many as it does".to_owned(), |n| n.to_string());
            let text = format!(
                "model `{}` gives {gives} dimensions and its vectors cannot be cut to {n}: leave `dimensions` out",
                spec.name
            );
            Err(Refusal::invalid("dimensions", text))
        }
    }
}
