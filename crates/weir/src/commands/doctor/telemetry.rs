//! The receiver of telemetry: whether something listens there.

use std::{io, time::Duration};

use http::Uri;
use tokio::{net::TcpStream, time::timeout};

use super::finding::Finding;
use crate::telemetry::TelemetryConfig;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects to the receiver, if there is one, and says nothing.
pub(super) async fn look(config: &TelemetryConfig) -> Option<Finding> {
    // What is no address is told with the configuration.
    let (host, port) = place(config.endpoint.as_deref()?)?;
    let connected = timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    Some(check(&format!("{host}:{port}"), connected.map(drop)))
}

/// Host and port of an endpoint.
fn place(endpoint: &str) -> Option<(String, u16)> {
    let uri: Uri = endpoint.parse().ok()?;
    let port = match uri.scheme_str()? {
        "https" => 443,
        _ => 80,
    };
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    Some((host, uri.port_u16().unwrap_or(port)))
}

fn check(place: &str, connected: io::Result<()>) -> Finding {
    match connected {
        Ok(()) => Finding::ok("telemetry", format!("something listens at {place}")),
        Err(error) => Finding::warn(
            "telemetry",
            format!(
                "{place} cannot be reached: {error}; Weir serves without it, and what it would send is lost"
            ),
            "start the receiver, or check telemetry.endpoint and the network policy between here and there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn endpoints_are_hosts_and_ports() {
        for (endpoint, host, port) in [
            ("http://localhost:4318", "localhost", 4318),
            ("https://collector.monitoring/", "collector.monitoring", 443),
            ("http://[::1]:4317", "::1", 4317),
            ("http://a", "a", 80),
        ] {
            assert_eq!(place(endpoint), Some((host.to_owned(), port)), "{endpoint}");
        }
        assert_eq!(place("localhost"), None);
    }

    #[tokio::test]
    async fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let config = |endpoint| TelemetryConfig { endpoint, ..TelemetryConfig::default() };
        let there = config(Some(format!("http://{at}")));
        assert_eq!(look(&there).await.unwrap().level, Level::Ok);
        drop(listener);
        let away = look(&there).await.unwrap();
        assert!(away.level == Level::Warn && away.found.contains(&at.to_string()), "{away:?}");
        assert_eq!(look(&config(None)).await, None);
    }
}
