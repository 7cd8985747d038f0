//! Defaults that follow the machine: a small pod must not be promised more than it has.

use weir_config::{ByteSize, Origin, Places};

use super::Settings;
use crate::host::Limits;

/// Each budget is at most this share of the memory limit. There are four (bodies, cache, state, idempotency
/// keys), so that all of them full leave half of it to models and to the process itself.
const SHARE: u64 = 8;
/// Budgets are whole mebibytes, which people read.
const MIB: u64 = 1 << 20;

/// Puts in the place of defaults what fits into `limits`, and notes why. What somebody wrote stays.
pub(super) fn follow(settings: &mut Settings, places: &mut Places, limits: &Limits) {
    threads(settings, places, limits);
    if let Some(memory) = limits.memory {
        budgets(settings, places, memory);
    }
}

fn threads(settings: &mut Settings, places: &mut Places, limits: &Limits) {
    if settings.server.threads != 0 {
        return;
    }
    settings.server.threads = limits.threads();
    if places.origin("server.threads") != Origin::Default {
        return;
    }
    match limits.quota {
        Some(quota) => places.derive("server.threads", format!("of the cgroup's {quota} cores")),
        None => places.derive("server.threads", "one a core"),
    }
}

fn budgets(settings: &mut Settings, places: &mut Places, memory: u64) {
    let share = (memory / SHARE / MIB * MIB).max(MIB);
    let Settings { server, cache, state, idempotency, .. } = settings;
    let mut lower = |key: &str, value: &mut ByteSize, least: u64| {
        let follows = matches!(places.origin(key), Origin::Default);
        let lowered = value.0.min(share.max(least));
        if follows && lowered < value.0 {
            *value = ByteSize(lowered);
            places.derive(key, format!("of the cgroup's memory limit {}", readable(memory)));
        }
    };
    lower("server.max_body", &mut server.max_body, 0);
    lower("server.max_body_in_flight", &mut server.max_body_in_flight, server.max_body.0);
    lower("cache.budget", &mut cache.budget, 0);
    lower("state.budget", &mut state.budget, 0);
    lower("idempotency.budget", &mut idempotency.budget, 0);
    lower("idempotency.max_answer", &mut idempotency.max_answer, 0);
}

/// A limit as people write it; whole mebibytes where it is none.
fn readable(bytes: u64) -> ByteSize {
    if bytes < MIB { ByteSize(bytes) } else { ByteSize(bytes / MIB * MIB) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(text: &str, memory: Option<u64>) -> (Settings, Places) {
        let loaded = weir_config::parse_with(std::path::Path::new("weir.toml"), text, &[]).unwrap();
        let (mut settings, mut places): (Settings, Places) = (loaded.value, loaded.places);
        follow(&mut settings, &mut places, &Limits { cores: 4, quota: Some(1.5), memory });
        (settings, places)
    }

    fn budgets(settings: &Settings) -> [String; 5] {
        let Settings { server, cache, state, idempotency, .. } = settings;
        [server.max_body, server.max_body_in_flight, cache.budget, state.budget, idempotency.budget]
            .map(|size| size.to_string())
    }

    #[test]
    fn budgets_are_a_share_of_a_small_limit_and_the_usual_ones_of_a_large_one() {
        let of = |mib: u64| budgets(&followed("", Some(mib << 20)).0);
        assert_eq!(of(512), ["16MiB", "64MiB", "64MiB", "64MiB", "64MiB"]);
        assert_eq!(of(100), ["12MiB", "12MiB", "12MiB", "12MiB", "12MiB"]);
        assert_eq!(of(1), ["1MiB", "1MiB", "1MiB", "1MiB", "1MiB"]);
        let usual = budgets(&Settings::default());
        assert_eq!(of(2048), usual);
        assert_eq!(budgets(&followed("", None).0), usual);
    }

    #[test]
    fn what_somebody_wrote_stays_and_the_rest_says_where_it_is_from() {
        let (settings, places) = followed("[server]\nmax_body = '100MiB'\nthreads = 3", Some(512 << 20));
        assert_eq!(budgets(&settings)[..2], ["100MiB", "100MiB"], "there is room for one body");
        assert_eq!(settings.server.threads, 3);
        let told = places.origin("state.budget").to_string();
        assert_eq!(told, "default, of the cgroup's memory limit 512MiB");
        let (settings, places) = followed("", None);
        assert_eq!(settings.server.threads, 2);
        assert_eq!(places.origin("server.threads").to_string(), "default, of the cgroup's 1.5 cores");
    }
}
