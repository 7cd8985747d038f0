//! The Redis: whether it is there, what it is, and what it lets Weir do.

use std::time::{Duration, SystemTime};

use weir_clients::redis::{ProbeError, RedisConfig, RedisReport, probe};
use weir_features::StoreKind;

use super::finding::Finding;
use crate::settings::Settings;

/// Uses no command that is newer.
const OLDEST: (u32, u32) = (6, 2);
/// Clocks further apart than this are worth a word, in seconds.
const APART: f64 = 1.0;

/// Looks at the Redis of the settings, and says what is found.
pub(super) async fn look(settings: &Settings, wall: &(dyn Fn() -> SystemTime + Sync)) -> Vec<Finding> {
    match &settings.redis {
        None => Vec::new(),
        Some(config) => check(config, settings, probe(config, wall).await),
    }
}

fn check(config: &RedisConfig, settings: &Settings, seen: Result<RedisReport, ProbeError>) -> Vec<Finding> {
    match seen {
        Ok(report) => vec![
            near(config, &report),
            version(report.version.as_deref()),
            rights(config, &report.refused),
            clocks(settings, report.ahead_seconds),
        ],
        Err(error) => vec![away(settings, &error)],
    }
}

fn away(settings: &Settings, error: &ProbeError) -> Finding {
    let found = error.to_string();
    match error {
        ProbeError::Config(_) => Finding::fail("redis", found, "correct the table [redis]"),
        ProbeError::Login(_) => Finding::fail(
            "redis",
            format!("refuses the login: {found}"),
            "check redis.username, and that redis.password_file holds the password that counts now",
        ),
        ProbeError::Away(_) => {
            let fix = "start it, or check redis.url, the network policy and TLS between here and there";
            match settings.state.store {
                StoreKind::Redis => {
                    Finding::fail("redis", format!("is away, and state is kept there: {found}"), fix)
                }
                StoreKind::Memory | StoreKind::Embedded => Finding::warn(
                    "redis",
                    format!("is away; Weir serves without its cache until it is back: {found}"),
                    fix,
                ),
            }
        }
    }
}

fn near(config: &RedisConfig, report: &RedisReport) -> Finding {
    let timeout = config.timeout.get();
    let found = format!(
        "{} answers in {:?}; redis.timeout is {}",
        report.address,
        rounded(report.round_trip),
        config.timeout
    );
    let fix = "raise redis.timeout, or bring the Redis nearer";
    match report.round_trip {
        took if took >= timeout => Finding::fail("redis", found, fix),
        took if took >= timeout / 2 => Finding::warn("redis", found, fix),
        _ => Finding::ok("redis", found),
    }
}

/// To whole microseconds, which people read.
fn rounded(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn version(version: Option<&str>) -> Finding {
    let Some(version) = version else {
        let fix = "make sure that it is a Redis or Valkey of version 6.2 or later";
        return Finding::warn("redis version", "it does not tell", fix);
    };
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let known = numbers.next().zip(numbers.next());
    match known {
        Some(known) if known >= OLDEST => Finding::ok("redis version", version),
        _ => Finding::warn("redis version", version, "use 6.2 or later; Weir is tested with 7.0"),
    }
}

fn rights(config: &RedisConfig, refused: &[(&'static str, String)]) -> Finding {
    let Some((_, first)) = refused.first() else {
        return Finding::ok("redis rights", "everything that Weir uses is allowed");
    };
    let names: Vec<_> = refused.iter().map(|(name, _)| *name).collect();
    let found = format!("refused: {} ({first})", names.join(", "));
    let user = config.username.as_deref().unwrap_or("default");
    let grants: Vec<_> = names.iter().map(|name| format!("+{name}")).collect();
    let fix = format!("ACL SETUSER {user} ~{}* {}", prefix(config), grants.join(" "));
    // Without it, what was purged stays until its time is over, found by nobody.
    match names[..] {
        ["scan"] => Finding::warn("redis rights", found, fix),
        _ => Finding::fail("redis rights", found, fix),
    }
}

fn prefix(config: &RedisConfig) -> String {
    if config.prefix.is_empty() { String::new() } else { format!("{}:", config.prefix) }
}

fn clocks(settings: &Settings, ahead: Option<f64>) -> Finding {
    let Some(ahead) = ahead else {
        return Finding::ok("redis clock", "not compared: this user may not ask for the time (+time)");
    };
    let found = format!("{ahead:+.3} s from ours");
    let fix = "let both hosts keep time by NTP or chrony";
    let lease = settings.idempotency.lease.get().as_secs_f64();
    match ahead.abs() {
        apart if apart >= lease => {
            Finding::fail("redis clock", format!("{found}, more than idempotency.lease"), fix)
        }
        apart if apart >= APART => Finding::warn("redis clock", found, fix),
        _ => Finding::ok("redis clock", found),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    fn report() -> RedisReport {
        RedisReport {
            address: "redis:6379".into(),
            round_trip: Duration::from_micros(300),
            version: Some("7.0.15".into()),
            ahead_seconds: Some(-0.01),
            refused: Vec::new(),
        }
    }

    fn levels(seen: Result<RedisReport, ProbeError>, settings: &Settings) -> Vec<Level> {
        let findings = check(&RedisConfig::single("redis://redis"), settings, seen);
        assert!(findings.iter().all(|f| (f.level == Level::Ok) == f.fix.is_empty()), "{findings:?}");
        findings.into_iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn what_a_redis_is_becomes_findings() {
        use Level::{Fail, Ok as Good, Warn};
        let of = |report| levels(Ok(report), &Settings::default());
        assert_eq!(of(report()), [Good; 4]);
        assert_eq!(of(RedisReport { round_trip: Duration::from_millis(12), ..report() })[0], Warn);
        assert_eq!(of(RedisReport { round_trip: Duration::from_millis(21), ..report() })[0], Fail);
        assert_eq!(of(RedisReport { version: Some("6.0.9".into()), ..report() })[1], Warn);
        assert_eq!(of(RedisReport { version: None, ..report() })[1], Warn);
        let refused = |name| vec![(name, "NOPERM".to_owned())];
        assert_eq!(of(RedisReport { refused: refused("scan"), ..report() })[2], Warn);
        assert_eq!(of(RedisReport { refused: refused("evalsha"), ..report() })[2], Fail);
        assert_eq!(of(RedisReport { ahead_seconds: Some(2.0), ..report() })[3], Warn);
        assert_eq!(of(RedisReport { ahead_seconds: Some(-31.0), ..report() })[3], Fail);
        assert_eq!(of(RedisReport { ahead_seconds: None, ..report() })[3], Good);
    }

    #[test]
    fn a_redis_that_is_away_stops_only_who_keeps_state_there() {
        let away = || Err(ProbeError::Away("refused".into()));
        let mut settings = Settings::default();
        assert_eq!(levels(away(), &settings), [Level::Warn]);
        assert_eq!(levels(Err(ProbeError::Login("WRONGPASS".into())), &settings), [Level::Fail]);
        settings.state.store = StoreKind::Redis;
        assert_eq!(levels(away(), &settings), [Level::Fail]);
    }

    #[test]
    fn the_fix_is_the_command_that_grants_what_is_missing() {
        let refused = [("eval", "NOPERM".to_owned()), ("scan", "NOPERM".to_owned())];
        let finding = rights(&RedisConfig::single("redis://redis"), &refused);
        assert_eq!(finding.fix, "ACL SETUSER default ~weir:* +eval +scan");
    }
}
