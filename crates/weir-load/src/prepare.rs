//! From what the user asks for to a plan: looks at the server, makes requests, tries one.

use std::{net::SocketAddr, net::ToSocketAddrs, path::PathBuf, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{task::LocalSet, time::Instant};

use crate::{
    answer::{self, Expected},
    body::{
        encode::{Encoder, Form, Way},
        http::{Body, Head},
        rows::{self, Rows},
        tensors::Mapping,
    },
    discover::{self, Describer, Route},
    drive::failure_words,
    outcome::Outcome,
    plan::{Face, Request, Source, Target, Traffic},
    rng::Rng,
    transport::{Channels, Grpc, Http1, Transport},
};

/// The method that gRPC inference is.
const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Most distinct requests that are kept.
const MOST_BODIES: usize = 1_000_000;
/// Most rows of a request.
const MOST_ROWS: usize = 1_000_000;

/// Where bodies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bodies {
    /// Made up from the model's signature.
    Generated,
    /// Rows of a samples file, `{"input": {…}, "prediction": …}` a line; predictions are checked
    /// on the typed face.
    Samples(PathBuf),
    /// A file of whole bodies, one a line.
    File(PathBuf),
}

/// What a user asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://host:port`.
    pub url: String,
    /// Where metadata and OpenAPI are asked, if elsewhere.
    pub describe: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// A path to ask instead of the model's.
    pub path: Option<String>,
    /// The protocol.
    pub face: Face,
    /// Where bodies come from.
    pub bodies: Bodies,
    /// A file of right answers, one a line, for a file of bodies.
    pub expect: Option<PathBuf>,
    /// How far numbers may be away; samples have their own.
    pub tolerance: Option<f64>,
    /// Rows of a request, each as likely.
    pub rows: Vec<usize>,
    /// Distinct requests in the pool.
    pub pool: usize,
    /// The share of requests from the pool; others are new ones. `None` for all.
    pub repeat: Option<f64>,
    /// Asks every request of the pool alone, and requires the same answer under load.
    pub check: bool,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// Whether a deadline is sent along.
    pub deadline: bool,
    /// When a try is given up.
    pub timeout: Duration,
    /// Of bodies.
    pub seed: u64,
}

/// A server that answers, and requests for it.
#[derive(Clone)]
pub struct Prepared {
    /// Whom to ask.
    pub target: Target,
    /// What to ask.
    pub traffic: Traffic,
    /// What a reader should know: what is sent, what is checked.
    pub notes: Vec<String>,
}

/// Looks at the server and makes requests for it; one of them is tried.
///
/// # Errors
/// Everything that is wrong.
pub fn prepare(options: &Options) -> Result<Prepared, Vec<String>> {
    let problems = options.problems();
    if !problems.is_empty() {
        return Err(problems);
    }
    let (host, address) = locate(&options.url).map_err(|e| vec![e])?;
    let (path, method, source) = options.requests(&host)?;
    let mut prepared = Prepared {
        target: Target { address, host: host.clone(), path, face: options.face },
        traffic: Traffic { pool: Vec::new(), repeat: options.repeat.unwrap_or(1.0), fresh: None },
        notes: Vec::new(),
    };
    options.fill(&mut prepared, &method, source).map_err(|e| vec![e])?;
    options.rehearse(&mut prepared).map_err(|e| vec![e])?;
    Ok(prepared)
}

/// Host (with port) and address of an `http://` URL.
fn locate(url: &str) -> Result<(String, SocketAddr), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        let why = if url.starts_with("https://") { "TLS is not supported" } else { "no URL" };
        format!("{url}: {why}: write http://host:port")
    })?;
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err(format!("{url}: write http://host:port, and the path with --path"));
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let whole = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut found = whole.to_socket_addrs().map_err(|e| format!("{url}: {e}"))?;
    found.next().map(|address| (host.to_owned(), address)).ok_or_else(|| format!("{url}: no address"))
}

/// Where requests come from.
enum Supply {
    Encoder(Encoder),
    Fixed(Head, Vec<Option<String>>),
}

