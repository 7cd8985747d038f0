//! Redis as the tier that replicas share.

use weir_clients::redis::{Redis, RedisError, Set, SetCondition};

use super::tier::{Tier, TierEntry, TierError, TierFuture};

impl Tier for Redis {
    fn get_each<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> TierFuture<'a, Vec<Result<Option<bytes::Bytes>, TierError>>> {
        Box::pin(async move {
            let values = Redis::get_each(self, keys).await;
            values.into_iter().map(|value| value.map_err(told)).collect()
        })
    }

    fn set_many<'a>(&'a self, entries: &'a [TierEntry]) -> TierFuture<'a, Result<Vec<bool>, TierError>> {
        Box::pin(async move {
            let sets: Vec<Set<'a>> = entries.iter().map(set).collect();
            Redis::set_many(self, &sets).await.map_err(told)
        })
    }

    fn store_each<'a>(&'a self, entries: &'a [TierEntry]) -> TierFuture<'a, Vec<Result<(), TierError>>> {
        Box::pin(async move {
            let sets: Vec<Set<'a>> = entries.iter().map(set).collect();
            let stored = Redis::store_each(self, &sets).await;
            stored.into_iter().map(|stored| stored.map(drop).map_err(told)).collect()
        })
    }

    fn delete_matching<'a>(&'a self, prefix: &'a [u8]) -> TierFuture<'a, Result<u64, TierError>> {
        Box::pin(async move { Redis::delete_matching(self, prefix).await.map_err(told) })
    }
}

fn set(entry: &TierEntry) -> Set<'_> {
    let condition = if entry.if_absent { SetCondition::IfAbsent } else { SetCondition::Always };
    Set { key: &entry.key, value: &entry.value, ttl: entry.ttl, condition }
}

fn told(error: RedisError) -> TierError {
    TierError(error.to_string())
}
