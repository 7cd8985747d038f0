//! The executor against a server that says what each test wants.

use std::{fs, sync::atomic::Ordering};

use serde_json::json;
use weir_artifact::{RemoteFacts, discover};
use weir_clients::BreakerState;
use weir_types::{DType, Dim, ErrorCode, SystemClock, TensorSpec};

use super::{
    super::tests::{self, contract},
    double::{Asked, Double, Say, answer},
    *,
};

pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn job(values: &[f32], timeout: Duration) -> Job {
    tests::job(&SystemClock, values, timeout)
}

fn spec(name: &str) -> TensorSpec {
    TensorSpec { name: name.into(), dtype: DType::Float32, shape: vec![Dim::Any(None)] }
}

/// The model `x → y` at `url`, of which `told` says most rows; `extra` stands in `[remote]`, `samples`
/// are its golden rows.
pub(super) fn described(url: &str, extra: &str, samples: &str, told: Option<usize>) -> Described {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("secret-model");
    fs::create_dir(&model).unwrap();
    let golden = if samples.is_empty() { "" } else { "samples = \"samples.jsonl\"\n" };
    let text = format!("name = \"m\"\n{golden}[remote]\nurl = \"{url}\"\n{extra}");
    fs::write(model.join("model.toml"), text).unwrap();
    fs::write(model.join("samples.jsonl"), samples).unwrap();
    let candidate = discover(&model).complete().unwrap().remove(0);
    let draft = read_remote(&candidate).unwrap_or_else(|problems| panic!("{problems:?}"));
    let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
    let facts =
        RemoteFacts { server: "double 1".into(), signature, max_rows: told, ..RemoteFacts::default() };
    let spec = draft.describe(&facts).unwrap_or_else(|problems| panic!("{problems:?}"));
    let engine = EngineInfo { name: "remote", version: "1".into(), reason: "a test".into() };
    Described { draft, spec, engine, form: Form::Bytes, max_rows: told, shares: false }
}

fn remote(url: &str, extra: &str, binary: bool) -> Remote {
    let form = if binary { Form::Bytes } else { Form::Json };
    let described = Described { form, ..described(url, extra, "", None) };
    described.executor(Arc::new(SystemClock), Arc::default(), 1_000).unwrap()
}

