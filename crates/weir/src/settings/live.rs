//! What may change while the server runs, and what changed.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_config::{Key, Places};
use weir_serving::Reason;

use super::{Settings, lines};

/// Keys that a reload puts in force; tables and lists with all that is in them. Everything else is
/// settled at the start: a socket that is bound, threads that run, a store that is open.
const LIVE: &[&str] = &[
    "server.models",
    "server.max_connections",
    "server.max_body",
    "server.max_body_in_flight",
    "server.header_timeout",
    "server.body_timeout",
    "server.write_timeout",
    "server.request_timeout",
    "server.drain_delay",
    "server.drain_timeout",
    "server.access_log",
    "server.access_log_sample",
    "server.access_log_slow",
    "log.level",
    "cache.budget",
    "cache.lease",
    "cache.purge_interval",
    "archive",
    "route",
];

/// Whether a reload puts the key at this path in force.
pub(crate) fn is_live(path: &str) -> bool {
    LIVE.iter().any(|live| {
        let rest = path.strip_prefix(live);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// Every key that an operator may write, in the order of the file.
pub(crate) fn keys() -> Vec<Key> {
    weir_config::keys::<Settings>()
}

/// Key paths of settings that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changed {
    /// Those that a reload puts in force.
    pub(crate) live: Vec<String>,
    /// Those that need a restart.
    pub(crate) restart: Vec<String>,
}

impl Changed {
    /// What differs between two settings.
    ///
    /// # Errors
    /// Settings that JSON cannot hold, which there are none of.
    pub(crate) fn between(old: &Settings, new: &Settings) -> Result<Self, serde_json::Error> {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        flatten("", &serde_json::to_value(old)?, &mut before);
        flatten("", &serde_json::to_value(new)?, &mut after);
        let mut all: Vec<&String> = before.keys().chain(after.keys()).collect();
        all.sort_unstable();
        all.dedup();
        let changed = all.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned();
        let (live, restart) = changed.partition(|key| is_live(key));
        Ok(Self { live, restart })
    }

    /// Refuses a change of which a part cannot be put in force: a server that runs by half of a
    /// file runs by none that anybody wrote.
    ///
    /// # Errors
    /// Each such key, for operators with its place; the names of keys are in the reference.
    pub(crate) fn possible(&self, places: &Places) -> Result<(), Reason> {
        if self.restart.is_empty() {
            return Ok(());
        }
        let text = |key: &String| {
            format!("`{key}` changed and needs a restart; nothing of the configuration changed")
        };
        let public: Vec<_> = self.restart.iter().map(text).collect();
        let placed: Vec<_> = self.restart.iter().map(|key| places.problem(key, text(key))).collect();
        Err(Reason::new(public.join("\n"), lines(&placed)))
    }
}

/// Values by key path; a list is one value.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            flatten(&path, value, into);
        }),
        Value::Null => {}
        other => {
            into.insert(path.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> (Settings, Places) {
        let loaded = weir_config::parse_with(Path::new("weir.toml"), text, &[]).unwrap();
        (loaded.value, loaded.places)
    }

    #[test]
    fn a_change_is_told_by_its_keys() {
        let (old, _) = read("[server]\nthreads = 2\n[log]\nlevel = 'warn'");
        let (new, places) = read(
            "[server]\nthreads = 3\nmax_body = '1MiB'\n[log]\nformat = 'json'\n[redis]\nurl = 'redis://a'\n[[route]]\npath = '/x'\nresponse = { a = 1 }\n",
        );
        let changed = Changed::between(&old, &new).unwrap();
        assert_eq!(changed.live, ["log.level", "route", "server.max_body"]);
        assert!(changed.restart.iter().any(|key| key == "redis.url"), "{changed:?}");
        let refused = changed.possible(&places).unwrap_err();
        assert!(refused.public().starts_with("`") && refused.public().contains("`server.threads` changed"));
        let refused = refused.to_string();
        assert!(
            refused.contains("weir.toml:2:11: `server.threads` changed and needs a restart"),
            "{refused}"
        );
        assert!(refused.contains("weir.toml:5:10: `log.format`"), "{refused}");
        assert_eq!(Changed::between(&new, &new).unwrap(), Changed::default());
    }

    #[test]
    fn every_live_key_is_one_that_there_is() {
        // Itself, or a table or list with all that is in it: no beginning of a name.
        let is_of = |path: &str, live: &str| {
            path == live || path.starts_with(&format!("{live}.")) || path.starts_with(&format!("{live}[]."))
        };
        let keys = keys();
        let known = |live: &str| keys.iter().any(|key| is_of(&key.path, live));
        for live in LIVE {
            assert!(known(live), "{live}");
        }
        assert!(!known("server.max") && !known("rout") && known("route") && known("server.max_body"));
        assert!(is_live("route[].path") && !is_live("server.max_queue") && !is_live("routes"));
    }
}
