//! `--once`: what happened within one interval, as text or JSON.

use serde_json::{Value, json};

use super::{cells, figures::ModelRates, histogram::Quantile, replica::Replica, state::State};
use crate::output::Output;

/// Writes the state.
pub(super) fn write(state: &State, output: &Output) {
    if output.is_json() {
        output.json(&document(state));
        return;
    }
    let row = |cells: &[String]| cells.to_vec();
    let servers: Vec<_> = state.replicas.iter().map(|replica| row(&cells::server(replica))).collect();
    output.table(&cells::SERVER_HEADER, &servers);
    for replica in &state.replicas {
        if let Some(why) = &replica.away {
            output.line(&format!("  {why}"));
        }
    }
    if state.known() > 0 {
        output.line("");
        let mut models: Vec<_> = state.rows().iter().map(|model| row(&cells::model(model))).collect();
        models.push(row(&cells::total(state)));
        output.table(&cells::MODEL_HEADER, &models);
    }
}

fn document(state: &State) -> Value {
    let together = state.together();
    let models = together.models.iter().filter(|(name, _)| !name.is_empty());
    let models: serde_json::Map<_, _> = models.map(|(name, rates)| (name.clone(), model(rates))).collect();
    json!({
        "servers": state.replicas.iter().map(server).collect::<Vec<_>>(),
        "models": models,
        "total": model(&together.total()),
    })
}

fn server(replica: &Replica) -> Value {
    let Some((_, figures)) = &replica.last else {
        return json!({"url": replica.url, "away": replica.away});
    };
    let rates = replica.rates.as_ref();
    json!({
        "url": replica.url,
        "version": figures.server.version,
        "ready": figures.server.ready,
        "requests_per_second": rates.map(|rates| rates.total().counts.requests),
        "in_flight": figures.server.in_flight,
        "connections": figures.server.connections,
        "cores": rates.map(|rates| rates.cores),
        "resident_bytes": figures.server.resident_bytes,
    })
}

/// A quantile that lies beyond the last bound, or below the first, says so instead of a number
/// that it is not.
fn model(rates: &ModelRates) -> Value {
    let quantile = |q| match rates.latency.quantile(q) {
        None => Value::Null,
        Some(Quantile::Near(seconds)) => json!({"seconds": seconds}),
        Some(Quantile::AtMost(seconds)) => json!({"at_most_seconds": seconds}),
        Some(Quantile::MoreThan(seconds)) => json!({"more_than_seconds": seconds}),
    };
    json!({
        "requests_per_second": rates.counts.requests,
        "error_share": rates.error_share(),
        "p50": quantile(0.5),
        "p99": quantile(0.99),
        "queue": rates.queue,
        "refused_per_second": rates.counts.refused,
        "rows_per_execution": rates.batch_rows(),
        "cache_hit_share": rates.hit_share(),
        "not_ready_on": rates.away,
    })
}
