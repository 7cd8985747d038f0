//! The format of `tests/scenarios/*.yaml` and how a file is replayed. `tests/scenarios/README.md`
//! is the reference.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bodies::BodyRepeat,
    client::{Connection, Response, request},
    matching::{Rules, differences, text},
    server::{Server, require_sentiment, root, weir},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What the file shows.
    #[allow(dead_code)] // for the reader
    title: String,
    /// Files and folders to lay out: path in the scenario's folder -> path in the checkout.
    #[serde(default)]
    copy: BTreeMap<String, PathBuf>,
    /// Files to write: path in the scenario's folder -> content.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Arguments of `weir serve`; without them no server runs.
    serve: Option<Vec<String>>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    /// `METHOD /path`.
    request: Option<String>,
    /// Ask the admin API instead.
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    headers: Vec<BTreeMap<String, String>>,
    json: Option<Value>,
    body: Option<String>,
    /// A body of so many spaces.
    body_bytes: Option<usize>,
    /// A body too long to write down.
    body_repeat: Option<BodyRepeat>,
    /// Bytes to send as they are, instead of a request.
    send: Option<String>,
    /// A command line: `weir` and its arguments.
    run: Option<Vec<String>>,
    /// Environment of `run`.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Where to put the standard output of `run`.
    save: Option<String>,
    /// Standard input of `run`.
    stdin: Option<String>,
    /// Files to write before the step.
    #[serde(default)]
    write: BTreeMap<String, String>,
    /// Files to copy before the step.
    #[serde(default)]
    copy: BTreeMap<String, PathBuf>,
    /// Ask again until the expectation holds, for at most so many seconds.
    eventually: Option<f64>,
    /// How often to do the step.
    repeat: Option<usize>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Headers that must not be there.
    #[serde(default)]
    absent: Vec<String>,
    /// The whole body as JSON.
    json: Option<Value>,
    /// Part of the body as JSON.
    contains: Option<Value>,
    /// Largest difference of numbers in `json` and `contains`.
    #[serde(default)]
    approx: f64,
    /// The body (or standard output of `run`) as text: equal, or `re:` and a pattern.
    #[serde(default, deserialize_with = "one_or_many")]
    body: Vec<String>,
    /// Standard error of `run`.
    #[serde(default, deserialize_with = "one_or_many")]
    stderr: Vec<String>,
    /// What the body (or standard output) must not match.
    #[serde(default, deserialize_with = "one_or_many")]
    not: Vec<String>,
    /// Exit status of `run`.
    exit: Option<i32>,
    /// Whether the server closes the connection, after a response if a status is expected.
    closed: Option<bool>,
    /// Interim statuses (1xx), none if not said.
    #[serde(default)]
    interim: Vec<u16>,
    /// Shortest and longest time to the answer, in seconds.
    within: Option<[f64; 2]>,
    /// Largest body in bytes.
    max_bytes: Option<usize>,
    /// A line that the server logs about the request.
    log: Option<String>,
    /// What that line must not match.
    log_not: Option<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}

/// Where scenarios lie.
pub(crate) fn folder() -> PathBuf {
    root().join("tests/scenarios")
}

/// Replays one file, and fails with every step that did not go as expected.
pub(crate) fn replay(name: &str) {
    let path = folder().join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let scenario: Scenario =
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if text.contains("sentiment") {
        require_sentiment();
    }
    let place = TempDir::new().unwrap();
    lay_out(place.path(), &scenario.copy, &scenario.files);
    let start = |arguments: &Vec<String>| {
        Server::start(place.path(), &arguments.iter().map(|a| rooted(a)).collect::<Vec<_>>())
    };
    let mut server = scenario.serve.as_ref().map(start);
    let mut failures = Vec::new();
    for (number, step) in scenario.steps.iter().enumerate() {
        lay_out(place.path(), &step.copy, &step.write);
        for _ in 0..step.repeat.unwrap_or(1) {
            let problems = play(step, place.path(), server.as_mut());
            if !problems.is_empty() {
                failures.push(format!(
                    "step {} `{}`:\n    {}",
                    number + 1,
                    step.name,
                    problems.join("\n    ")
                ));
                break;
            }
        }
    }
    let log = server.as_mut().map(Server::log).unwrap_or_default();
    if let Some(server) = server {
        server.stop();
    }
    assert!(
        failures.is_empty(),
        "{}: {} of {} steps failed\n{}\nserver:\n{log}",
        path.display(),
        failures.len(),
        scenario.steps.len(),
        failures.join("\n")
    );
    println!("{name}: {} steps", scenario.steps.len());
}

