//! Figures as people read them, the same on the screen and in plain text. What a server says of itself
//! is somebody else's word: no control character of it reaches the terminal.

use weir_clients::plain;

use super::{
    figures::ModelRates,
    histogram::Quantile,
    replica::Replica,
    state::{Row, State},
};
use crate::output::size;

/// The columns of models.
pub(super) const MODEL_HEADER: [&str; 9] =
    ["model", "req/s", "err", "p50", "p99", "queue", "refused/s", "rows/run", "cache"];
/// The columns of servers.
pub(super) const SERVER_HEADER: [&str; 8] =
    ["server", "state", "req/s", "in flight", "conns", "cores", "memory", "version"];
/// What stands where nothing is known.
const NOTHING: &str = "–";

/// A row of models.
pub(super) fn model(row: &Row) -> [String; 9] {
    let rates = &row.rates;
    let name =
        if rates.away > 0 { format!("{} (away on {})", row.name, rates.away) } else { row.name.clone() };
    let [requests, errors, p50, p99, queue, refused, batch, cache] = figures(rates);
    [plain(&name), requests, errors, p50, p99, queue, refused, batch, cache]
}

/// The row of all models together.
pub(super) fn total(state: &State) -> [String; 9] {
    let [requests, errors, p50, p99, queue, refused, batch, cache] = figures(&state.together().total());
    ["all models".to_owned(), requests, errors, p50, p99, queue, refused, batch, cache]
}

fn figures(rates: &ModelRates) -> [String; 8] {
    [
        rate(rates.counts.requests),
        rates.error_share().map_or(NOTHING.into(), percent),
        quantile(rates, 0.5),
        quantile(rates, 0.99),
        format!("{:.0}", rates.queue),
        rate(rates.counts.refused),
        rates.batch_rows().map_or(NOTHING.into(), |rows| format!("{rows:.1}")),
        rates.hit_share().map_or(NOTHING.into(), percent),
    ]
}

/// A row of servers.
pub(super) fn server(replica: &Replica) -> [String; 8] {
    let nothing = || NOTHING.to_owned();
    let Some((_, figures)) = &replica.last else {
        let state = if replica.away.is_some() { "away" } else { "…" };
        let [a, b, c, d, e, f] = std::array::from_fn(|_| nothing());
        return [replica.url.clone(), state.into(), a, b, c, d, e, f];
    };
    let rates = replica.rates.as_ref();
    [
        replica.url.clone(),
        match figures.server.ready {
            Some(false) => "not ready".into(),
            Some(true) => "ready".into(),
            None => "up".into(),
        },
        rates.map_or_else(nothing, |r| rate(r.total().counts.requests)),
        format!("{:.0}", figures.server.in_flight),
        format!("{:.0}", figures.server.connections),
        rates.map_or_else(nothing, |r| format!("{:.2}", r.cores)),
        size(figures.server.resident_bytes as u64),
        plain(&figures.server.version),
    ]
}

/// Events a second.
pub(super) fn rate(a_second: f64) -> String {
    match a_second {
        0.0 => "0".into(),
        r if r < 10.0 => format!("{r:.1}"),
        r if r < 100_000.0 => format!("{r:.0}"),
        r => format!("{:.0}k", r / 1e3),
    }
}

/// A share; one that is not nothing does not look like it.
fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p == 0.0 || p == 100.0 => format!("{p:.0}%"),
        p if p < 0.1 => "<0.1%".into(),
        p if p > 99.9 => ">99.9%".into(),
        p => format!("{p:.1}%"),
    }
}

fn quantile(rates: &ModelRates, q: f64) -> String {
    match rates.latency.quantile(q) {
        None => NOTHING.into(),
        Some(Quantile::AtMost(bound)) => format!("≤{}", duration(bound)),
        Some(Quantile::Near(value)) => duration(value),
        Some(Quantile::MoreThan(bound)) => format!(">{}", duration(bound)),
    }
}

/// What a quantile is sorted by.
pub(super) fn seconds(quantile: Quantile) -> f64 {
    match quantile {
        Quantile::AtMost(bound) | Quantile::Near(bound) => bound,
        // Before one that lies within the last bucket.
        Quantile::MoreThan(bound) => bound * 2.0,
    }
}

/// Two or three digits that count.
pub(super) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_never_look_like_what_they_are_not() {
        assert_eq!([0.0, 0.04, 9.94, 99.6, 120_000.0].map(rate), ["0", "0.0", "9.9", "100", "120k"]);
        assert_eq!(
            [0.0, 1e-6, 0.125, 0.9999999, 1.0].map(percent),
            ["0%", "<0.1%", "12.5%", ">99.9%", "100%"]
        );
        assert_eq!([25e-6, 1.5e-3, 0.25, 12.0].map(duration), ["25µs", "1.5ms", "250ms", "12s"]);
    }
}
