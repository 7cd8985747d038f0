//! Forgetting on demand.
//!
//! For each model, version and tag there is a token in Redis, at `p/…`, which a purge replaces.
//! The tokens of a version make its *epoch*, which is part of its keys there: what was stored
//! before a purge is not found after it, also where a slow replica stores it later. Each replica
//! looks at the tokens every [`purge_interval`](super::CacheConfig::purge_interval); where an epoch
//! changed, it drops what it has in memory. Until it has seen the tokens once it does not use Redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use weir_types::{ModelName, Version};

use super::{
    core::Core,
    identity::checksum,
    shared::Shared,
    tier::{Tier, TierEntry, TierError},
};

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PurgeScope {
    /// All versions of a model.
    Model(ModelName),
    /// One version of a model.
    Version(ModelName, Version),
    /// All models whose `[cache] tags` have this one.
    Tag(String),
}

/// What a purge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Entries that left this process's memory.
    pub memory: u64,
    /// Entries that left Redis; `None` without one. The text says why they could not be reached:
    /// then other replicas do not know of the purge either.
    pub redis: Option<Result<u64, String>>,
}

/// Tokens as they were seen last, by their keys.
pub(super) type Tokens = BTreeMap<Vec<u8>, Bytes>;

impl PurgeScope {
    fn includes(&self, core: &Core) -> bool {
        match self {
            PurgeScope::Model(model) => core.spec.name == *model,
            PurgeScope::Version(model, version) => core.spec.name == *model && core.spec.version == *version,
            PurgeScope::Tag(tag) => core.table.tags.contains(tag),
        }
    }

    /// Where its token is.
    fn key(&self) -> Vec<u8> {
        match self {
            PurgeScope::Model(model) => format!("p/m/{model}"),
            PurgeScope::Version(model, version) => format!("p/v/{model}/{version}"),
            PurgeScope::Tag(tag) => format!("p/t/{tag}"),
        }
        .into_bytes()
    }
}

impl Core {
    /// Keys of the tokens that make the version's epoch.
    fn tokens(&self) -> Vec<Vec<u8>> {
        let (model, version) = (self.spec.name.clone(), self.spec.version.clone());
        let tags = self.table.tags.iter().map(|tag| PurgeScope::Tag(tag.clone()));
        let scopes = [PurgeScope::Version(model.clone(), version), PurgeScope::Model(model)];
        scopes.into_iter().chain(tags).map(|scope| scope.key()).collect()
    }
}

pub(super) async fn purge(shared: &Arc<Shared>, scope: &PurgeScope) -> Purged {
    let cores: Vec<_> = shared.cores().into_iter().filter(|core| scope.includes(core)).collect();
    let memory = cores.iter().map(|core| core.forget()).sum();
    let redis = match &shared.tier {
        Some(tier) => {
            Some(purge_shared(shared, tier, scope, &cores).await.map_err(|error| error.to_string()))
        }
        None => None,
    };
    Purged { memory, redis }
}

async fn purge_shared(
    shared: &Arc<Shared>,
    tier: &Arc<dyn Tier>,
    scope: &PurgeScope,
    cores: &[Arc<Core>],
) -> Result<u64, TierError> {
    let token = RandomState::new().hash_one(shared.wall()).to_le_bytes().to_vec();
    let entry = TierEntry { key: scope.key(), value: token.into(), ttl: None, if_absent: false };
    tier.set_many(&[entry]).await?;
    look(shared, tier).await;
    let prefixes: BTreeSet<String> = match scope {
        PurgeScope::Model(model) => [format!("c/{model}/")].into(),
        PurgeScope::Version(model, version) => [format!("c/{model}/{version}/")].into(),
        PurgeScope::Tag(_) => {
            cores.iter().map(|c| format!("c/{}/{}/", c.spec.name, c.spec.version)).collect()
        }
    };
    let mut deleted = 0;
    for prefix in prefixes {
        deleted += tier.delete_matching(prefix.as_bytes()).await?;
    }
    Ok(deleted)
}

/// Looks at the tokens again and again, for as long as there is a cache.
pub(super) async fn watch(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let pause = shared.config.purge_interval.get();
        if let Some(tier) = shared.tier.clone() {
            look(&shared, &tier).await;
        }
        drop(shared);
        tokio::time::sleep(pause).await;
    }
}

/// Looks at the tokens of all versions; where an epoch changed, memory is emptied.
async fn look(shared: &Shared, tier: &Arc<dyn Tier>) {
    let cores: Vec<_> = shared.cores().into_iter().filter(|core| core.tier().is_some()).collect();
    let keys: BTreeSet<Vec<u8>> = cores.iter().flat_map(|core| core.tokens()).collect();
    let keys: Vec<Vec<u8>> = keys.into_iter().collect();
    if keys.is_empty() {
        return;
    }
    let values = tier.get_each(&keys).await;
    let mut lost = Vec::new();
    let seen: BTreeMap<Vec<u8>, Option<Bytes>> = {
        let mut known = shared.tokens();
        let seen = keys.into_iter().zip(values).filter_map(|(key, value)| {
            let value = value.ok()?;
            match (&value, known.get(&key)) {
                // Evicted, or lost with a server: what was purged must stay so.
                (None, Some(token)) => {
                    lost.push(TierEntry {
                        key: key.clone(),
                        value: token.clone(),
                        ttl: None,
                        if_absent: true,
                    });
                    return Some((key, Some(token.clone())));
                }
                (Some(token), _) => drop(known.insert(key.clone(), token.clone())),
                (None, None) => {}
            }
            Some((key, value))
        });
        seen.collect()
    };
    if !lost.is_empty() {
        // Tried again with the next look.
        let _ = tier.set_many(&lost).await;
    }
    for core in cores {
        if let Some(epoch) = epoch(&core, &seen)
            && core.set_epoch(epoch)
        {
            core.forget();
        }
    }
}

/// The epoch of a version; `None` where not all of its tokens were seen.
fn epoch(core: &Core, seen: &BTreeMap<Vec<u8>, Option<Bytes>>) -> Option<u64> {
    let mut all = Vec::new();
    for key in core.tokens() {
        let token = seen.get(&key)?.as_deref().unwrap_or_default();
        all.extend_from_slice(&key);
        all.push(0);
        all.extend_from_slice(&(token.len() as u64).to_le_bytes());
        all.extend_from_slice(token);
    }
    Some(checksum(&all))
}
