//! What the tests share: a clock that stands still, stores to run a suite on, views in few words.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use weir_clients::redis::{Redis, RedisConfig, RedisMode};
use weir_config::HumanDuration;
use weir_features::{Embedded, EventTime, Events, Features, Memory, RedisStore, SharedStore, Views};
use weir_testbed::{RedisCluster, RedisServer};
use weir_types::Clock;

/// A clock that tests move.
pub(crate) struct ManualClock {
    start: Instant,
    since: Mutex<Duration>,
}

/// When the clock stands as tests begin: a whole hour and a whole minute, so that windows are
/// easy to reckon.
pub(crate) const START_SECONDS: u64 = 1_700_000_000 / 3600 * 3600;

impl ManualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), since: Mutex::default() })
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.since.lock().unwrap() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.start + *self.since.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START_SECONDS) + *self.since.lock().unwrap()
    }
}

/// So many seconds after the tests began, or before.
pub(crate) fn at(seconds: f64) -> EventTime {
    EventTime::from_micros(START_SECONDS as i64 * 1_000_000 + (seconds * 1e6) as i64).unwrap()
}

/// A store to test, with all it needs to live.
pub(crate) struct Fixture {
    pub(crate) store: SharedStore,
    pub(crate) clock: Arc<ManualClock>,
    _keep: Box<dyn std::any::Any>,
}

/// A client, with a timeout for a machine that compiles meanwhile.
pub(crate) fn redis(config: RedisConfig) -> Redis {
    Redis::new(&RedisConfig { timeout: HumanDuration::from_secs(10), ..config }).unwrap()
}

pub(crate) const BUDGET: usize = 64 << 20;

impl Fixture {
    pub(crate) fn memory() -> Self {
        let clock = ManualClock::new();
        Self { store: Arc::new(Memory::new(BUDGET, clock.clone())), clock, _keep: Box::new(()) }
    }

    pub(crate) fn embedded() -> Self {
        let (clock, folder) = (ManualClock::new(), TempDir::new().unwrap());
        let store = Embedded::open(&folder.path().join("state.redb"), BUDGET, 1024, clock.clone()).unwrap();
        Self { store: Arc::new(store), clock, _keep: Box::new(folder) }
    }

    pub(crate) fn redis() -> Self {
        let server = RedisServer::start();
        Self::redis_at(RedisConfig::single(server.url()), server)
    }

    /// Three masters.
    pub(crate) fn redis_cluster() -> Self {
        let cluster = RedisCluster::start();
        let config =
            RedisConfig { mode: RedisMode::Cluster, nodes: cluster.urls(), ..RedisConfig::default() };
        Self::redis_at(config, cluster)
    }

    /// TLS, with certificates on both sides.
    pub(crate) fn redis_tls() -> Self {
        let server = RedisServer::start_tls();
        let certificates = server.certificates();
        let (cert, key) = certificates.client.clone();
        let config = RedisConfig {
            ca_file: Some(certificates.ca.clone()),
            cert_file: Some(cert),
            key_file: Some(key),
            ..RedisConfig::single(server.tls_url())
        };
        Self::redis_at(config, server)
    }

    fn redis_at(config: RedisConfig, server: impl std::any::Any) -> Self {
        let clock = ManualClock::new();
        let store = RedisStore::new(redis(config), clock.clone());
        Self { store: Arc::new(store), clock, _keep: Box::new(server) }
    }

    pub(crate) fn features(&self, toml: &str) -> Features {
        let ahead = Duration::from_secs(300);
        Features::new(views(toml), self.store.clone(), self.clock.clone(), ahead)
    }

    pub(crate) fn events(&self, toml: &str) -> (Events, Features) {
        let features = self.features(toml);
        (Events::new(features.clone()), features)
    }
}

/// Runs each case, an async function of a `&Fixture`, on each store.
macro_rules! on_every_store {
    ($($case:ident),* $(,)?) => {
        on_every_store!(@ memory $($case)*);
        on_every_store!(@ embedded $($case)*);
        on_every_store!(@ redis $($case)*);
    };
    (@ $store:ident $($case:ident)*) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(&crate::support::Fixture::$store()).await;
            })*
        }
    };
}
pub(crate) use on_every_store;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Document {
    view: Vec<weir_features::ViewConfig>,
}

pub(crate) fn configs(toml: &str) -> Vec<weir_features::ViewConfig> {
    weir_config::parse::<Document>(&PathBuf::from("weir.toml"), toml).unwrap().view
}

pub(crate) fn views(toml: &str) -> Views {
    Views::new(&configs(toml)).unwrap()
}

/// Numbers that look random and are the same in every run (xorshift, G. Marsaglia 2003).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
