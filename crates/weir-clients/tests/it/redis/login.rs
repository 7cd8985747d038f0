//! TLS, passwords, ACL users.

use weir_clients::redis::{Redis, RedisConfig, RedisError, Script};
use weir_testbed::RedisServer;

use super::{config, plain};

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
    assert_eq!(tried(&with("right", "geheim\n")).await, Ok(()));
}

/// The rights that docs/reference/redis.md says are enough.
const RIGHTS: [&str; 8] = ["~weir:*", "+ping", "+get", "+set", "+unlink", "+eval", "+evalsha", "+scan"];

fn user(server: &RedisServer) -> RedisConfig {
    RedisConfig {
        username: Some("weir".into()),
        password_file: Some(server.file("password", "geheim")),
        ..config(server.url())
    }
}

#[tokio::test]
async fn a_user_needs_the_rights_that_are_documented_and_no_others() {
    let server = RedisServer::start_acl("weir", "geheim", &RIGHTS);
    let config = user(&server);
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
    let server = RedisServer::start_acl("weir", "geheim", &["~weir:*", "+get"]);
    let redis = Redis::new(&user(&server)).unwrap();
    let error = redis.set_many(&[plain(b"a", b"1")]).await.unwrap_err();
    assert!(matches!(&error, RedisError::Refused(text) if text.starts_with("NOPERM")), "{error}");
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![None]));
    assert_eq!(redis.stats().nodes[0].guard.opened, 0);
}
