//! The cache with a real model and a real Redis.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use weir_clients::redis::{Redis, RedisConfig};
use weir_serving::{
    Cache, CacheConfig, CacheMode, CacheStats, Done, Job, Loader, PurgeScope, ServedVersion, ServingSnapshot,
    Tier,
};
use weir_testbed::RedisServer;
use weir_types::{Batch, Clock, Deadline, ErrorCode, Outputs, SystemClock, Tensor, TensorData};

use crate::support::Models;

/// Two replicas are two caches and two snapshots of the same folder.
struct Replica {
    cache: Cache,
    version: Arc<ServedVersion>,
}

fn version(loader: &Loader) -> Arc<ServedVersion> {
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    snapshot.version("m", None).unwrap().clone()
}

impl Replica {
    /// One that knows what was purged.
    async fn new(models: &Models, redis: &RedisServer) -> Self {
        Self::with(models, RedisConfig::single(redis.url())).await
    }

    async fn with(models: &Models, config: RedisConfig) -> Self {
        let tier: Arc<dyn Tier> = Arc::new(Redis::new(&config).unwrap());
        let config = CacheConfig {
            purge_interval: weir_config::HumanDuration::from_millis(20),
            ..CacheConfig::default()
        };
        let cache = Cache::sharing(config, Arc::new(SystemClock), tier);
        let replica = Self { version: version(&models.caching(cache.clone())), cache };
        replica.cache.start(&tokio::runtime::Handle::current());
        replica.until(|stats| stats.redis.lookups > 0).await;
        replica
    }

