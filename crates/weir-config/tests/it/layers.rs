//! Files over files: what counts, where it came from, and which file a problem names.

use std::path::Path;

use proptest::prelude::*;
use weir_config::{Layer, Loaded, Origin, Override, Source, keys, parse_layers};

use crate::shape::Config;

const BASE: &str = "log = 'warn'\n[server]\nlisten = 'base:1'\nworkers = 4\nmodels = ['a', 'b']\n[names]\nx = '1'\n[[route]]\npath = '/base'\n[[route]]\npath = '/both'\n";
const OVER: &str = "[server]\nworkers = 8\nmodels = ['c']\n[names]\ny = '2'\n[[route]]\npath = '/over'\n";

fn load(files: &[(&str, &str)], overrides: &[Override]) -> Result<Loaded<Config>, String> {
    let layers: Vec<_> = files.iter().map(|(file, text)| Layer { file: Path::new(file), text }).collect();
    let told = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    parse_layers(&layers, overrides).map_err(|problems: Vec<weir_config::Problem>| told(problems))
}

#[test]
fn tables_are_laid_key_by_key_and_lists_whole() {
    let loaded = load(&[("base.toml", BASE), ("over.toml", OVER)], &[]).unwrap();
    let config = &loaded.value;
    assert_eq!((config.server.listen.as_str(), config.server.workers), ("base:1", 8));
    assert_eq!(config.server.models, ["c"]);
    assert_eq!((config.names["x"].as_str(), config.names["y"].as_str()), ("1", "2"));
    assert_eq!(config.route.iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/over"]);
}

#[test]
fn each_value_knows_its_file_and_what_it_covers() {
    let flag = Override::new(Source::Argument("--workers".into()), "server.workers", "9");
    let loaded = load(&[("base.toml", BASE), ("over.toml", OVER)], &[flag]).unwrap();
    let origin = |path| loaded.places.origin(path).to_string();
    assert_eq!(origin("server.listen"), "base.toml:3:10");
    assert_eq!(origin("server.workers"), "--workers");
    let over: Vec<_> = loaded.places.over("server.workers").iter().map(Origin::to_string).collect();
    assert_eq!(over, ["over.toml:2:11", "base.toml:4:11"]);
    assert_eq!(origin("server.models[0]"), "over.toml:3:11");
    assert_eq!(origin("route[0].path"), "over.toml:7:8");
    assert!(loaded.places.over("server.listen").is_empty());
}

#[test]
fn problems_name_their_file_all_of_them_at_once() {
    let base = "[server]\nworkers = 0\nlistne = 'x'\n";
    let over = "[server]\ncontrol = 'no'\n[[route]]\n";
    let expected = "\
base.toml:2:11: `server.workers` must be at least 1, got 0
base.toml:3:1: unknown key `listne`, did you mean `listen`?
over.toml:2:11: `server.control` takes true or false, got a string
over.toml:3:1: missing key `path` in `route[0]`";
    assert_eq!(load(&[("base.toml", base), ("over.toml", over)], &[]).unwrap_err(), expected);
    let broken = load(&[("base.toml", "a = "), ("over.toml", "[")], &[]).unwrap_err();
    assert!(broken.contains("base.toml:1:") && broken.contains("over.toml:1:"), "{broken}");
}

#[test]
fn every_key_is_listed_with_what_it_takes() {
    let all = keys::<Config>();
    let of = |path: &str| all.iter().find(|key| key.path == path).unwrap();
    assert_eq!(of("server.timeout").default.as_deref(), Some("\"10s\""));
    assert_eq!(of("server.admin_listen").default, None);
    assert_eq!(of("server.workers").takes, "an integer");
    assert_eq!(of("route[].path").about, "The path.");
    assert!(all.iter().all(|key| key.path != "server"), "tables are no keys");
}

proptest! {
    /// Any number of layers: a key has the value of the last file that says it.
    #[test]
    fn the_last_file_that_says_it_counts(said in prop::collection::vec(
        (prop::option::of(1_u16..64), prop::option::of(any::<bool>()), prop::option::of("[a-z]{1,4}")), 1..5)) {
        let texts: Vec<String> = said.iter().map(|(workers, control, name)| {
            let mut text = String::from("[server]\n");
            workers.iter().for_each(|n| text += &format!("workers = {n}\n"));
            control.iter().for_each(|b| text += &format!("control = {b}\n"));
            name.iter().for_each(|n| text += &format!("[names]\n{n} = '{n}'\n"));
            text
        }).collect();
        let names: Vec<String> = (0..texts.len()).map(|i| format!("{i}.toml")).collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        let loaded = load(&files, &[]).unwrap();
        let last = said.iter().rev().find_map(|(workers, ..)| *workers);
        prop_assert_eq!(loaded.value.server.workers, last.unwrap_or(2));
        let last = said.iter().rev().find_map(|(_, control, _)| *control);
        prop_assert_eq!(loaded.value.server.control, last.unwrap_or(false));
        let all = said.iter().filter_map(|(.., name)| name.clone()).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(loaded.value.names.into_keys().collect::<std::collections::BTreeSet<_>>(), all);
    }
}