/// `{root}` is the checkout.
fn rooted(argument: &str) -> String {
    argument.replace("{root}", &root().to_string_lossy())
}

/// `{random}` is another number each time.
fn randomised(text: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    text.replace("{random}", &(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_761)).to_string())
}

fn lay_out(place: &Path, copy: &BTreeMap<String, PathBuf>, files: &BTreeMap<String, String>) {
    for (to, from) in copy {
        copy_tree(&root().join(from), &place.join(to));
    }
    for (to, content) in files {
        let to = place.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Written beside and moved, as editors and deployments do.
        let beside = to.with_extension("new");
        fs::write(&beside, content).unwrap();
        fs::rename(beside, to).unwrap();
    }
}

/// Copies a file or folder.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }
}

/// Does a step once, or again and again until it goes as expected; returns what went wrong.
fn play(step: &Step, place: &Path, mut server: Option<&mut Server>) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs_f64(step.eventually.unwrap_or(0.0));
    loop {
        let server = server.as_deref_mut();
        let problems = match &step.run {
            Some(arguments) => run(step, arguments, place, server),
            None => exchange(step, server.unwrap_or_else(|| panic!("`{}` needs `serve`", step.name))),
        };
        if problems.is_empty() || Instant::now() >= deadline {
            return problems;
        }
        // Nothing announces a reload to a client: asking again is all that one can do.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn exchange(step: &Step, server: &mut Server) -> Vec<String> {
    let address = if step.admin { server.admin() } else { server.address };
    let mut problems = converse(step, address).unwrap_or_else(|error| vec![error.to_string()]);
    if let Some(wanted) = step.expect.log.as_deref().filter(|_| problems.is_empty()) {
        let pattern =
            wanted.strip_prefix("re:").unwrap_or_else(|| panic!("`{}`: log takes a pattern", step.name));
        let line = server.await_line(&Regex::new(pattern).unwrap());
        let unwanted = step.expect.log_not.iter().filter(|pattern| text(pattern, &line).is_none());
        problems.extend(unwanted.map(|pattern| format!("the log matches {pattern:?}: {line}")));
    }
    problems
}

fn converse(step: &Step, address: SocketAddr) -> std::io::Result<Vec<String>> {
    let expect = &step.expect;
    let (bytes, head) = bytes_of(step);
    let mut connection = Connection::open(address)?;
    let begun = Instant::now();
    // A server that refuses early may close before all is sent; what counts is its answer.
    let sent = connection.send(&bytes);
    let mut problems = Vec::new();
    if expect.status.is_some() {
        match connection.receive(head) {
            Ok(response) => problems.extend(check(expect, &response)),
            Err(error) => return Ok(vec![format!("no answer: {error} (sending: {sent:?})")]),
        }
    }
    if expect.closed == Some(true) {
        let rest = connection.drain();
        let unexpected = rest.filter(|rest| !rest.is_empty());
        problems.extend(unexpected.map(|rest| format!("more came: {}", String::from_utf8_lossy(&rest))));
    }
    let took = begun.elapsed().as_secs_f64();
    if let Some([shortest, longest]) = expect.within.filter(|[low, high]| !(low..=high).contains(&&took)) {
        problems.push(format!("took {took:.3} s, expected {shortest} to {longest}"));
    }
    Ok(problems)
}