    /// Asks until the statistics are so.
    async fn until(&self, so: impl Fn(CacheStats) -> bool) {
        for n in 0.. {
            assert!(n < 2_000, "{:?}", self.stats());
            self.ask(&[-1 - n]).await;
            if so(self.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks for one row until Redis has it.
    async fn hits_again(&self) {
        let before = self.stats().redis.hits;
        for n in 0.. {
            assert!(n < 4_000, "Redis is back and not used: {:?}", self.stats());
            self.ask(&[1]).await;
            if self.stats().redis.hits > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ask(&self, rows: &[i32]) -> Done {
        self.version.executor.execute(job(rows)).await.unwrap()
    }

    async fn hits(&self, rows: &[i32]) -> usize {
        self.ask(rows).await.cache.unwrap().hits
    }

    fn stats(&self) -> CacheStats {
        self.version.executor.cached().unwrap().stats()
    }
}

/// Houses by number.
fn job(rows: &[i32]) -> Job {
    let value = |row: &i32, i: usize| (*row as f32) * 0.37 + i as f32;
    let data = rows.iter().flat_map(|row| (0..8).map(move |i| value(row, i))).collect();
    let tensor = Tensor::new(vec![rows.len(), 8], TensorData::Float32(data)).unwrap();
    let deadline = Deadline::after(SystemClock.now(), Duration::from_secs(60));
    Job::new(Batch { rows: rows.len(), inputs: vec![tensor] }, deadline)
}

fn models(table: &str) -> Models {
    let models = Models::new();
    models.add("m", "1");
    models.write("m/1/model.toml", table);
    models
}

#[tokio::test]
async fn replicas_share_what_they_computed_until_it_is_purged() {
    let (models, redis) = (models("[cache]\n"), RedisServer::start());
    let (one, two) = (Replica::new(&models, &redis).await, Replica::new(&models, &redis).await);
    let first = one.ask(&[1, 2]).await.outputs;
    let filled = one.stats().redis.filled;
    one.until(|stats| stats.redis.filled > filled + 1).await;
    let shared = two.ask(&[2, 3, 1]).await;
    assert_eq!(shared.cache.unwrap().hits, 2);
    assert_eq!(shared.outputs.gather_rows(&[2, 0]), first);
    let purged = one.cache.purge(&PurgeScope::Model("m".parse().unwrap())).await;
    assert!(purged.memory > 0 && purged.redis.unwrap().unwrap() > 0);
    assert_eq!(one.hits(&[1]).await, 0);
    // The other one learns of it within its interval.
    let mut n = 0;
    while two.hits(&[1]).await > 0 && two.hits(&[2]).await > 0 {
        n += 1;
        assert!(n < 1_000, "it never learned of the purge");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_redis_that_hangs_or_is_gone_costs_no_answer() {
    let (models, mut redis) = (models("[cache]\ntiers = [\"redis\"]\n"), RedisServer::start());
    let replica = Replica::new(&models, &redis).await;
    redis.stop();
    for row in 0..200 {
        replica.ask(&[row]).await;
    }
    redis.cont();
    replica.hits_again().await;
    redis.kill();
    for row in 0..200 {
        replica.ask(&[row]).await;
    }
    redis.restart();
    replica.hits_again().await;
}

/// Requests for a few rows, about three of ten dropped at some point (four of ten are to be, and
/// some of those have their answer first): every answer is its own rows'.
#[allow(clippy::print_stdout)] // what the long one came to is read with --nocapture
async fn storm(requests: usize) {
    let (models, redis) = (models("[cache]\ntiers = [\"redis\"]\n"), RedisServer::start());
    // Its subject is what is dropped, not what is late: a busy machine must not open the breaker.
    let timeout = weir_config::HumanDuration::from_secs(10);
    let config = RedisConfig { timeout, ..RedisConfig::single(redis.url()) };
    let replica = Arc::new(Replica::with(&models, config).await);
    let plain = version(&models.loader());
    let all: Vec<i32> = (0..200).collect();
    let right: Arc<Outputs> = Arc::new(plain.executor.execute(job(&all)).await.unwrap().outputs);
    let (mut answered, mut dropped) = (0usize, 0usize);
    let (start, lanes) = (Instant::now(), 64);
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let (replica, right) = (replica.clone(), right.clone());
        tasks.spawn(async move {
            let mut counts = (0usize, 0usize);
            let mut random = Random(lane as u64 + 1);
            for _ in 0..requests / lanes {
                let rows: Vec<i32> = (0..1 + random.below(4)).map(|_| random.below(200) as i32).collect();
                let polls = (random.below(100) < 42).then(|| random.below(3) as usize);
                match polled(replica.version.executor.execute(job(&rows)), polls).await {
                    None => counts.1 += 1,
                    Some(Ok(done)) => {
                        let rows: Vec<usize> = rows.iter().map(|row| *row as usize).collect();
                        assert_eq!(done.outputs, right.gather_rows(&rows), "somebody else's answer");
                        counts.0 += 1;
                    }
                    // The model has a queue of 8, and a busy machine lets it grow.
                    Some(Err(error)) => assert_eq!(error.code, ErrorCode::Overloaded, "{error}"),
                }
            }
            counts
        });
    }
    while let Some(counts) = tasks.join_next().await {
        let (a, d) = counts.unwrap();
        (answered, dropped) = (answered + a, dropped + d);
    }
    let stats = replica.stats();
    assert!(
        dropped > 0 && stats.redis.hits > 0 && stats.redis.corrupt == 0 && answered > requests / 2,
        "{dropped} dropped, {stats:?}"
    );
    println!("{answered} answered, {dropped} dropped in {:?}: {stats:?}", start.elapsed());
}

/// The result of `future`, or nothing where it is dropped after `polls` polls.
async fn polled<T>(future: impl Future<Output = T>, polls: Option<usize>) -> Option<T> {
    let mut left = polls;
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        if left == Some(0) {
            return Poll::Ready(None);
        }
        left = left.map(|polls| polls - 1);
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// A linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_dropped_requests_swaps_no_answer() {
    storm(10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a million requests take minutes"]
async fn a_storm_of_a_million_dropped_requests_swaps_no_answer() {
    storm(1_000_000).await;
}

#[tokio::test]
async fn a_graph_and_its_member_each_keep_what_they_are_asked() {
    let models = models("[cache]\n");
    models.write("g/model.toml", "[[graph.step]]\nmodel = 'm'\n\n[cache]\n");
    let cache = Cache::new(CacheConfig::default(), Arc::new(SystemClock));
    let snapshot = models.caching(cache.clone()).load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    let [graph, member] = ["g", "m"].map(|name| snapshot.version(name, None).unwrap().executor.clone());
    let counts = || {
        let stats = [&graph, &member].map(|executor| executor.cached().unwrap().stats());
        stats.map(|stats| (stats.hit, stats.miss))
    };
    let first = graph.execute(job(&[1, 2])).await.unwrap();
    assert_eq!(counts(), [(0, 1), (0, 1)], "g, then m, which it asked");
    assert_eq!(member.execute(job(&[2])).await.unwrap().cache.unwrap().hits, 1);
    let again = graph.execute(job(&[2, 1])).await.unwrap();
    assert_eq!((again.cache.unwrap().hits, again.outputs), (2, first.outputs.gather_rows(&[1, 0])));
    assert_eq!(counts(), [(1, 1), (1, 1)], "m was not asked again");
    let none = graph.execute(Job { cache: CacheMode::NoStore.into(), ..job(&[7]) }).await.unwrap();
    assert_eq!((none.cache, counts()), (None, [(1, 1), (1, 1)]), "nobody stored it");
    // What the graph keeps was computed with the member's help.
    let purged = cache.purge(&PurgeScope::Model("m".parse().unwrap())).await;
    assert_eq!(purged.memory, 4);
    assert_eq!(graph.execute(job(&[1])).await.unwrap().cache.unwrap().hits, 0);
    let purged = cache.purge(&PurgeScope::Model("g".parse().unwrap())).await;
    assert_eq!(purged.memory, 1, "and not the other way round");
    assert_eq!(member.execute(job(&[1])).await.unwrap().cache.unwrap().hits, 1);
}
