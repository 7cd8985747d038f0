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
    let all = ["configuration", "cores", "memory", "clock", "ports", "root filesystem", "place", "routes"];
    for check in all {
        assert_eq!(of(&findings, check).0, "ok", "{check}: {findings:?}");
    }
    // These two are as whoever runs the test has it.
    let root = rustix::process::geteuid().is_root();
    assert_eq!(of(&findings, "user").0, if root { "warn" } else { "ok" });
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let enough = files.is_none_or(|files| files >= 10_064);
    assert_eq!(of(&findings, "descriptors").0, if enough { "ok" } else { "warn" });
    assert_eq!(findings.len(), all.len() + 3, "nothing else is looked at, and nothing twice: {findings:?}");
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
    for check in ["configuration", "ports", "state store", "models"] {
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
    for check in
        ["descriptors", "cores", "memory", "ports", "models", "routes", "files", "redis", "telemetry"]
    {
        let (level, found, _) = of(&findings, check);
        assert!(level == "skip" && found.contains("depends on the configuration"), "{check}: {found}");
    }
    let done = weir(place.path()).args(["doctor", "--config", "weir.toml"]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text.contains("skip  ports") && text.trim_end().ends_with("3 failures, 9 skipped"), "{text}");
}

#[test]
fn what_models_take_is_measured_and_not_read_from_a_directory() {
    let (ok, findings) = Place::new("").examine(&[]);
    let (level, found, _) = of(&findings, "memory");
    assert!(ok && level == "ok" && found.contains("as measured while they loaded"), "{found}");
    // In words such as 3.1 MiB, not the 218.3 KiB of the file.
    let measured = found.split(' ').take(2).collect::<Vec<_>>().join(" ");
    assert!(measured.ends_with("MiB") && !measured.starts_with("0.0"), "{found}");
    assert_eq!(of(&findings, "routes").0, "ok");
}

/// What a golden row says and what a route names is checked as `serve` checks it.
#[test]
fn models_and_routes_are_examined_as_a_start_would() {
    let place = Place::new("");
    let copied = place.path().join("housing");
    fs::create_dir(&copied).unwrap();
    for name in ["model.toml", "model.onnx"] {
        fs::copy(root().join("examples/models/housing").join(name), copied.join(name)).unwrap();
    }
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let wrong =
        regex::Regex::new(r#""prediction": [0-9.]+"#).unwrap().replace(&samples, r#""prediction": 1e9"#);
    fs::write(copied.join("samples.jsonl"), wrong.as_ref()).unwrap();
    let (ok, findings) = place.examine(&["housing"]);
    assert!(!ok && of(&findings, "models").0 == "fail", "{findings:?}");
    let route = "[[route]]\npath = \"/a\"\nmodel = \"housing\"\nresponse = { price = \"prise\" }\n";
    let (ok, findings) = Place::new(route).examine(&[]);
    let (level, found, _) = of(&findings, "routes");
    assert!(!ok && level == "fail" && found.contains("weir.toml:4:1"), "{found}");
    assert_eq!((of(&findings, "configuration").0, of(&findings, "models").0), ("ok", "ok"));
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
    let (level, found, fix) = of(&findings, "archives");
    assert!(!ok && level == "fail" && found.contains("housing-1.tar.gz cannot be had"), "{findings:?}");
    assert!(fix.contains("url"), "{fix}");
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
fn stores_are_asked_and_nothing_is_brought() {
    let place = Place::new("");
    fs::write(place.path().join("there.tar"), "an archive").unwrap();
    let folder = place.path().display();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let archives = [
        (format!("file:{folder}/there.tar"), "a", "ok", "can be had"),
        (format!("file:{folder}/gone.tar"), "b", "fail", "gone.tar"),
        (format!("http://{away}/a.tar"), "c", "fail", "refused"),
        ("s3://models/a.tar".to_owned(), "d", "fail", "AWS_ACCESS_KEY_ID"),
    ];
    let list: String = archives
        .iter()
        .map(|(url, digit, ..)| format!("[[archive]]\nurl = \"{url}\"\nsha256 = \"{}\"\n", digit.repeat(64)))
        .collect();
    let head = format!("[fetch]\ncache = \"cache\"\n[s3]\nendpoint = \"http://{away}\"\n");
    let text = fs::read_to_string(place.path().join("weir.toml")).unwrap() + &head + &list;
    let telemetry = format!("[telemetry]\nendpoint = \"http://{away}\"\n");
    fs::write(place.path().join("weir.toml"), text + &telemetry).unwrap();
    let (ok, findings) = place.examine(&[]);
    assert!(!ok);
    let found: Vec<_> = findings.iter().filter(|finding| finding["check"] == "archives").collect();
    assert_eq!(found.len(), archives.len(), "{found:?}");
    for ((_, _, level, text), finding) in archives.iter().zip(found) {
        assert_eq!(finding["level"], *level, "{finding}");
        assert!(finding["found"].as_str().unwrap().contains(text), "{finding}");
    }
    assert_eq!(of(&findings, "telemetry").0, "warn", "{findings:?}");
    assert!(!place.path().join("cache").exists(), "nothing is brought");
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
