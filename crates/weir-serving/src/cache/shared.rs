//! What all models of a server share: budget, clock, Redis, and who they are.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use weir_artifact::{CacheTable, CacheTier, ModelSpec};
use weir_engine::EngineInfo;
use weir_types::{Clock, ModelName, Version};

use super::{
    CacheConfig, Cached, PurgeScope, Purged,
    background::Background,
    core::Core,
    fill::{self, Fills},
    identity::{KeyedHash, ServingDigest},
    memory::Memory,
    purge::{self, Scopes, Tokens},
    stats::Counters,
    tier::Tier,
};
use crate::{Executor, ServedVersion};

/// The cache of a server: what all its models keep. Cheap to clone. What goes on in the
/// background ends with the last clone.
#[derive(Clone)]
pub struct Cache(Arc<Alive>);

/// Held by the clones alone, and not by models: so that background work ends though a request
/// still holds its model.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.background.stop();
    }
}

pub(super) struct Shared {
    config: RwLock<CacheConfig>,
    pub(super) clock: Arc<dyn Clock>,
    /// Times of entries are counted from here.
    start: Instant,
    /// Of keys in memory.
    pub(super) hash: KeyedHash,
    /// Of keys in the shared tier.
    pub(super) shared_hash: KeyedHash,
    pub(super) tier: Option<Arc<dyn Tier>>,
    pub(super) fills: Arc<Fills>,
    pub(super) background: Background,
    /// For models without a budget of their own.
    memory: Arc<Memory>,
    known: Mutex<Known>,
    tokens: Mutex<Tokens>,
    /// Held for as long as somebody looks at the tokens.
    pub(super) looking: tokio::sync::Mutex<()>,
    random: RandomState,
    draws: AtomicU64,
}

/// What outlives a reload, for as long as an entry or a model is left of it.
#[derive(Default)]
struct Known {
    budgets: BTreeMap<ModelName, Weak<Memory>>,
    counters: BTreeMap<(ModelName, Version), (Weak<Counters>, Arc<Scopes>)>,
    cores: Vec<Weak<Core>>,
}

impl Cache {
    /// A cache as `config` says, of this process alone.
    pub fn new(config: CacheConfig, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Alive(Arc::new(Shared::new(config, clock, None)))))
    }

    /// The same with a `tier` that it shares with other replicas.
    pub fn sharing(config: CacheConfig, clock: Arc<dyn Clock>, tier: Arc<dyn Tier>) -> Self {
        Self(Arc::new(Alive(Arc::new(Shared::new(config, clock, Some(tier))))))
    }

    /// The same where all rows have one hash.
    #[cfg(test)]
    pub(super) fn colliding(config: CacheConfig, clock: Arc<dyn Clock>) -> Self {
        let mut shared = Shared::new(config, clock, None);
        (shared.hash, shared.shared_hash) = (KeyedHash::Same, KeyedHash::Same);
        Self(Arc::new(Alive(Arc::new(shared))))
    }

    /// Goes by `config` from now on. What is kept beyond a smaller budget is dropped at once. Whether a model
    /// keeps answers at all is settled when it is loaded: `enabled` and `all` count for those to come.
    pub fn reconfigure(&self, config: CacheConfig) {
        let shared = &self.0.0;
        shared.memory.set_budget(config.budget.get());
        *shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Starts what goes on in the background, on `runtime`: stale entries are computed anew,
    /// Redis is filled and asked what was purged. Without it, none of that happens.
    pub fn start(&self, runtime: &tokio::runtime::Handle) {
        let shared = &self.0.0;
        if !shared.background.start(runtime) {
            return;
        }
        if let Some(tier) = &shared.tier {
            shared.background.spawn(fill::work(shared.fills.clone(), tier.clone()));
            shared.background.spawn(purge::watch(Arc::downgrade(shared)));
        }
    }

    /// Forgets what `scope` says: here at once, in Redis before it returns, and in the memory of
    /// other replicas within [`CacheConfig::purge_interval`] of their reaching Redis. What is
    /// being computed meanwhile is not stored.
    pub async fn purge(&self, scope: &PurgeScope) -> Purged {
        purge::purge(&self.0.0, scope).await
    }

    /// `executor`, keeping its answers if that is wanted of the model.
    pub fn wrap(
        &self,
        spec: &Arc<ModelSpec>,
        engine: &EngineInfo,
        members: &[Arc<ServedVersion>],
        executor: Arc<dyn Executor>,
    ) -> Arc<dyn Executor> {
        let remote = is_remote(engine) || members.iter().any(|member| asks_others(member));
        let Some(table) = self.0.0.wanted(spec, remote) else { return executor };
        let digest = ServingDigest::new(&spec.digest, (engine.name, &engine.version), members);
        let core = Core::new(&self.0.0, spec.clone(), members, digest, table, executor);
        Arc::new(Cached(core))
    }
}

