//! `weir doctor` over the real binary: a host that is fine, a Redis that is away, there, and strict.

use std::{fs, net::TcpListener, path::Path};

use serde_json::Value;
use tempfile::TempDir;
use weir_testbed::RedisServer;

use crate::server::{Server, root, weir};

/// A configuration in a folder of its own.
struct Place(TempDir);

impl Place {
    fn new(more: &str) -> Self {
        let place = Self(TempDir::new().unwrap());
        let models = root().join("examples/models/housing");
        let listen = "listen = \"127.0.0.1:0\"";
        let text = format!("[server]\nmodels = [{models:?}]\n{listen}\n{more}");
        fs::write(place.path().join("weir.toml"), text).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that its owner alone may read.
    fn secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = self.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// Whether the doctor found no failure, and what it found.
    fn examine(&self, more: &[&str]) -> (bool, Vec<Value>) {
        let arguments = ["--json", "doctor", "--config", "weir.toml"];
        let done = weir(self.path()).args(arguments).args(more).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(report["ok"], done.status.success(), "{text}");
        (done.status.success(), report["findings"].as_array().unwrap().clone())
    }
}

/// The level and the text of one check.
fn of<'a>(findings: &'a [Value], check: &str) -> (&'a str, &'a str, &'a str) {
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {findings:?}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    (text("level"), text("found"), text("fix"))
}