/// What to send, and whether it is a HEAD request.
fn bytes_of(step: &Step) -> (Vec<u8>, bool) {
    if let Some(bytes) = &step.send {
        return (bytes.clone().into_bytes(), bytes.starts_with("HEAD "));
    }
    let line = step.request.as_deref().unwrap_or_else(|| panic!("`{}` does nothing", step.name));
    let line = randomised(line);
    let (method, path) = line.split_once(' ').unwrap_or_else(|| panic!("`{line}`: METHOD /path"));
    let mut headers: Vec<_> = step.headers.iter().flatten().map(|(n, v)| (n.clone(), v.clone())).collect();
    if step.admin && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        headers.push(("Host".into(), "localhost".into()));
    }
    let bodies = [
        step.json.as_ref().map(|json| json.to_string().into_bytes()),
        step.body.as_ref().map(|body| body.clone().into_bytes()),
        step.body_bytes.map(|length| vec![b' '; length]),
        step.body_repeat.as_ref().map(BodyRepeat::bytes),
    ];
    let mut given = bodies.into_iter().flatten();
    let (body, other) = (given.next(), given.next());
    assert!(other.is_none(), "`{}` has two bodies", step.name);
    if step.json.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".into(), "application/json".into()));
    }
    (request(method, path, &headers, body.as_deref()), method == "HEAD")
}

fn check(expect: &Expect, response: &Response) -> Vec<String> {
    let mut problems = Vec::new();
    if expect.status.is_some_and(|status| status != response.status) {
        problems.push(format!(
            "status {}, expected {:?}: {}",
            response.status,
            expect.status,
            response.text()
        ));
    }
    if expect.interim != response.interim {
        problems.push(format!("interim statuses {:?}, expected {:?}", response.interim, expect.interim));
    }
    for (name, wanted) in &expect.headers {
        match response.header(name).collect::<Vec<_>>()[..] {
            [value] => problems.extend(text(wanted, value).map(|d| format!("header {name} {d}"))),
            [] => problems.push(format!("header {name} is missing")),
            _ => problems.push(format!("header {name} is there twice")),
        }
    }
    let present = expect.absent.iter().filter(|name| response.header(name).next().is_some());
    problems.extend(present.map(|name| format!("header {name} is there")));
    if expect.max_bytes.is_some_and(|most| response.body.len() > most) {
        problems.push(format!(
            "the body has {} bytes, at most {:?} expected",
            response.body.len(),
            expect.max_bytes
        ));
    }
    problems.extend(check_body(expect, &response.text()));
    problems
}

fn check_body(expect: &Expect, body: &str) -> Vec<String> {
    let mut problems: Vec<_> =
        expect.body.iter().filter_map(|wanted| text(wanted, body)).map(|d| format!("body {d}")).collect();
    let unwanted = expect.not.iter().filter(|pattern| text(pattern, body).is_none());
    problems.extend(unwanted.map(|pattern| format!("body matches {pattern:?}: {body}")));
    for (wanted, partial) in [(&expect.json, false), (&expect.contains, true)] {
        let Some(wanted) = wanted else { continue };
        match serde_json::from_str(body) {
            Ok(got) => problems.extend(differences(wanted, &got, Rules { partial, approx: expect.approx })),
            Err(error) => problems.push(format!("the body is no JSON ({error}): {body}")),
        }
    }
    problems
}

fn run(step: &Step, arguments: &[String], place: &Path, server: Option<&mut Server>) -> Vec<String> {
    let expect = &step.expect;
    let (mut address, mut admin) = (String::new(), String::new());
    if let Some(server) = server {
        address = server.address.to_string();
        if arguments.iter().any(|a| a.contains("{admin}")) {
            admin = server.admin().to_string();
        }
    }
    let placed = |a: &String| rooted(a).replace("{address}", &address).replace("{admin}", &admin);
    let mut command = weir(place);
    command.args(arguments.iter().map(placed)).envs(&step.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    if let (Some(mut stdin), Some(input)) = (stdin, &step.stdin) {
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if let Some(name) = &step.save {
        fs::write(place.join(name), &output.stdout).unwrap();
    }
    let mut problems = check_body(expect, &stdout);
    problems.extend(
        expect.stderr.iter().filter_map(|wanted| text(wanted, &stderr)).map(|d| format!("stderr {d}")),
    );
    let wanted = expect.exit.unwrap_or(0);
    if output.status.code() != Some(wanted) {
        problems.push(format!("{}, expected {wanted}; stdout: {stdout} stderr: {stderr}", output.status));
    }
    problems
}
