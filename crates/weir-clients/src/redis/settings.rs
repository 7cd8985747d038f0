//! A [`RedisConfig`] that has been checked, with the files that it names read.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use redis::{ClientTlsConfig, RedisConnectionInfo, TlsCertificates};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use weir_config::files;

use super::config::{RedisConfig, RedisConfigError, RedisMode, RedisProblem};
use crate::tls::PEM_BYTES;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The server, or sentinels, or some nodes of the cluster; never empty.
    pub(crate) nodes: Vec<Address>,
    pub(crate) master: String,
    pub(crate) tls: Option<TlsCertificates>,
    pub(crate) login: RedisConnectionInfo,
    pub(crate) sentinel_login: RedisConnectionInfo,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// What it was made of, where that names files.
    source: Option<RedisConfig>,
}

/// Longest prefix of keys, bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// Collects what is wrong.
#[derive(Default)]
struct Checks(Vec<RedisProblem>);

/// A URL's parts.
struct Place {
    address: Address,
    tls: bool,
    database: Option<u32>,
}

impl Settings {
    /// Checks `config` and reads its files.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, RedisConfigError> {
        let mut checks = Checks::default();
        checks.shape(config);
        let places = checks.places(config);
        let database = checks.database(config, &places);
        let login = checks.login(&config.username, config.password_file.as_deref(), "password_file");
        let sentinel_login = checks.login(
            &config.sentinel_username,
            config.sentinel_password_file.as_deref(),
            "sentinel_password_file",
        );
        let tls = checks.tls(config, &places);
        if !checks.0.is_empty() {
            return Err(RedisConfigError(checks.0));
        }
        Ok(Self {
            nodes: places.into_iter().map(|place| place.address).collect(),
            master: config.master.clone(),
            tls,
            login: login.set_db(i64::from(database)),
            sentinel_login,
            timeout: config.timeout.get(),
            connect_timeout: config.connect_timeout.get(),
            source: config.clone().files_mut().next().is_some().then(|| config.clone()),
        })
    }

    /// The same with the files read again: secrets change while Weir runs, and a new connection shows
    /// those that count now. Where one cannot be read, what was read before still counts.
    pub(crate) async fn current(self: &Arc<Self>) -> Arc<Self> {
        let Some(source) = self.source.clone() else { return self.clone() };
        // Files may lie on a volume that hangs: not on a thread that others wait for. Each server has one
        // connection that is made at a time, which bounds how many threads this takes.
        #[allow(clippy::disallowed_methods)]
        match tokio::task::spawn_blocking(move || Self::new(&source)).await {
            Ok(Ok(fresh)) => Arc::new(fresh),
            Ok(Err(problems)) => {
                tracing::warn!("Redis: what was read at the start still counts: {problems}");
                self.clone()
            }
            Err(_) => self.clone(),
        }
    }
}

impl Checks {
    fn add(&mut self, key: &'static str, text: impl Into<String>) {
        self.0.push(RedisProblem { key, text: text.into() });
    }

    /// What can be said without looking at an address or a file.
    fn shape(&mut self, config: &RedisConfig) {
        let single = config.mode == RedisMode::Single;
        let wrong = [
            ("url", single && config.url.is_none(), "is missing: redis://host:6379"),
            ("url", !single && config.url.is_some(), "is for one server; with `mode` it is `nodes`"),
            ("nodes", single && !config.nodes.is_empty(), "needs `mode = \"sentinel\"` or \"cluster\""),
            ("nodes", !single && config.nodes.is_empty(), "is empty: [\"redis://host:port\", …]"),
            ("master", config.mode == RedisMode::Sentinel && config.master.is_empty(), "is empty"),
            ("timeout", config.timeout.get().is_zero(), "must be longer than nothing"),
            ("connect_timeout", config.connect_timeout.get().is_zero(), "must be longer than nothing"),
            ("prefix", config.prefix.len() > MAX_PREFIX_BYTES, "is longer than 64 bytes"),
            // A brace would put all keys, or none of those that belong together, into one slot.
            ("prefix", config.prefix.contains(['{', '}']), "may contain no brace: clusters read those"),
            (
                "username",
                config.username.is_some() && config.password_file.is_none(),
                "needs `password_file`",
            ),
            (
                "cert_file",
                config.cert_file.is_some() != config.key_file.is_some(),
                "and `key_file` go together",
            ),
        ];
        wrong.into_iter().filter(|(_, wrong, _)| *wrong).for_each(|(key, _, text)| self.add(key, text));
    }

    fn places(&mut self, config: &RedisConfig) -> Vec<Place> {
        let (key, urls) = match config.mode {
            RedisMode::Single => ("url", config.url.as_slice()),
            RedisMode::Sentinel | RedisMode::Cluster => ("nodes", config.nodes.as_slice()),
        };
        let mut places = Vec::new();
        for url in urls {
            match place(url) {
                Ok(place) => places.push(place),
                Err(text) => self.add(key, text),
            }
        }
        if places.iter().any(|place| place.tls != places[0].tls) {
            self.add(key, "has addresses with TLS and without; either all are `rediss://` or none");
        }
        places
    }