fn is_remote(engine: &EngineInfo) -> bool {
    engine.name == "remote"
}

fn asks_others(version: &ServedVersion) -> bool {
    is_remote(&version.engine) || version.members.iter().any(|member| asks_others(member))
}

impl Shared {
    fn new(config: CacheConfig, clock: Arc<dyn Clock>, tier: Option<Arc<dyn Tier>>) -> Self {
        Self {
            memory: Arc::new(Memory::new(config.budget.get())),
            start: clock.now(),
            hash: KeyedHash::random(),
            shared_hash: KeyedHash::shared(),
            fills: Arc::default(),
            background: Background::default(),
            known: Mutex::default(),
            tokens: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            random: RandomState::new(),
            draws: AtomicU64::new(0),
            config: RwLock::new(config),
            clock,
            tier,
        }
    }

    /// What the operator wants now.
    pub(super) fn config(&self) -> CacheConfig {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How answers of a model are kept, if they are.
    fn wanted(&self, spec: &ModelSpec, remote: bool) -> Option<CacheTable> {
        let config = self.config();
        if !config.enabled || !spec.deterministic || spec.stateful {
            return None;
        }
        let all = config.all && !remote;
        spec.cache.clone().or_else(|| all.then(CacheTable::default))
    }

    /// Milliseconds of the cache's clock.
    pub(super) fn now(&self) -> i64 {
        self.millis_at(self.clock.now())
    }

    /// The same at some instant.
    pub(super) fn millis_at(&self, instant: Instant) -> i64 {
        millis(instant.saturating_duration_since(self.start))
    }

    /// A number from 0 to 1, at random.
    pub(super) fn chance(&self) -> f64 {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        self.random.hash_one(draw) as f64 / u64::MAX as f64
    }

    /// The tokens of purges that were seen last.
    pub(super) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since 1970.
    pub(super) fn wall(&self) -> i64 {
        millis(self.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// Where entries of a model are kept in memory.
    pub(super) fn memory(&self, model: &ModelName, table: &CacheTable) -> Option<Arc<Memory>> {
        if !table.has(CacheTier::Memory) {
            return None;
        }
        let Some(budget) = table.budget else { return Some(self.memory.clone()) };
        let mut known = self.known();
        let own = known.budgets.get(model).and_then(Weak::upgrade);
        let own = own.unwrap_or_else(|| Arc::new(Memory::new(budget.get())));
        own.set_budget(budget.get());
        known.budgets.insert(model.clone(), Arc::downgrade(&own));
        Some(own)
    }

    /// The counters of a version: the same for as long as there is something that they count.
    pub(super) fn counters(&self, spec: &ModelSpec, scopes: &Arc<Scopes>) -> Arc<Counters> {
        let mut known = self.known();
        known.counters.retain(|_, (counters, _)| counters.strong_count() > 0);
        let version = (spec.name.clone(), spec.version.clone());
        let before = known.counters.get(&version).and_then(|(counters, _)| counters.upgrade());
        let counters = before.unwrap_or_default();
        known.counters.insert(version, (Arc::downgrade(&counters), scopes.clone()));
        counters
    }

    /// The versions of which something is kept that `scope` names, and their counters; also those
    /// that are served no more.
    pub(super) fn versions(&self, scope: &PurgeScope) -> Vec<((ModelName, Version), Arc<Counters>)> {
        let known = self.known();
        let named = known.counters.iter().filter(|(_, (_, scopes))| scopes.contains(scope));
        named.filter_map(|(version, (counters, _))| Some((version.clone(), counters.upgrade()?))).collect()
    }

    /// Forgets what is in memory of a version of `model`, also what is being computed; how many
    /// entries there were.
    pub(super) fn forget(&self, model: &ModelName, counters: &Arc<Counters>) -> u64 {
        counters.next_generation();
        // Where a reload gave it a budget of its own, or took it, entries may be in both places.
        let own = self.known().budgets.get(model).and_then(Weak::upgrade);
        own.iter().chain([&self.memory]).map(|memory| memory.drop_of(counters)).sum()
    }

    pub(super) fn join(&self, core: &Arc<Core>) {
        let mut known = self.known();
        // Without Redis nobody else takes those away that are gone.
        known.cores.retain(|core| core.strong_count() > 0);
        known.cores.push(Arc::downgrade(core));
    }

    /// All versions that keep answers.
    pub(super) fn cores(&self) -> Vec<Arc<Core>> {
        let mut known = self.known();
        known.cores.retain(|core| core.strong_count() > 0);
        known.cores.iter().filter_map(Weak::upgrade).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds, which fit for as long as anything lasts.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