#[test]
fn a_host_that_is_fine_is_told_so_for_people_too() {
    let place = Place::new("");
    let (ok, findings) = place.examine(&[]);
    assert!(ok, "{findings:?}");
    assert_eq!(of(&findings, "models").0, "ok");
    assert!(of(&findings, "models").1.contains("housing"), "{findings:?}");
    for check in ["configuration", "descriptors", "cores", "memory", "clock", "ports", "user"] {
        assert_ne!(of(&findings, check).0, "fail", "{check}");
    }
    let done = weir(place.path()).args(["doctor", "--config", "weir.toml"]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("ok    configuration") && text.trim_end().ends_with("0 failures"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn every_problem_is_told_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new("[state]\nstore = \"embedded\"\npath = \"no/such/state.redb\"\n");
    let listen = taken.local_addr().unwrap().to_string();
    let (ok, findings) = place.examine(&["--listen", &listen, "nowhere"]);
    assert!(!ok);
    for check in ["ports", "state store", "models"] {
        let (level, found, fix) = of(&findings, check);
        assert!(level == "fail" && !fix.is_empty(), "{check}: {found}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_told_and_nothing_is_compared_with_defaults() {
    let place = Place::new("");
    // With defaults, a port that is taken and models that are none would be told.
    fs::write(
        place.path().join("weir.toml"),
        "[server]\nthread = 1\nlisten = 7\n[cache]\nbudget = \"much\"\n",
    )
    .unwrap();
    let (ok, findings) = place.examine(&[]);
    assert!(!ok);
    let told: Vec<_> = findings.iter().filter(|finding| finding["check"] == "configuration").collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for (finding, part) in told.iter().zip(["did you mean `threads`", "listen", "budget"]) {
        let found = finding["found"].as_str().unwrap();
        assert!(
            finding["level"] == "fail" && found.starts_with("weir.toml:") && found.contains(part),
            "{found}"
        );
    }
    for check in ["clock", "user"] {
        assert_ne!(of(&findings, check).0, "fail", "the host is looked at all the same");
    }
    for check in ["descriptors", "cores", "memory", "ports", "models", "files", "redis"] {
        let (level, found, _) = of(&findings, check);
        assert!(level == "skip" && found.contains("depends on the configuration"), "{check}: {found}");
    }
    let done = weir(place.path()).args(["doctor", "--config", "weir.toml"]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text.contains("skip  ports") && text.trim_end().ends_with("3 failures, 7 skipped"), "{text}");
}

#[test]
fn archives_are_models_and_what_they_need_is_looked_at() {
    let place = Place::new("");
    let digest = "a".repeat(64);
    let head = "[server]\nlisten = \"127.0.0.1:0\"\n";
    let write = |more: &str| {
        let list = format!(
            "[[archive]]\nurl = \"https://models.example/housing-1.tar.gz\"\nsha256 = \"{digest}\"\n"
        );
        fs::write(place.path().join("weir.toml"), format!("{head}{more}{list}token_file = \"token\"\n"))
            .unwrap();
    };
    write("[fetch]\ncache = \"made/later\"\nmax_archive = \"1KiB\"\n");
    place.secret("token", "canary\n");
    let (ok, findings) = place.examine(&[]);
    assert!(ok && of(&findings, "archives").1.contains("housing-1"), "{findings:?}");
    assert_eq!(of(&findings, "archive cache").0, "ok");
    assert!(of(&findings, "secrets").1.starts_with("archive[0].token_file"), "{findings:?}");
    assert!(!place.path().join("made").exists(), "nothing is made");

    fs::write(place.path().join("file"), "").unwrap();
    write(
        "[fetch]\ncache = \"file/cache\"\nca_file = \"no-ca\"\n[s3]\naccess_key_file = \"no-id\"\nsecret_key_file = \"no-key\"\n\
         [telemetry]\nheaders_file = \"no-headers\"\n",
    );
    let (ok, findings) = place.examine(&[]);
    let text = format!("{findings:?}");
    assert!(!ok);
    for key in ["fetch.ca_file", "s3.access_key_file", "s3.secret_key_file", "telemetry.headers_file"] {
        assert!(text.contains(&format!("{key}: ")), "{key}: {text}");
    }
    assert!(!text.contains("canary") && !text.contains("nothing to serve"), "{text}");
}

#[test]
fn a_server_that_runs_is_not_in_its_own_way() {
    let place = Place::new("");
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    let (ok, findings) = place.examine(&["--listen", &server.address.to_string()]);
    assert!(ok && of(&findings, "ports").1.contains("a Weir"), "{findings:?}");
    server.stop();
}

#[test]
fn a_redis_that_is_there_is_measured_and_compared() {
    let redis = RedisServer::start();
    let place = Place::new(&format!("[redis]\nurl = \"{}\"\ntimeout = \"5s\"\n", redis.url()));
    let (ok, findings) = place.examine(&[]);
    assert!(ok, "{findings:?}");
    assert!(of(&findings, "redis").1.contains("answers in"), "{findings:?}");
    assert!(of(&findings, "redis version").1.starts_with(['6', '7', '8']), "{findings:?}");
    assert_eq!(of(&findings, "redis rights").0, "ok");
    let (level, found, _) = of(&findings, "redis clock");
    assert!(level == "ok" && found.contains("s from ours"), "one machine has one clock: {found}");
}

#[test]
fn a_redis_that_is_away_is_told_by_what_it_is_for() {
    let mut redis = RedisServer::start();
    let table = format!("[redis]\nurl = \"{}\"\n", redis.url());
    redis.kill();
    let (ok, findings) = Place::new(&table).examine(&[]);
    assert!(ok && of(&findings, "redis").0 == "warn", "a cache can be missed: {findings:?}");
    let (ok, findings) = Place::new(&format!("{table}[state]\nstore = \"redis\"\n")).examine(&[]);
    assert!(!ok && of(&findings, "redis").0 == "fail", "state cannot: {findings:?}");
}

#[test]
fn what_a_user_of_the_redis_lacks_is_named_with_the_command_that_grants_it() {
    let redis = RedisServer::start();
    let rights = ["on", ">canary-secret", "~weir:*", "+ping", "+get", "+set", "+unlink", "+eval", "+scan"];
    let _: String = redis.ask(&[&["ACL", "SETUSER", "weir"][..], &rights].concat());
    let table = format!(
        "[redis]\nurl = \"{}\"\nusername = \"weir\"\npassword_file = \"password\"\ntimeout = \"5s\"\n",
        redis.url()
    );
    let place = Place::new(&table);
    place.secret("password", "canary-secret\n");
    let (ok, findings) = place.examine(&[]);
    let (level, found, fix) = of(&findings, "redis rights");
    assert!(!ok && level == "fail" && found.contains("getrange, evalsha"), "{findings:?}");
    assert_eq!(of(&findings, "redis version").0, "ok", "every user may ask for the version: {findings:?}");
    assert!(of(&findings, "redis clock").1.contains("+time"), "{findings:?}");
    // The fix does what it says.
    let grant: Vec<&str> = fix.split(' ').collect();
    let _: String = redis.ask(&grant);
    let (ok, findings) = place.examine(&[]);
    assert!(ok && of(&findings, "redis rights").0 == "ok", "{findings:?}");
    assert!(!format!("{findings:?}").contains("canary"), "no secret is shown");

    fs::remove_file(place.path().join("password")).unwrap();
    place.secret("password", "another\n");
    let (ok, findings) = place.examine(&[]);
    assert!(!ok && of(&findings, "redis").1.contains("login"), "{findings:?}");
}
