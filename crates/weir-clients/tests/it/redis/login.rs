//! TLS, passwords, ACL users.

use std::time::UNIX_EPOCH;

use weir_clients::redis::{ProbeError, Redis, RedisConfig, RedisError, Script, probe};
use weir_testbed::RedisServer;

use super::{RIGHTS, add_user, as_user, config, plain, until};

/// What the configuration leads to: a value stored and found, or why not.
async fn tried(config: &RedisConfig) -> Result<(), String> {
    let redis = Redis::new(config).map_err(|e| e.to_string())?;
    redis.set_many(&[plain(b"a", b"1")]).await.map_err(|e| e.to_string())?;
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![Some("1".into())]));
    Ok(())
}

#[tokio::test]
async fn tls_with_an_authority_and_a_certificate_of_our_own() {
    let server = RedisServer::start_tls();
    let certificates = server.certificates();
    let (cert, key) = certificates.client.clone();
    let good = RedisConfig {
        ca_file: Some(certificates.ca.clone()),
        cert_file: Some(cert),
        key_file: Some(key),
        ..config(server.tls_url())
    };
    assert_eq!(tried(&good).await, Ok(()));
    let by_name =
        RedisConfig { url: Some(server.tls_url().replace("127.0.0.1", "localhost")), ..good.clone() };
    assert_eq!(tried(&by_name).await, Ok(()));
    let another_name =
        RedisConfig { url: Some(server.tls_url().replace("127.0.0.1", "127.0.0.2")), ..good.clone() };
    let error = tried(&another_name).await.unwrap_err();
    assert!(error.contains("127.0.0.2"), "{error}");
    let stranger = RedisConfig { ca_file: None, ..good.clone() };
    let error = tried(&stranger).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let nobody = RedisConfig { cert_file: None, key_file: None, ..good.clone() };
    assert!(tried(&nobody).await.is_err(), "the server wants a certificate");
    let plainly = RedisConfig { ca_file: None, cert_file: None, key_file: None, ..good.clone() };
    let plainly = RedisConfig { url: Some(server.tls_url().replace("rediss", "redis")), ..plainly };
    assert!(tried(&plainly).await.is_err());
    let wrong_file = RedisConfig { ca_file: good.key_file.clone(), ..good };
    let error = tried(&wrong_file).await.unwrap_err();
    assert!(error.starts_with("`redis.ca_file` "), "{error}");
}

#[tokio::test]
async fn a_password_is_needed_and_a_wrong_one_is_told() {
    let server = RedisServer::start();
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "geheim"]);
    let error = tried(&config(server.url())).await.unwrap_err();
    assert!(error.contains("NOAUTH"), "{error}");
    let with = |name: &str, content: &str| RedisConfig {
        password_file: Some(server.file(name, content)),
        ..config(server.url())
    };
    let error = tried(&with("wrong", "falsch")).await.unwrap_err();
    assert!(error.contains("Redis is away") && !error.contains("falsch"), "{error}");
    let right = with("right", "geheim\n");
    assert_eq!(tried(&right).await, Ok(()));
    let shown = format!("{:?}", Redis::new(&right).unwrap());
    assert!(!shown.contains("geheim"), "{shown}");
}

#[tokio::test]
async fn a_user_needs_the_rights_that_are_documented_and_no_others() {
    let server = RedisServer::start();
    add_user(&server, &["~weir:*"]);
    // Nobody else gets in.
    server.ask::<()>(&["ACL", "SETUSER", "default", "nopass", "nocommands", "+acl"]);
    let config = as_user(&server, config(server.url()));
    assert_eq!(tried(&config).await, Ok(()));
    let redis = Redis::new(&config).unwrap();
    assert!(redis.run(&Script::new("return redis.call('GET', KEYS[1])"), &[b"a"], &[]).await.is_ok());
    assert_eq!(redis.delete_many(&["a"]).await, Ok(1));
    assert_eq!(redis.delete_matching(b"").await, Ok(0));
    let docs = include_str!("../../../../../docs/reference/redis.md");
    assert!(docs.contains(&RIGHTS.join(" ")), "docs/reference/redis.md names other rights");
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_and_is_no_outage() {
    let server = RedisServer::start();
    add_user(&server, &["~weir:*", "-set", "-ping"]);
    let redis = Redis::new(&as_user(&server, config(server.url()))).unwrap();
    let error = redis.set_many(&[plain(b"a", b"1")]).await.unwrap_err();
    assert!(matches!(&error, RedisError::Refused(text) if text.starts_with("NOPERM")), "{error}");
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![None]));
    assert_eq!(redis.stats().nodes[0].guard.opened, 0);
}

#[tokio::test]
async fn a_password_that_changes_counts_for_the_next_connection() {
    let server = RedisServer::start();
    add_user(&server, &["~weir:*"]);
    let redis = Redis::new(&as_user(&server, config(server.url()))).unwrap();
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    // As a secret is rotated: both count, the file changes, the old one counts no more.
    server.ask::<()>(&["ACL", "SETUSER", "weir", ">neu"]);
    server.file("password", "neu\n");
    server.ask::<()>(&["ACL", "SETUSER", "weir", "<geheim"]);
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![Some("1".into())]), "what is connected stays so");
    server.ask::<()>(&["CLIENT", "KILL", "USER", "weir"]);
    until(async || redis.get_many(&["a"]).await, |got| *got == Ok(vec![Some("1".into())])).await;
    // A file that is away for a moment takes nothing from who has a password.
    std::fs::remove_file(server.folder().join("password")).unwrap();
    server.ask::<()>(&["ACL", "SETUSER", "weir", ">geheim"]);
    server.ask::<()>(&["CLIENT", "KILL", "USER", "weir"]);
    until(async || redis.get_many(&["a"]).await, |got| *got == Ok(vec![Some("1".into())])).await;
}

#[tokio::test]
async fn a_look_tells_what_it_is_and_what_it_refuses() {
    let server = RedisServer::start();
    let look = async |config: &RedisConfig| probe(config, &|| UNIX_EPOCH).await;
    let seen = look(&config(server.url())).await.unwrap();
    assert!(seen.refused.is_empty() && seen.version.is_some_and(|version| version.contains('.')));
    let theirs: (f64, f64) = server.ask(&["TIME"]);
    let off = seen.ahead_seconds.map(|ahead| ahead - theirs.0);
    assert!(
        off.is_some_and(|off| off.abs() < 60.0),
        "our clock stands at 0, so that it is ahead by its time"
    );
    add_user(&server, &["~other:*", "-evalsha"]);
    let user = as_user(&server, config(server.url()));
    let seen = look(&user).await.unwrap();
    let refused: Vec<_> = seen.refused.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused, ["set", "get", "getrange", "unlink", "eval", "evalsha"], "other keys are not ours");
    assert_eq!(seen.ahead_seconds, None, "the time needs a right of its own");
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "geheim"]);
    let seen = look(&config(server.url())).await;
    assert!(matches!(seen, Err(ProbeError::Login(_))), "{seen:?}");
    let nobody = look(&config("redis://127.0.0.1:1")).await;
    assert!(matches!(nobody, Err(ProbeError::Away(_))), "{nobody:?}");
}
