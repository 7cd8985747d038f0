//! What is read, from where, and what is refused.

use std::{fs, path::Path};

use weir_config::{Loaded, Override};

use super::*;
use crate::args::Sources;

fn written(text: &str) -> anyhow::Result<Loaded<Settings>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    load(&Sources { paths: Vec::new(), config: vec![file.path().to_owned()] }, Vec::new())
}

#[test]
fn settings_that_cannot_work_are_told_with_their_places() {
    let text = "[server]\nmax_connections = 0\nrequest_timeout = \"0s\"\nmax_body_in_flight = \"1KiB\"";
    let error = written(text).unwrap_err().to_string();
    for place in [":2:", ":3:", ":4:"] {
        assert!(error.contains(place), "{error}");
    }
    assert_eq!(error.lines().count(), 3, "{error}");
    // What would be something else than it says, or a loop without a pause.
    for (table, low, high, good) in [
        ("server]\nmax_queue", "0", None, "1"),
        ("state]\nqueue", "0", Some("1048577"), "1"),
        ("idempotency]\nttl", "'0s'", None, "'1ns'"),
        ("cache]\npurge_interval", "'9ms'", None, "'10ms'"),
    ] {
        let of = |value: &str| written(&format!("[{table} = {value}\n")).map_err(|e| e.to_string());
        assert!(of(good).is_ok(), "{table} = {good}");
        for value in [Some(low), high].into_iter().flatten() {
            let error = of(value).unwrap_err();
            assert!(error.contains(":2:") && error.contains("must be "), "{table} = {value}: {error}");
        }
    }
}

#[test]
fn what_is_beyond_every_bound_hides_nothing_and_tells_the_bound() {
    let text = "[server]\nmax_connections = 18446744073709551615\nmax_body = \"99999999999TiB\"\n\
                request_timeout = \"9999999d\"\nthread = 1";
    let error = written(text).unwrap_err().to_string();
    for told in [
        ":2:19: `server.max_connections` is 18446744073709551615; an integer is at most 9223372036854775807",
        ":3:12: `server.max_body`: \"99999999999TiB\" is too large: at most 16777215TiB",
        ":4:19: `server.request_timeout`: \"9999999d\" is too long: at most 213503d",
        ":5:1: unknown key `thread`",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
}

#[test]
fn words_that_may_be_written_are_told_where_the_comment_does_not_have_them() {
    let of = |path: &str| keys().into_iter().find(|key| key.path == path).unwrap().about;
    assert_eq!(of("log.format"), "How to write it. One of `auto`, `pretty`, `json`.");
    assert!(of("server.model_control").ends_with("One of `none`, `explicit`."));
    assert!(!of("state.store").contains("One of"), "it has them");
    let default = weir_config::default_toml::<Settings>();
    assert!(default.contains("# How to write it.\n# One of `auto`, `pretty`, `json`.\nformat"), "{default}");
}

#[test]
fn an_admin_api_for_everybody_is_refused_with_the_way_out() {
    for address in ["0.0.0.0:8001", "[::]:8001", "192.168.1.2:8001"] {
        let error = written(&format!("[server]\nadmin_listen = \"{address}\"")).unwrap_err().to_string();
        assert!(
            error.contains(":2:") && error.contains("127.0.0.1:8001") && error.contains("ssh -L"),
            "{error}"
        );
    }
    for address in ["127.0.0.1:8001", "[::1]:0", "localhost:1"] {
        assert!(written(&format!("[server]\nadmin_listen = \"{address}\"")).is_ok(), "{address}");
    }
    let both = written("[server]\nadmin_listen = \"127.0.0.1:8000\"").unwrap_err().to_string();
    assert!(both.contains("must differ"), "{both}");
    assert!(written("[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"").is_ok());
}

#[test]
fn redis_is_read_beside_the_file_and_every_problem_has_its_place() {
    let place = tempfile::TempDir::new().unwrap();
    fs::write(place.path().join("password"), "secret\n").unwrap();
    let file = place.path().join("weir.toml");
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        let loaded = load(&Sources { paths: Vec::new(), config: vec![file.clone()] }, Vec::new()).unwrap();
        redis(loaded.value.redis.as_ref(), &loaded.places)
    };
    assert!(read("[server]").unwrap().is_none());
    let good = "[redis]\nurl = \"redis://127.0.0.1:6379\"\npassword_file = \"password\"";
    assert!(read(good).unwrap().is_some(), "nothing listens there, and nothing is asked yet");
    let bad = "[redis]\nurl = \"http://a\"\npassword_file = \"nowhere\"";
    let error = lines(&read(bad).unwrap_err());
    assert!(
        error.contains(":2:") && error.contains(":3:") && error.contains("redis.password_file"),
        "{error}"
    );
}

#[test]
fn paths_of_the_file_are_relative_to_it_and_others_are_not() {
    let loaded = written("[server]\nmodels = [\"m\"]").unwrap();
    assert!(loaded.value.server.models[0].parent().is_some_and(Path::is_absolute));
    let flag = Override::new(weir_config::Source::Argument("--models".into()), "server.models", "[\"m\"]");
    let file = tempfile::NamedTempFile::new().unwrap();
    let sources = Sources { paths: Vec::new(), config: vec![file.path().to_owned()] };
    let loaded = load(&sources, vec![flag]).unwrap();
    assert_eq!(loaded.value.server.models, [PathBuf::from("m")]);
}

#[test]
fn each_file_names_paths_from_where_it_is() {
    let place = tempfile::TempDir::new().unwrap();
    let (base, over) = (place.path().join("base/weir.toml"), place.path().join("over/prod.toml"));
    for file in [&base, &over] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    fs::write(
        &base,
        "[server]\nmodels = ['m']\ntrace_file = 't'\n[redis]\nurl = 'redis://a'\nca_file = 'ca'",
    )
    .unwrap();
    fs::write(&over, "[server]\ntrace_file = 'u'\n[redis]\npassword_file = '../secrets/p'\n").unwrap();
    let sources = Sources { paths: Vec::new(), config: vec![base, over] };
    let settings = load(&sources, Vec::new()).unwrap().value;
    let at = |path: &str| place.path().join(path);
    assert_eq!(settings.server.models, [at("base/m")]);
    assert_eq!(settings.server.trace_file, Some(at("over/u")));
    let redis = settings.redis.unwrap();
    assert_eq!((redis.ca_file, redis.password_file), (Some(at("base/ca")), Some(at("over/../secrets/p"))));
}

#[test]
fn every_file_that_cannot_be_read_is_told() {
    let sources = Sources { paths: Vec::new(), config: vec!["no/a.toml".into(), "no/b.toml".into()] };
    let error = load(&sources, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("no/a.toml: cannot be read") && error.contains("no/b.toml"), "{error}");
}

#[test]
fn a_log_filter_is_checked_where_it_stands() {
    let error = written("[log]\nlevel = 'a=b=c'").unwrap_err().to_string();
    assert!(error.contains(":2:9: `log.level` cannot be read"), "{error}");
}

#[test]
fn the_committed_default_is_what_the_command_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/weir.toml");
    let committed = fs::read_to_string(path).unwrap();
    let printed = weir_config::default_toml::<Settings>();
    assert_eq!(committed, printed, "run: cargo run -p weir -- config default > config/weir.toml");
    assert_eq!(weir_config::parse::<Settings>(Path::new("weir.toml"), &printed), Ok(Settings::default()));
}
