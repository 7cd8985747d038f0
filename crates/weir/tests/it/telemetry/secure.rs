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
use crate::{
    metrics::metric,
    server::{Server, weir},
};

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

/// The same is told before serving, where settings are checked, and by the doctor, with what to do.
#[test]
fn files_that_are_wrong_are_told_all_at_once_with_their_places_and_what_to_do() {
    let place = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
    let configure = |ca: &str, headers: &str| {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nmodels = [{:?}]\n[telemetry]\nendpoint = \"https://localhost:1\"\n\
             ca_file = {ca:?}\nheaders_file = {headers:?}\n",
            housing()
        );
        write("weir.toml", &text);
    };
    let run = |arguments: &[&str]| {
        let output = weir(place.path()).args(arguments).args(["--config", "weir.toml"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), told.into_owned())
    };
    write("malformed", "authorization Bearer hush\nx-scope: 7\ncontent-length: 3\n");
    write("empty.pem", "");
    for (ca, headers, expected) in [
        ("nowhere.pem", "nowhere", &["nowhere.pem cannot be read", "nowhere cannot be read", "fsGroup"][..]),
        (
            "empty.pem",
            "malformed",
            &[
                "holds no certificate",
                "malformed:1: this is no header",
                "malformed:3: `content-length`",
                "name a PEM file",
                "write one `name: value` a line",
                "leave it out",
            ],
        ),
    ] {
        configure(ca, headers);
        for command in [&["config", "check"][..], &["serve"], &["doctor"]] {
            let (well, told) = run(command);
            assert!(!well, "{command:?}: {told}");
            for part in expected.iter().chain(&["telemetry.ca_file", "telemetry.headers_file"]) {
                assert!(told.contains(part), "{command:?}: no {part} in {told}");
            }
            let places = ["weir.toml:6:", "weir.toml:7:"].iter().all(|line| told.contains(line));
            assert!(places || command == ["doctor"], "{command:?}: {told}");
            assert!(!told.contains("hush"), "{told}");
        }
    }
    write("good", "authorization: Bearer hush\n");
    let made = Certificates::new(place.path());
    configure(made.ca.to_str().unwrap(), "good");
    for command in [&["config", "check"][..], &["doctor"]] {
        let (well, told) = run(command);
        assert!(well && !told.contains("hush"), "{command:?}: {told}");
    }
    let (_, told) = run(&["doctor"]);
    assert!(
        told.contains("warn  telemetry") && told.contains("https://localhost:1 takes no traces"),
        "{told}"
    );
    let (_, shown) = run(&["config", "show"]);
    assert!(shown.contains("ca_file") && !shown.contains("hush"), "{shown}");
}

#[test]
fn the_doctor_asks_the_receiver() {
    for (protocol, grpc) in PROTOCOLS {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let certificates = Certificates::new(folder.path());
        let receiver = Receiver::secure(grpc, &certificates);
        let stranger = Certificates::new(other.path());
        for (ca, expected) in [
            (&certificates.ca, &["ok    telemetry", "takes traces", "takes metrics"][..]),
            (
                &stranger.ca,
                &["warn  telemetry", "takes no traces", "takes no metrics", "certificate is not trusted"],
            ),
        ] {
            let place = configured(&receiver, protocol, &format!("metrics = true\nca_file = {ca:?}\n"));
            let mut doctor = weir(place.path());
            let output = doctor.args(["doctor", "--listen", "127.0.0.1:0", "--config", "weir.toml"]);
            let output = output.output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{told}");
            for part in expected {
                assert!(told.contains(part), "{protocol}: no {part} in {told}");
            }
        }
        assert_eq!(receiver.messages(), 2, "one a signal, from who trusts it");
    }
}
