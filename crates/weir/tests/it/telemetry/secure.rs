//! Receivers behind TLS, and certificates that are trusted, not trusted, and not there.

use std::{fs, path::Path};

use regex::Regex;
use rustix::process::Signal;
use tempfile::TempDir;
use weir_testbed::Certificates;

use super::{
    DROPPED, ask_often, housing, is_server,
    receiver::{Manner, Receiver},
};
use crate::{metrics::metric, server::Server};

const PROTOCOLS: [(&str, bool); 2] = [("http", false), ("grpc", true)];

/// A folder with a `weir.toml` that sends to `receiver` over TLS.
fn configured(receiver: &Receiver, protocol: &str, more: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    let text = format!(
        "[server]\nmodels = [{:?}]\n[telemetry]\nendpoint = \"https://localhost:{}\"\nprotocol = \"{protocol}\"\n\
         sample = 1.0\ninterval = \"20ms\"\n{more}",
        housing(),
        receiver.address.port()
    );
    fs::write(place.path().join("weir.toml"), text).unwrap();
    place
}

fn start(place: &Path, environment: &[(&str, &str)]) -> Server {
    Server::start_with(place, &["--config".into(), "weir.toml".into()], environment)
}

#[test]
fn a_receiver_is_sent_to_whom_the_named_authority_vouches_for() {
    for (protocol, grpc) in PROTOCOLS {
        let folder = TempDir::new().unwrap();
        let certificates = Certificates::new(folder.path());
        let receiver = Receiver::secure(grpc, &certificates);
        let ca = certificates.ca.to_str().unwrap();
        // By the file beside the configuration, and by the variable, which wins over one that is wrong.
        for (more, variable) in [("ca_file = \"ca.pem\"\n", None), ("ca_file = \"nowhere\"\n", Some(ca))] {
            let place = configured(&receiver, protocol, more);
            fs::copy(&certificates.ca, place.path().join("ca.pem")).unwrap();
            let variable: Vec<_> =
                variable.into_iter().map(|ca| ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca)).collect();
            let before = receiver.all().len();
            let server = start(place.path(), &variable);
            ask_often(&server, 3);
            receiver.spans(before + 3, is_server);
            assert_eq!(metric(server.address, DROPPED), 0.0);
            server.stop();
        }
    }
}

#[test]
fn a_receiver_that_nobody_trusted_vouches_for_gets_nothing_and_the_log_says_what_to_do() {
    let told = Regex::new("does not take it").unwrap();
    for (protocol, grpc) in PROTOCOLS {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let receiver = Receiver::secure(grpc, &Certificates::new(folder.path()));
        let stranger = Certificates::new(other.path());
        let more = format!("ca_file = {:?}\nqueue = 512\nflush_timeout = \"200ms\"\n", stranger.ca);
        for more in [more.as_str(), "queue = 512\nflush_timeout = \"200ms\"\n"] {
            let place = configured(&receiver, protocol, more);
            let mut server = start(place.path(), &[]);
            ask_often(&server, 600);
            let line = server.await_line(&told);
            for part in ["certificate is not trusted", "telemetry.ca_file", "OTEL_EXPORTER_OTLP_CERTIFICATE"]
            {
                assert!(line.contains(part), "no {part} in {line}");
            }
            assert!(metric(server.address, DROPPED) >= 88.0, "those beyond the queue");
            server.signal(Signal::TERM);
            assert!(server.wait().success());
            let log = server.log();
            assert!(log.contains("\"dropped_spans\":600"), "all of them are counted: {log}");
            assert_eq!(told.find_iter(&log).count(), 1, "told once: {log}");
        }
        assert_eq!(receiver.messages(), 0, "{protocol}");
    }
}

#[test]
fn a_receiver_without_tls_is_away_for_who_wants_it() {
    let told = Regex::new("does not take it").unwrap();
    for (protocol, grpc) in PROTOCOLS {
        let receiver = Receiver::start(grpc, Manner::Takes);
        let place = configured(&receiver, protocol, "flush_timeout = \"200ms\"\n");
        let mut server = start(place.path(), &[]);
        ask_often(&server, 1);
        server.await_line(&told);
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert!(server.log().contains("\"dropped_spans\":1"), "{}", server.log());
    }
}