    /// The database that the table or the address names.
    fn database(&mut self, config: &RedisConfig, places: &[Place]) -> u32 {
        let named = places.iter().find_map(|place| place.database);
        if config.database != 0 && named.is_some_and(|named| named != config.database) {
            self.add("database", "differs from the one in the address");
        }
        let database = named.unwrap_or(config.database);
        if config.mode == RedisMode::Cluster && database != 0 {
            self.add("database", "is 0 in a cluster, which has no other");
        }
        database
    }

    fn login(
        &mut self,
        username: &Option<String>,
        password_file: Option<&Path>,
        key: &'static str,
    ) -> RedisConnectionInfo {
        // The library would tell the server its name, which an ACL user needs one more right for.
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = username {
            login = login.set_username(username);
        }
        match password_file.map(files::secret) {
            Some(Ok(password)) => login = login.set_password(password),
            Some(Err(why)) => self.add(key, why),
            None => {}
        }
        login
    }

    fn tls(&mut self, config: &RedisConfig, places: &[Place]) -> Option<TlsCertificates> {
        let root_cert = self.pem("ca_file", config.ca_file.as_deref(), has_certificate);
        let client_cert = self.pem("cert_file", config.cert_file.as_deref(), has_certificate);
        let client_key = self.pem("key_file", config.key_file.as_deref(), has_key);
        let tls = places.first()?.tls;
        if !tls && (root_cert.is_some() || client_cert.is_some()) {
            self.add("ca_file", "and `cert_file` are for TLS: the address begins with `rediss://` then");
        }
        let client_tls = client_cert
            .zip(client_key)
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        tls.then_some(TlsCertificates { client_tls, root_cert })
    }

    fn pem(&mut self, key: &'static str, path: Option<&Path>, holds: fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let bytes = files::read(path?, PEM_BYTES).map_err(|why| self.add(key, why)).ok()?;
        if !holds(&bytes) {
            let what = if key == "key_file" { "private key" } else { "certificate" };
            self.add(key, format!("names a file without a {what} in PEM form"));
        }
        Some(bytes)
    }
}

/// Whether there is at least one, and none that cannot be read: the library takes an empty file for an
/// authority that signed nothing.
fn has_certificate(pem: &[u8]) -> bool {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.is_ok_and(|found| !found.is_empty())
}

fn has_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

/// The parts of `redis[s]://host[:port][/database]`. Nothing of the URL is repeated in an error: it may hold
/// a password.
fn place(url: &str) -> Result<Place, String> {
    const FORM: &str = "is no address of the form redis://host:6379/0, with rediss:// for TLS";
    let url = redis::parse_redis_url(url).ok_or(FORM)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("names a user or password: they go into `username` and `password_file`".to_owned());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(FORM)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("ends with ? or #, which mean nothing here".to_owned());
    }
    let database = match url.path().trim_start_matches('/') {
        "" => None,
        number => Some(number.parse().map_err(|_| FORM)?),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = matches!(url.scheme(), "rediss" | "valkeys");
    Ok(Place { address: Address { host, port: url.port().unwrap_or(6_379) }, tls, database })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: RedisConfig) -> Vec<&'static str> {
        Settings::new(&config).unwrap_err().0.into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn addresses_are_read() {
        let of = |url| Settings::new(&RedisConfig::single(url)).unwrap();
        let settings = of("redis://[::1]:7000/3");
        assert_eq!(settings.nodes[0].to_string(), "[::1]:7000");
        assert_eq!((settings.login.db(), settings.tls.is_some()), (3, false));
        let settings = of("rediss://redis.example");
        assert_eq!(settings.nodes[0].to_string(), "redis.example:6379");
        assert!(settings.tls.is_some());
    }

    #[test]
    fn an_address_that_is_none_or_holds_a_secret_is_refused_without_repeating_it() {
        for url in
            ["localhost", "http://a", "redis://", "redis://a/x", "redis://u:geheim@a", "redis://a/#insecure"]
        {
            let error = Settings::new(&RedisConfig::single(url)).unwrap_err();
            assert_eq!(error.0.len(), 1, "{url}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let config = RedisConfig {
            url: None,
            nodes: vec!["redis://a".into()],
            prefix: "{".into(),
            username: Some("weir".into()),
            ca_file: Some("/does/not/exist".into()),
            timeout: weir_config::HumanDuration::from_millis(0),
            ..RedisConfig::default()
        };
        assert_eq!(problems(config), ["url", "nodes", "timeout", "prefix", "username", "ca_file"]);
    }

    #[test]
    fn modes_need_what_they_need() {
        let cluster = RedisConfig { mode: RedisMode::Cluster, ..RedisConfig::default() };
        assert_eq!(problems(cluster.clone()), ["nodes"]);
        let nodes = vec!["redis://a".to_owned(), "rediss://b".to_owned()];
        assert_eq!(problems(RedisConfig { nodes: nodes.clone(), ..cluster.clone() }), ["nodes"]);
        let nodes = vec!["redis://a/2".to_owned()];
        assert_eq!(problems(RedisConfig { nodes: nodes.clone(), ..cluster }), ["database"]);
        let sentinel = RedisConfig { mode: RedisMode::Sentinel, nodes, ..RedisConfig::default() };
        assert_eq!(Settings::new(&sentinel).unwrap().login.db(), 2);
    }
}