impl Options {
    /// What is wrong, as far as that can be told without asking the server.
    pub fn problems(&self) -> Vec<String> {
        let generated = !matches!(self.bodies, Bodies::File(_));
        let tensors = self.face != Face::Typed;
        let checks = [
            (self.model.is_none() && self.path.is_none(), "name a model, or a path with --path"),
            (self.model.is_some() && self.path.is_some(), "name a model or a path with --path, not both"),
            (self.path.as_ref().is_some_and(|p| !p.starts_with('/')), "--path begins with /"),
            (
                self.path.as_ref().is_some_and(|p| p.bytes().any(|b| b <= b' ' || b >= 127)),
                "--path has spaces or letters beyond ASCII: percent-encode them",
            ),
            (tensors && self.model.is_none(), "--face v2, v2-binary and grpc need the name of a model"),
            (tensors && !generated, "--body is for typed bodies: give rows with --samples"),
            (
                matches!(self.bodies, Bodies::Samples(_)) && self.path.is_some(),
                "--samples needs a model, not --path",
            ),
            (
                self.expect.is_some() && generated,
                "--expect needs --body: a line of it is the answer to a line there",
            ),
            (self.expect.is_some() && self.check, "--expect and --check both say what is right: choose one"),
            (self.repeat.is_some_and(|r| !(0.0..=1.0).contains(&r)), "--repeat is a share between 0 and 1"),
            (self.repeat.is_some() && !generated, "--repeat needs generated bodies, and --body gives them"),
            (
                self.repeat.is_some() && self.check,
                "--check knows answers to repeated bodies only: leave out --repeat",
            ),
            (self.pool == 0 || self.pool > MOST_BODIES, "--bodies is between 1 and 1,000,000"),
            (
                self.rows.is_empty() || self.rows.iter().any(|r| !(1..=MOST_ROWS).contains(r)),
                "--rows is between 1 and 1,000,000",
            ),
            (
                self.tolerance.is_some_and(|t| !(0.0..f64::INFINITY).contains(&t)),
                "--tolerance is a number from 0 up",
            ),
        ];
        let mut found: Vec<String> = locate(&self.url).err().into_iter().collect();
        found.extend(checks.iter().filter(|(wrong, _)| *wrong).map(|(_, words)| (*words).to_owned()));
        let bad = |(name, value): &&(String, String)| {
            http::HeaderName::from_bytes(name.as_bytes()).is_err()
                || http::HeaderValue::from_str(value).is_err()
        };
        found.extend(
            self.headers.iter().filter(bad).map(|(name, _)| format!("--header {name}: is no header")),
        );
        if self.face == Face::Grpc && !self.headers.is_empty() {
            found.push("--header is for HTTP, not for gRPC".into());
        }
        found
    }

    /// Path, method and supply of requests.
    fn requests(&self, host: &str) -> Result<(String, String, Supply), Vec<String>> {
        let describer = Describer::new(self.describe.as_deref().unwrap_or(&self.url));
        let head = |method: &str, path: &str| Head::new(method, path, host, &self.headers, self.deadline);
        if let Bodies::File(file) = &self.bodies {
            let path = self.path.clone().unwrap_or_else(|| self.typed_path());
            let lines = rows::lines(file).map_err(|e| vec![e])?;
            let bodies = lines.into_iter().map(Some).collect();
            return Ok((path.clone(), "POST".into(), Supply::Fixed(head("POST", &path), bodies)));
        }
        let (path, method, form) = match (&self.path, self.face) {
            (Some(path), _) => self.route(&describer, path)?,
            (None, Face::Typed) => self.typed(&describer)?,
            (None, _) => self.tensors(&describer)?,
        };
        let supply = match form {
            Some(form) => Supply::Encoder(self.encoder(head(&method, &path), form)?),
            None => Supply::Fixed(head(&method, &path), vec![None]),
        };
        Ok((path, method, supply))
    }

    fn encoder(&self, head: Head, form: Form) -> Result<Encoder, Vec<String>> {
        let schema = match &form {
            Form::Body(schema) => Some(schema),
            _ => None,
        };
        let unfit = |rows: &&usize| schema.is_some_and(|schema| !schema.holds(**rows));
        let unfit: Vec<String> = self.rows.iter().filter(unfit).map(usize::to_string).collect();
        if !unfit.is_empty() {
            return Err(vec![format!(
                "--rows {}: the body of the route has no place for so many",
                unfit.join(",")
            )]);
        }
        Ok(Encoder { head, form, rows: self.rows.clone(), deadline: self.deadline })
    }

