//! What is wrong before anything is served: told whole, in the same words by all who look.

use std::{fs, net::TcpListener};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    configuration::{file, run},
    server::root,
};

/// What is wrong in one place hides nothing that is wrong elsewhere, and who checks is as strict as who serves.
#[test]
fn serve_check_and_doctor_tell_the_same_and_all_of_it() {
    let folder = TempDir::new().unwrap();
    let models = root().join("examples/models/housing");
    let text = format!(
        r#"[server]
models = [{models:?}, "nowhere"]
listen = "127.0.0.1:8765"
metrics_listen = "0.0.0.0:8765"
grpc_listen = "127.0.0.1:8765"
max_connections = 0
[redis]
url = "redis://127.0.0.1:1"
password_file = "no-password"
[state]
store = "embedded"
path = "no/such/state.redb"
[fetch]
ca_file = "no-ca"
[s3]
access_key_file = "half"
[[archive]]
url = "s3://models/a.tar.gz"
sha256 = "xyz"
[[view]]
name = "empty"
entity = "id"
[[route]]
path = "/a"
model = "housing"
response = {{ prediction = "predicton" }}
[[route]]
path = "/b"
model = "huosing"
response = {{ prediction = "prediction" }}
"#
    );
    fs::write(folder.path().join("weir.toml"), text).unwrap();
    let variables = [("RUST_LOG", "canary=x=y")];
    for command in ["serve", "config check", "doctor"] {
        let arguments: Vec<_> = command.split(' ').chain(["--config", "weir.toml"]).collect();
        let (ok, out, told) = run(folder.path(), &arguments, &variables);
        assert!(!ok);
        for wrong in [
            "weir.toml:4:18: `server.metrics_listen` must differ from `server.listen`",
            "weir.toml:5:15: `server.grpc_listen` must differ from `server.listen`",
            "weir.toml:6:19: `server.max_connections`",
            "environment variable RUST_LOG: cannot be read",
            "weir.toml:9:17: `redis.password_file`",
            "weir.toml:12:8: `state.path`",
            "weir.toml:14:11: `fetch.ca_file`",
            "weir.toml:16:19: `s3.access_key_file`",
            "weir.toml:19:10: `archive[0].sha256`",
            "weir.toml:20:1: ",
            "weir.toml:23:1: ",
            "weir.toml:27:1: ",
            "nowhere",
        ] {
            assert!(format!("{out}{told}").contains(wrong), "{command}: {wrong}: {out}{told}");
        }
    }
    assert!(!folder.path().join("no").exists(), "nothing was made");
}

#[test]
fn an_address_in_use_is_told_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    for (key, flag) in
        [("listen", "--listen"), ("metrics_listen", ""), ("grpc_listen", ""), ("admin_listen", "--admin")]
    {
        let free = if key == "listen" { "" } else { "listen = \"127.0.0.1:0\"\n" };
        fs::write(folder.path().join("weir.toml"), file(&format!("{free}{key} = \"{at}\""), "a")).unwrap();
        let (ok, _, told) = run(folder.path(), &["serve", "--config", "weir.toml"], &[]);
        assert!(!ok && told.contains(&format!("{at} is in use")), "{told}");
        assert!(told.contains(&format!("`server.{key}`")) && told.contains(flag), "{told}");
        assert_eq!(told.contains("with --"), !flag.is_empty(), "{told}");
    }
}

#[test]
fn programs_are_told_what_is_wrong_as_people_are() {
    let folder = TempDir::new().unwrap();
    let check = |variables: &[(&str, &str)]| {
        let (ok, out, told) =
            run(folder.path(), &["--json", "config", "check", "--config", "weir.toml"], variables);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{told}"));
        assert_eq!(report["ok"], ok);
        report
    };
    fs::write(folder.path().join("weir.toml"), "[server]\nthread = 1\n[log]\nlevels = 1\n").unwrap();
    let problems = check(&[])["problems"].as_array().unwrap().clone();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].as_str().unwrap().starts_with("weir.toml:2:1: unknown key `thread`"), "{problems:?}");
    fs::write(folder.path().join("weir.toml"), file("", "a")).unwrap();
    let report = check(&[("WEIR_REDIS_PASSWORD", "canary")]);
    let warnings = report["warnings"].as_array().unwrap();
    assert!(report["ok"] == true && warnings.len() == 1, "{report}");
    assert!(warnings[0].as_str().unwrap().contains("WEIR_REDIS__PASSWORD_FILE"), "{report}");
    assert!(!report.to_string().contains("canary"), "{report}");

    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ok, out, _) = run(folder.path(), &["--json", "health", "--url", &format!("http://{away}")], &[]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(!ok && report["ready"] == false && report["error"].as_str().is_some(), "{report}");
}

#[test]
fn a_variable_says_where_a_value_is_from_also_where_its_name_is_none_of_ours() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("weir.toml"), file("", "a")).unwrap();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let arguments = ["--json", "config", "show", "--origin", "--config", "weir.toml"];
    let (ok, out, told) = run(folder.path(), &arguments, &variables);
    assert!(ok, "{told}");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let row = rows.iter().find(|row| row["key"] == "telemetry.endpoint").unwrap();
    assert_eq!(row["origin"], json!({"kind": "environment", "name": "OTEL_EXPORTER_OTLP_ENDPOINT"}));
}

#[test]
fn problems_of_routes_come_in_the_order_of_the_file_with_the_place_of_the_other() {
    let folder = TempDir::new().unwrap();
    let route = |path: &str, model: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nmodel = \"{model}\"\nresponse = {{ prediction = \"prediction\" }}\n"
        )
    };
    let text = file("", "a") + &route("/b", "huosing") + &route("/a", "housing") + &route("/d//", "housing");
    fs::write(folder.path().join("weir.toml"), text).unwrap();
    let (ok, _, told) = run(folder.path(), &["config", "check", "--config", "weir.toml"], &[]);
    assert!(!ok);
    let lines: Vec<&str> = told.lines().map(|line| line.trim_start_matches("error: ")).collect();
    let starts = ["weir.toml:8:1: [[route]] 2", "weir.toml:12:1: [[route]] 3", "weir.toml:16:1: [[route]] 4"];
    assert_eq!(lines.len(), starts.len(), "{told}");
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{told}");
    assert!(lines[1].ends_with("(the other is at weir.toml:4:1)"), "{told}");
}

#[test]
fn the_examples_of_environments_work() {
    let folder = root().join("examples/environments");
    let secret = TempDir::new().unwrap();
    fs::write(secret.path().join("password"), "geheim").unwrap();
    let secret = secret.path().join("password").to_string_lossy().into_owned();
    for (environment, routes) in [("dev", 2), ("staging", 1), ("prod", 1)] {
        let over = format!("{environment}.toml");
        let arguments = ["--json", "config", "check", "--config", "weir.toml", "--config", &over];
        let variables: &[_] =
            if environment == "prod" { &[("WEIR_REDIS__PASSWORD_FILE", secret.as_str())] } else { &[] };
        let (ok, out, told) = run(&folder, &arguments, variables);
        assert!(ok, "{environment}: {told}");
        let out: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&out["models"], &out["routes"]), (&1.into(), &routes.into()), "{environment}");
    }
}
