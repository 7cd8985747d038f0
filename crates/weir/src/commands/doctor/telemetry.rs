//! The receiver of telemetry: whether it is there, trusted, and takes what would be sent.

use std::sync::Arc;

use weir_config::Places;
use weir_types::Clock;

use super::finding::Finding;
use crate::{environment, settings::Settings, telemetry::probe};

const FIX: &str = "start the receiver, or check telemetry.endpoint, telemetry.protocol (`http` is port 4318 as a \
                   rule, `grpc` 4317), the key in telemetry.headers_file, and the network policy between here \
                   and there";

/// Sends the receiver of the settings an empty message of each signal, and says what it answers. Nothing
/// where nothing would be sent, or where its files are wrong, which is told by itself.
pub(super) async fn look(settings: &Settings, places: &Places, clock: Arc<dyn Clock>) -> Vec<Finding> {
    let config = &settings.telemetry;
    if !config.wrong_files(places).is_empty() {
        return Vec::new();
    }
    let endpoint = config.endpoint.clone().unwrap_or_default();
    let asked = probe(config, environment::otlp_headers().as_deref(), clock).await;
    asked.into_iter().map(|(signal, answer)| check(&endpoint, signal, answer)).collect()
}

fn check(endpoint: &str, signal: &str, answer: Result<(), String>) -> Finding {
    match answer {
        Ok(()) => Finding::ok("telemetry", format!("{endpoint} takes {signal}")),
        // Nobody waits for it: requests are answered all the same.
        Err(why) => Finding::warn(
            "telemetry",
            format!("{endpoint} takes no {signal}; Weir serves, and drops them: {why}"),
            FIX,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn a_receiver_that_is_away_hurts_and_stops_nothing() {
        assert_eq!(check("http://a:4318", "traces", Ok(())).level, Level::Ok);
        let away = check("http://a:4318", "metrics", Err("refused".into()));
        assert_eq!(away.level, Level::Warn);
        assert!(away.found.contains("http://a:4318 takes no metrics") && away.found.contains("refused"));
        assert!(away.fix.contains("telemetry.endpoint"));
    }
}
