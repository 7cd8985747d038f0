//! From what the user asks for to a plan: looks at the server, makes requests, tries one.

mod options;
mod rehearse;

use std::sync::Arc;

use serde_json::Value;

use options::locate;
pub use options::{Bodies, Options};

use crate::{
    answer::Expected,
    body::{
        encode::{Encoder, Form, Way},
        http::{Body, Head},
        rows::{self, Rows},
        tensors::Mapping,
    },
    discover::{self, Describer, Route},
    plan::{Face, Request, Source, Target, Traffic},
    rng::Rng,
};

/// The method that gRPC inference is.
const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
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

/// Where requests come from.
enum Supply {
    Encoder(Encoder),
    Fixed(Head, Vec<Option<String>>),
}

impl Options {
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
}
