//! A client that goes away before its turn costs no prediction.

use crate::{
    client::{Connection, request},
    drain::serve,
    metrics::{await_metric, metric},
    server::require_sentiment,
};

const EXECUTIONS: &str = r#"weir_executions_total{model="sentiment",version="1"}"#;
const ABANDONED: &str = r#"weir_abandoned_total{model="sentiment",version="1"}"#;

#[test]
fn who_hangs_up_in_the_queue_is_not_computed() {
    const GONE: usize = 20;
    require_sentiment();
    let (_place, server) = serve(&[".cache/sentiment"], "threads = 1");
    let before = metric(server.address, EXECUTIONS);
    let json = [("Content-Type".to_owned(), "application/json".to_owned())];
    let post = |texts: usize| {
        let row = r#"{"text":"a sentence of some length that keeps the only thread of the model busy for a while"}"#;
        let body = format!("{{\"instances\":[{}]}}", vec![row; texts].join(","));
        let mut connection = Connection::open(server.address).unwrap();
        let bytes = request("POST", "/v1/models/sentiment:predict", &json, Some(body.as_bytes()));
        connection.send(&bytes).unwrap();
        connection
    };
    let mut busy = post(200);
    await_metric(server.address, EXECUTIONS, |n| n > before);
    let waiting: Vec<_> = (0..GONE).map(|_| post(1)).collect();
    // The one that runs, the ones that wait, and the scrape.
    await_metric(server.address, "weir_requests_in_flight", |n| n >= (GONE + 2) as f64);
    drop(waiting);
    await_metric(server.address, "weir_requests_in_flight", |n| n <= 2.0);
    assert_eq!(metric(server.address, EXECUTIONS), before + 1.0, "they left before the model was free");
    let mut last = post(1);
    assert_eq!(busy.receive(false).unwrap().status, 200);
    assert_eq!(last.receive(false).unwrap().status, 200, "the next client is served");
    assert_eq!(metric(server.address, ABANDONED), GONE as f64);
    assert_eq!(metric(server.address, EXECUTIONS), before + 2.0);
    server.stop();
}