/// Adds one, as bytes or as JSON, whichever way it was asked; 500 for a negative number.
pub(super) fn add_one(asked: &Asked) -> Say {
    let (json, blobs) = asked.json();
    let binary = !blobs.is_empty();
    let values: Vec<f32> = match binary {
        true => blobs.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) + 1.0).collect(),
        false => serde_json::from_value::<Vec<f32>>(json["inputs"][0]["data"].clone())
            .unwrap()
            .iter()
            .map(|x| x + 1.0)
            .collect(),
    };
    if values.iter().any(|x| *x < 1.0) {
        return Say::Bytes(answer(500, "", r#"{"error":"negative"}"#));
    }
    let mut output = json!({"name": "y", "datatype": "FP32", "shape": [values.len()]});
    if !binary {
        output["data"] = json!(values);
        return Say::Bytes(answer(200, "", json!({"id": json["id"], "outputs": [output]}).to_string()));
    }
    output["parameters"] = json!({"binary_data_size": values.len() * 4});
    let mut body = json!({"id": json["id"], "outputs": [output]}).to_string().into_bytes();
    let header = format!("Inference-Header-Content-Length: {}\r\n", body.len());
    body.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    Say::Bytes(answer(200, &header, body))
}

#[tokio::test]
async fn a_remote_model_keeps_the_contract() {
    for binary in [true, false] {
        let double = Double::start(add_one).await;
        contract(&remote(&double.url, "", binary), &SystemClock).await;
        assert_eq!(double.count(), 3, "what is late is not asked, and an error is not repeated");
    }
}

#[tokio::test]
async fn the_time_left_is_sent_on_and_connections_are_kept() {
    let double = Double::start(add_one).await;
    let remote = remote(&double.url, "model = \"other/name\"\nversion = \"7\"\ntimeout = \"2s\"\n", true);
    for (timeout, most) in [(LONG, 2.0), (Duration::from_millis(700), 0.7)] {
        remote.execute(job(&[1.0], timeout)).await.unwrap();
        let asked = double.last();
        assert!(
            asked.head.starts_with("POST /v2/models/other%2Fname/versions/7/infer HTTP/1.1"),
            "{}",
            asked.head
        );
        let header: f64 = asked.header("request-timeout").unwrap().parse().unwrap();
        let micros = asked.json().0["parameters"]["timeout"].as_f64().unwrap();
        assert!(header <= most && header > most - 0.6, "{header}");
        assert!((micros / 1e6 - header).abs() < 1e-3);
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_ends_the_call() {
    let double = Double::start(|_| Say::Nothing).await;
    let remote = remote(&double.url, "", true);
    let left = double.left.clone();
    {
        let call = remote.execute(job(&[1.0], LONG));
        tokio::pin!(call);
        while double.count() == 0 {
            assert!(tokio::time::timeout(Duration::from_millis(1), &mut call).await.is_err());
        }
    }
    left.notified().await;
    assert_eq!(remote.remote().unwrap().in_flight, 0);
    assert_eq!(remote.stats().abandoned.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_deadline_ends_the_call_however_slowly_it_is_answered() {
    for say in [|| Say::Nothing, || Say::Drip(answer(200, "", "x".repeat(10_000)))] {
        let double = Double::start(move |_| say()).await;
        let remote = remote(&double.url, "", true);
        let late = remote.execute(job(&[1.0], Duration::from_millis(100))).await.unwrap_err();
        assert_eq!(late.code, ErrorCode::DeadlineExceeded);
        assert_eq!(remote.remote().unwrap().in_flight, 0);
        let stats = remote.stats();
        assert_eq!((stats.expired.load(Ordering::Relaxed), stats.failed.count()), (1, 0));
    }
}

/// What callers see of lies: an error without anything of the server's own.
#[tokio::test]
async fn lies_are_internal_errors_and_never_answers() {
    let output = |rest: &str| format!(r#"{{"outputs":[{{"name":"y","datatype":"FP32",{rest}}}]}}"#);
    let lies: Vec<Vec<u8>> = vec![
        answer(200, "", output(r#""shape":[2],"data":[1,2]"#)),
        answer(200, "", output(r#""shape":[1],"data":[1,2]"#)),
        answer(200, "", output(r#""shape":[4611686018427387907],"data":[1]"#)),
        answer(200, "", r#"{"id":"999","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}"#),
        answer(200, "", r#"{"outputs":[{"name":"z","datatype":"FP32","shape":[1],"data":[1]}]}"#),
        answer(200, "", "<html>"),
        answer(200, "Inference-Header-Content-Length: 9999999999999999999\r\n", "{}"),
        answer(200, "Inference-Header-Content-Length: -1\r\n", "{}"),
        answer(200, "Content-Encoding: gzip\r\n", "{}"),
        answer(204, "", ""),
        b"HTTP/1.1 200 X\r\nContent-Length: 50000000000\r\n\r\n{".to_vec(),
        answer(302, "Location: http://secret.internal/\r\n", ""),
        answer(401, "", "secret"),
        answer(500, "", "secret"),
        answer(502, "", "secret"),
    ];
    for lie in lies {
        let told = lie.clone();
        let double = Double::start(move |_| Say::Bytes(told.clone())).await;
        let remote = remote(&double.url, "max_answer = \"1MiB\"\n", true);
        let error = remote.execute(job(&[1.0], LONG)).await.unwrap_err();
        let lie = String::from_utf8_lossy(&lie);
        assert_eq!(error.code, ErrorCode::Internal, "{lie}");
        assert_eq!(error.message, "the model failed to answer this request");
        assert_eq!(double.count(), 1, "nothing is repeated: {lie}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_bound() {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless = ["HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk.repeat(40)].concat();
    let double = Double::start(move |_| Say::Bytes(endless.clone().into_bytes())).await;
    let error = remote(&double.url, "max_answer = \"1MiB\"\n", true).execute(job(&[1.0], LONG)).await;
    assert_eq!(error.unwrap_err().code, ErrorCode::Internal);
}

#[tokio::test]
async fn half_an_answer_is_asked_for_again_where_that_is_harmless() {
    for (extra, times) in [("", 3), ("[remote.retry]\nmost = 0\n", 1)] {
        let double =
            Double::start(|_| Say::Last(b"HTTP/1.1 200 X\r\nContent-Length: 90\r\n\r\n{".to_vec())).await;
        let error = remote(&double.url, extra, true).execute(job(&[1.0], LONG)).await.unwrap_err();
        assert_eq!((error.code, double.count()), (ErrorCode::Unavailable, times));
        assert!(!error.message.contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn the_servers_errors_are_told_in_the_callers_terms() {
    let long = "x".repeat(10_000);
    for (status, headers, body, code, part, after) in [
        (
            400,
            "",
            r#"{"error":"x\u001b[31m is wrong"}"#,
            ErrorCode::InvalidArgument,
            "refuses the request: x [31m is wrong",
            None,
        ),
        (422, "", long.as_str(), ErrorCode::InvalidArgument, "xxx…", None),
        (404, "", "secret", ErrorCode::Unavailable, "`m` is not available", None),
        (413, "", "secret", ErrorCode::TooLarge, "larger than", None),
        (429, "Retry-After: 70\r\n", "secret", ErrorCode::Overloaded, "as much to do", Some(70)),
        (503, "Retry-After: 80\r\n", "secret", ErrorCode::Unavailable, "not available", Some(80)),
        (504, "", "secret", ErrorCode::DeadlineExceeded, "deadline", None),
    ] {
        let body = body.to_owned();
        let double = Double::start(move |_| Say::Bytes(answer(status, headers, &body))).await;
        let error = remote(&double.url, "", true).execute(job(&[1.0], LONG)).await.unwrap_err();
        assert_eq!((error.code, error.retry_after), (code, after.map(Duration::from_secs)), "{status}");
        assert!(error.message.contains(part) && error.message.len() < 400, "{error}");
        assert!(!error.message.contains("secret"), "{error}");
        assert_eq!(double.count(), 1, "coming back in time was not possible: {status}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_opens_the_breaker_and_more_calls_than_it_takes_are_refused() {
    let gone = Double::start(|_| Say::Last(Vec::new())).await;
    let away = remote(&gone.url, "[remote.retry]\nmost = 0\n", true);
    for _ in 0..5 {
        assert_eq!(away.execute(job(&[1.0], LONG)).await.unwrap_err().code, ErrorCode::Unavailable);
    }
    let refused = away.execute(job(&[1.0], LONG)).await.unwrap_err();
    assert!(refused.code == ErrorCode::Unavailable && refused.retry_after.is_some());
    let stats = away.remote().unwrap();
    assert_eq!((stats.breaker, stats.broken, gone.count()), (BreakerState::Open, 1, 5));
    assert_eq!(away.stats().refused.load(Ordering::Relaxed), 1);

    let double = Double::start(|_| Say::Nothing).await;
    let narrow = remote(&double.url, "[remote.limit]\ninitial = 1\nmin = 1\nmax = 1\n", true);
    tokio::select! {
        biased;
        _ = narrow.execute(job(&[1.0], LONG)) => panic!("nobody answers"),
        second = narrow.execute(job(&[1.0], LONG)) => assert_eq!(second.unwrap_err().code, ErrorCode::Overloaded),
    }
}

#[tokio::test]
async fn what_json_cannot_carry_is_the_callers_mistake() {
    let double = Double::start(add_one).await;
    let error = remote(&double.url, "", false).execute(job(&[f32::NAN], LONG)).await.unwrap_err();
    assert_eq!((error.code, double.count()), (ErrorCode::InvalidArgument, 0));
}