    fn typed_path(&self) -> String {
        let version = self.version.as_ref().map(|v| format!("/versions/{v}")).unwrap_or_default();
        format!("/v1/models/{}{version}:predict", self.model.as_deref().unwrap_or_default())
    }

    fn route(
        &self,
        describer: &Describer,
        path: &str,
    ) -> Result<(String, String, Option<Form>), Vec<String>> {
        let document = describer.openapi().map_err(|e| vec![e])?;
        let (method, form) = match discover::route(document.as_ref(), path)? {
            Route::Post(schema) => ("POST", Some(Form::Body(schema))),
            Route::PostAny => ("POST", None),
            Route::Get => ("GET", None),
        };
        Ok((path.to_owned(), method.to_owned(), form))
    }

    fn typed(&self, describer: &Describer) -> Result<(String, String, Option<Form>), Vec<String>> {
        let form = match &self.bodies {
            Bodies::Samples(file) => {
                Form::Instances(Rows::Samples(rows::samples(file).map_err(|e| vec![e])?))
            }
            _ => {
                let none =
                    "the server has no /openapi.json to make bodies from: give them with --path and --body";
                let document =
                    describer.openapi().map_err(|e| vec![e])?.ok_or_else(|| vec![none.to_owned()])?;
                let model = self.model.as_deref().unwrap_or_default();
                Form::Body(discover::model_schema(&document, model, self.version.as_deref())?.1)
            }
        };
        // Samples know the prediction alone, whatever else the model answers by default.
        let words = if matches!(self.bodies, Bodies::Samples(_)) { "?outputs=prediction" } else { "" };
        Ok((self.typed_path() + words, "POST".into(), Some(form)))
    }

    /// Rows come from the samples or the typed schema where there is one, so that the ranges of
    /// fields are kept; tensors know no ranges.
    fn tensors(&self, describer: &Describer) -> Result<(String, String, Option<Form>), Vec<String>> {
        let (model, version) = (self.model.as_deref().unwrap_or_default(), self.version.as_deref());
        let inputs = describer.inputs(model, version).map_err(|e| vec![e])?;
        let rows = match &self.bodies {
            Bodies::Samples(file) => Rows::Samples(rows::samples(file).map_err(|e| vec![e])?),
            _ => {
                let document = describer.openapi().ok().flatten();
                let schema = document.and_then(|d| discover::model_schema(&d, model, version).ok());
                let empty = crate::body::schema::Schema::Object(Vec::new());
                Rows::Schema(schema.map_or(empty, |(_, schema)| schema))
            }
        };
        let sample = rows.draw(&mut Rng::new(self.seed, 0), 1);
        let mapping = Mapping::of(&inputs, sample.iter().flat_map(|s| s.input.keys()));
        if mapping == Mapping::MadeUp && matches!(rows, Rows::Samples(_)) {
            let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(vec![format!(
                "--samples: no way from its fields to the inputs {}",
                names.join(", ")
            )]);
        }
        let way = match self.face {
            Face::Grpc => Way::Grpc { model: model.to_owned(), version: version.map(str::to_owned) },
            Face::V2Binary => Way::Binary,
            _ => Way::Json,
        };
        let path = match self.face {
            Face::Grpc => GRPC_PATH.to_owned(),
            _ => format!(
                "/v2/models/{model}{}/infer",
                version.map(|v| format!("/versions/{v}")).unwrap_or_default()
            ),
        };
        Ok((path, "POST".into(), Some(Form::Tensors { rows, inputs, mapping, way })))
    }

