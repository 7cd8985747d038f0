//! The environment and flags over a file.

use std::path::Path;

use weir_config::{Key, Loaded, Origin, Override, Source, environment, misspelt, parse_with};

use crate::shape::{Config, Level};

fn variables(pairs: &[(&str, &str)]) -> Vec<Override> {
    environment("WEIR_", pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())))
}

fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Loaded<Config>, Vec<String>> {
    parse_with(Path::new("weir.toml"), text, &variables(pairs))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn the_environment_wins_over_the_file_and_says_so() {
    let text = "log = 'warn'\n[server]\nlisten = 'a:1'\nworkers = 4\n";
    let loaded = load(
        text,
        &[
            ("WEIR_SERVER__LISTEN", "0.0.0.0:80"),
            ("WEIR_SERVER__MODELS", "a, b"),
            ("WEIR_SERVER__TIMEOUT", "2m"),
            ("WEIR_SERVER__CONTROL", "true"),
            ("WEIR_SERVER__ADMIN_LISTEN", "1"),
            ("WEIR_ONNXRUNTIME", "not ours"),
            ("PATH", "a__b"),
        ],
    )
    .unwrap();
    let server = &loaded.value.server;
    assert_eq!(server.listen, "0.0.0.0:80");
    assert_eq!(server.models, ["a", "b"]);
    assert_eq!(server.timeout.to_string(), "2m");
    assert_eq!(server.admin_listen.as_deref(), Some("1"), "a string key takes its text as it is");
    assert!(server.control);
    assert_eq!(
        loaded.places.origin("server.workers"),
        Origin::File { file: Path::new("weir.toml").into(), line: 4, column: 11 }
    );
    assert_eq!(
        loaded.places.origin("server.listen"),
        Origin::Override(Source::Variable("WEIR_SERVER__LISTEN".into()))
    );
    assert_eq!(loaded.places.origin("server.max_body"), Origin::Default);
}

#[test]
fn a_table_that_the_file_does_not_have_is_made() {
    let loaded = load("", &[("WEIR_NAMES__A", "b"), ("WEIR_SERVER__MODELS", "[\"x\"]")]).unwrap();
    assert_eq!(loaded.value.names["a"], "b");
    assert_eq!(loaded.value.server.models, ["x"]);
}

#[test]
fn later_overrides_win() {
    let mut all = variables(&[("WEIR_SERVER__LISTEN", "env:1")]);
    all.push(Override::new(Source::Argument("--listen".into()), "server.listen", "flag:1"));
    all.push(Override::new(Source::Argument("--log".into()), "log", "debug"));
    let loaded: Loaded<Config> = parse_with(Path::new("f"), "", &all).unwrap();
    assert_eq!(loaded.value.server.listen, "flag:1");
    assert_eq!(loaded.value.log, Level::Debug);
    assert_eq!(loaded.places.origin("log"), Origin::Override(Source::Argument("--log".into())));
}

#[test]
fn problems_name_the_variable() {
    let problems = load(
        "[server]\nworkers = 0\n",
        &[
            ("WEIR_SERVER__LISTNE", "x"),
            ("WEIR_SERVER__SAMPLE", "2.5"),
            ("WEIR_SERVER__CONTROL", "yes"),
            ("WEIR_SERVER__TIMEOUT", "10"),
            ("WEIR_ROUTE__0__PATH", "/x"),
            ("WEIR_SERVER__", "x"),
            ("WEIR_LOG__LEVEL", "x"),
            ("WEIR_SERVER__MODELS", "a,b,c,d"),
        ],
    )
    .unwrap_err();
    let expected = "\
weir.toml:2:11: `server.workers` must be at least 1, got 0
environment variable WEIR_LOG__LEVEL: `log.level` is no key that can be set this way
environment variable WEIR_ROUTE__0__PATH: `route.0.path` is no key that can be set this way
environment variable WEIR_SERVER__: unknown key `server.`
environment variable WEIR_SERVER__CONTROL: `server.control` takes true or false, got a string
environment variable WEIR_SERVER__LISTNE: unknown key `server.listne`, did you mean `listen`?
environment variable WEIR_SERVER__MODELS: `server.models` takes at most 3 entries, got 4
environment variable WEIR_SERVER__SAMPLE: `server.sample` must be at most 1, got 2.5
environment variable WEIR_SERVER__TIMEOUT: `server.timeout`: \"10\" is no duration: write a whole number and one of ns, us, ms, s, m, h, d, such as \"10s\"";
    assert_eq!(problems.join("\n"), expected);
}

#[test]
fn an_override_cannot_smuggle_a_second_key() {
    for value in ["1\nlisten = 'evil'", "1 # x", "1\r\nworkers = 3", "{ a = 1 }", ""] {
        let loaded = load("", &[("WEIR_SERVER__WORKERS", value)]);
        assert!(loaded.is_err() || loaded.unwrap().value.server.listen == "127.0.0.1:8000", "{value:?}");
    }
}

#[test]
fn a_name_with_one_underscore_for_two_is_told_and_names_of_others_are_not() {
    let key =
        |path: &str| Key { path: path.to_owned(), takes: String::new(), default: None, about: String::new() };
    let keys = ["server.listen", "server.max_body", "redis.password_file", "route[].path"].map(key);
    let names = [
        "WEIR_SERVER_LISTEN",
        "WEIR_SERVER__LISTEN",
        "WEIR_REDIS_PASSWORD",
        "WEIR_SERVER_MAX_BODY",
        // Kubernetes tells every pod of every service, here of `weir-server` and `weir`.
        "WEIR_SERVER_PORT",
        "WEIR_SERVER_SERVICE_HOST",
        "WEIR_PORT_8000_TCP",
        "WEIR_SERVER",
        "WEIR_SERVER_",
        "WEIR_CONFIG",
        "SERVER_LISTEN",
    ];
    let found = misspelt("WEIR_", names, &keys);
    let expected = [
        ("WEIR_REDIS_PASSWORD", "WEIR_REDIS__PASSWORD_FILE".to_owned()),
        ("WEIR_SERVER_LISTEN", "WEIR_SERVER__LISTEN".to_owned()),
        ("WEIR_SERVER_MAX_BODY", "WEIR_SERVER__MAX_BODY".to_owned()),
    ];
    assert_eq!(found, expected);
}
