//! Forgetting on demand.
//!
//! For each model, version and tag there is a token in Redis, at `p/…`, which a purge replaces by a
//! later one. The tokens of a version, and of the versions that it asks, make its *epoch*, which is
//! part of its keys there: what was stored before a purge is not found after it, also where a slow
//! replica stores it later. So a purge is done when its token is written, and deleting what was
//! stored only makes room. Of two tokens the later one counts: a Redis that lost the last one, or had
//! it never because it was a replica that lagged, is told it again by whoever knows it. Each replica
//! looks at the tokens every [`purge_interval`](super::CacheConfig::purge_interval); where an epoch
//! changed, it drops what it has in memory. Until it has seen the tokens once it does not use Redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;
use weir_artifact::ModelSpec;
use weir_types::{ModelName, Version, unique};

use super::{
    core::Core,
    shared::Shared,
    tier::{Tier, TierEntry, TierError},
};
use crate::{ServedVersion, stored::checksum};

/// Longest that a purge deletes in Redis before it answers; what is left then is found by nobody, and
/// ends with its ttl.
const LONGEST_DELETION: Duration = Duration::from_secs(5);

/// What is to be forgotten: with a version, all that was computed with its help.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Entries that left Redis; `None` without one. The text says why it could not be told: then
    /// other replicas do not know of the purge either.
    pub redis: Option<Result<u64, String>>,
    /// Why entries are left in Redis, if they are; nobody finds them, and they end with their ttl.
    pub left: Option<String>,
}

/// Tokens as they were seen last, by their keys.
pub(super) type Tokens = BTreeMap<Vec<u8>, Bytes>;

/// All that a version's entries are forgotten by.
pub(super) type Scopes = BTreeSet<PurgeScope>;

/// Those of a version: it, its model and its tags, and the same of all versions that it asks.
pub(super) fn scopes(spec: &ModelSpec, members: &[Arc<ServedVersion>]) -> Scopes {
    let mut scopes = Scopes::new();
    collect(spec, members, &mut scopes);
    scopes
}

fn collect(spec: &ModelSpec, members: &[Arc<ServedVersion>], scopes: &mut Scopes) {
    // Each version once, in however many ways it is asked.
    if scopes.insert(PurgeScope::Version(spec.name.clone(), spec.version.clone())) {
        scopes.insert(PurgeScope::Model(spec.name.clone()));
        let tags = spec.cache.iter().flat_map(|table| &table.tags);
        scopes.extend(tags.map(|tag| PurgeScope::Tag(tag.clone())));
        members.iter().for_each(|member| collect(&member.spec, &member.members, scopes));
    }
}

impl PurgeScope {
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
    fn tokens(&self) -> impl Iterator<Item = Vec<u8>> {
        self.scopes.iter().map(PurgeScope::key)
    }
}

pub(super) async fn purge(shared: &Arc<Shared>, scope: &PurgeScope) -> Purged {
    // Also what is left of versions that are served no more: they may be again.
    let versions = shared.versions(scope);
    let memory = versions.iter().map(|((model, _), counters)| shared.forget(model, counters)).sum();
    let Some(tier) = &shared.tier else { return Purged { memory, redis: None, left: None } };
    if let Err(error) = tell(shared, tier, scope).await {
        return Purged { memory, redis: Some(Err(error.to_string())), left: None };
    }
    let mut deleted = 0;
    let prefixes = prefixes(scope, versions.into_iter().map(|(version, _)| version));
    let left = match timeout(LONGEST_DELETION, delete(tier, &prefixes, &mut deleted)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("deleting took more than {LONGEST_DELETION:?}")),
    };
    Purged { memory, redis: Some(Ok(deleted)), left }
}

/// Tells all replicas, this one first.
async fn tell(shared: &Shared, tier: &Arc<dyn Tier>, scope: &PurgeScope) -> Result<(), TierError> {
    let value = next_token(shared, tier, scope.key()).await?;
    tier.set_many(&[TierEntry { key: scope.key(), value, ttl: None, if_absent: false }]).await?;
    look(shared, tier).await;
    Ok(())
}

/// A token that is later than all that are known, whatever the clocks of other replicas say.
async fn next_token(shared: &Shared, tier: &Arc<dyn Tier>, key: Vec<u8>) -> Result<Bytes, TierError> {
    let known = shared.tokens().get(&key).cloned();
    let there = tier.get_each(&[key]).await.pop().transpose()?.flatten();
    let last = [known, there].iter().flatten().map(time_of).max().unwrap_or(0);
    let time = u64::try_from(shared.wall()).unwrap_or(0).max(last.saturating_add(1));
    Ok([time.to_be_bytes(), unique().to_be_bytes()].concat().into())
}

/// Milliseconds since 1970 when a token was made, or later; 0 of what is none.
fn time_of(token: &Bytes) -> u64 {
    let bytes = token.first_chunk::<8>().filter(|_| token.len() == 16);
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// What the keys of all entries to delete begin with, nothing twice: each costs a look at all keys.
fn prefixes(scope: &PurgeScope, versions: impl Iterator<Item = (ModelName, Version)>) -> Vec<String> {
    let whole = match scope {
        PurgeScope::Model(model) => Some(format!("c/{model}/")),
        PurgeScope::Version(model, version) => Some(format!("c/{model}/{version}/")),
        PurgeScope::Tag(_) => None,
    };
    let each = versions.map(|(model, version)| format!("c/{model}/{version}/"));
    let others = each.filter(|prefix| !whole.as_ref().is_some_and(|whole| prefix.starts_with(whole)));
    let others: Vec<_> = others.collect();
    whole.into_iter().chain(others).collect()
}

async fn delete(tier: &Arc<dyn Tier>, prefixes: &[String], deleted: &mut u64) -> Result<(), TierError> {
    for prefix in prefixes {
        *deleted += tier.delete_matching(prefix.as_bytes()).await?;
    }
    Ok(())
}

/// Looks at the tokens again and again, for as long as there is a cache.
pub(super) async fn watch(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let pause = shared.config().purge_interval.get();
        if let Some(tier) = shared.tier.clone() {
            look(&shared, &tier).await;
        }
        drop(shared);
        tokio::time::sleep(pause).await;
    }
}

/// Looks at the tokens of all versions; where an epoch changed, memory is emptied.
async fn look(shared: &Shared, tier: &Arc<dyn Tier>) {
    // One look at a time: an older one that ends later would bring back what it saw.
    let _alone = shared.looking.lock().await;
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
            let there = value.ok()?;
            let last = known.get(&key).cloned();
            // Evicted, lost with a server, or unknown to the one that took over: what was purged
            // must stay so.
            if let Some(last) = last.filter(|last| is_later(last, there.as_ref())) {
                let if_absent = there.is_none();
                lost.push(TierEntry { key: key.clone(), value: last.clone(), ttl: None, if_absent });
                return Some((key, Some(last)));
            }
            if let Some(token) = &there {
                known.insert(key.clone(), token.clone());
            }
            Some((key, there))
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
            shared.forget(&core.spec.name, &core.counters);
        }
    }
}

/// Whether the token that was seen `last` was made after the one that is `there`; one of no age is
/// older than all.
fn is_later(last: &Bytes, there: Option<&Bytes>) -> bool {
    let order = |token: &Bytes| (time_of(token), token.clone());
    there.is_none_or(|there| order(last) > order(there))
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
    Some(checksum(&[&all]))
}