    /// Makes the pool.
    fn fill(&self, prepared: &mut Prepared, method: &str, supply: Supply) -> Result<(), String> {
        let traffic = &mut prepared.traffic;
        let what = match supply {
            Supply::Fixed(head, bodies) => {
                let expected = self.expected(bodies.len())?;
                let request = |(i, body): (usize, &Option<String>)| {
                    let body =
                        body.as_ref().map(|b| Body { bytes: b.as_bytes().to_vec(), ..Body::default() });
                    let empty = (method != "GET").then(Body::default);
                    let (wire, slots) = head.with(body.or(empty).as_ref());
                    Arc::new(Request { wire, slots, rows: 1, expected: expected.get(i).cloned() })
                };
                traffic.pool = bodies.iter().enumerate().map(request).collect();
                format!("{} bodies, in turn", traffic.pool.len())
            }
            Supply::Encoder(encoder) => {
                let mut rng = Rng::new(self.seed, 0xB0D1E5);
                traffic.pool =
                    (0..self.pool).map(|_| Arc::new(self.tolerant(encoder.request(&mut rng)))).collect();
                if traffic.repeat < 1.0 {
                    traffic.fresh = Some(Arc::new(encoder));
                }
                let share = traffic.repeat * 100.0;
                match self.repeat {
                    Some(_) => {
                        format!("{share:.0} % of requests from {} bodies, all others new ones", self.pool)
                    }
                    None => format!("{} bodies, in turn", self.pool),
                }
            }
        };
        prepared.notes.push(format!("{method} {}: {what}", prepared.target.path));
        Ok(())
    }

    fn tolerant(&self, mut request: Request) -> Request {
        if let (Some(tolerance), Some(expected)) = (self.tolerance, &mut request.expected) {
            Arc::make_mut(expected).tolerance = tolerance;
        }
        request
    }

    fn expected(&self, bodies: usize) -> Result<Vec<Arc<Expected>>, String> {
        let Some(file) = &self.expect else { return Ok(Vec::new()) };
        let lines = rows::lines(file)?;
        if lines.len() != bodies {
            return Err(format!("{}: {} lines for {bodies} bodies", file.display(), lines.len()));
        }
        let tolerance = self.tolerance.unwrap_or(rows::TOLERANCE);
        let expected = |(i, line): (usize, &String)| {
            let value: Value = serde_json::from_str(line)
                .map_err(|e| format!("{}:{}: is no JSON: {e}", file.display(), i + 1))?;
            Ok(Arc::new(Expected { value, tolerance, bytes: None }))
        };
        lines.iter().enumerate().map(expected).collect()
    }

    /// Asks one request, or with `check` all of them, before anything is measured: a load of
    /// mistakes would measure how fast they are refused.
    fn rehearse(&self, prepared: &mut Prepared) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
        let target = prepared.target.clone();
        let work = async {
            match target.face {
                Face::Grpc => {
                    let channels = Channels::new(target.address, &target.host, &target.path, 1);
                    let channels = channels.map_err(|e| e.to_string())?;
                    self.ask_all(prepared, Grpc::new(channels, 0)).await
                }
                _ => self.ask_all(prepared, Http1::new(target.address)).await,
            }
        };
        runtime.block_on(LocalSet::new().run_until(work))
    }

    async fn ask_all(&self, prepared: &mut Prepared, mut transport: impl Transport) -> Result<(), String> {
        let face = prepared.target.face;
        let count = if self.check { prepared.traffic.pool.len() } else { 1 };
        for request in prepared.traffic.pool.iter_mut().take(count) {
            let left = self.deadline.then_some(self.timeout);
            let reply = transport.call(request, left, Instant::now() + self.timeout).await;
            let (body, json) = transport.answer();
            let words = || failure_words(reply.status, body, transport.reason());
            match reply.outcome {
                Outcome::Ok => {}
                Outcome::Refused if !self.check => {
                    prepared.notes.push(format!("the first request was refused ({})", words()));
                    return Ok(());
                }
                Outcome::Transport => {
                    let at = prepared.target.address;
                    return Err(format!("{at} cannot be asked: {}", transport.reason()));
                }
                _ => return Err(format!("a request failed before the load began: {}", words())),
            }
            if let Some(expected) = &request.expected {
                expected
                    .check(face, body, json)
                    .map_err(|e| format!("a wrong answer before the load began: {e}"))?;
            } else if self.check {
                let value =
                    answer::read(face, body, json).ok_or("an answer cannot be read: --check needs JSON")?;
                let expected = Expected {
                    value,
                    tolerance: self.tolerance.unwrap_or(rows::TOLERANCE),
                    bytes: Some(body.to_vec()),
                };
                Arc::make_mut(request).expected = Some(Arc::new(expected));
            }
        }
        let checked = prepared.traffic.pool.iter().filter(|r| r.expected.is_some()).count();
        prepared.notes.push(match checked {
            0 => "answers are judged by their status".into(),
            n => format!("answers to {n} bodies are checked"),
        });
        Ok(())
    }
}
