//! What a reload fetches: some at once, within one time for all, and none if one fails.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{runtime::Builder, sync::Semaphore, task::JoinSet, time::timeout};

use super::{Archives, Inner, Kept, THREADS, Wanted};

impl Inner {
    /// Each of `wanted`, in its order, some at once; the first that fails ends it.
    pub(super) fn bring(
        self: &Arc<Self>,
        wanted: &[Wanted],
        current: &Archives,
    ) -> Result<Vec<Arc<Kept>>, String> {
        let (mut here, mut waiting) = (BTreeMap::new(), BTreeMap::new());
        for (index, wanted) in wanted.iter().enumerate() {
            match current.here(&wanted.sha256) {
                Some(kept) => drop(here.insert(index, kept)),
                None => drop(waiting.insert(index, wanted.clone())),
            }
        }
        if !waiting.is_empty() {
            let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
            let runtime = runtime.map_err(|e| format!("no runtime to fetch on: {e}"))?;
            let all = self.clone().fetch_all(&mut here, &mut waiting);
            let result = runtime.block_on(async { timeout(self.reload_timeout, all).await });
            // A look-up of a name that hangs cannot be ended, and is not waited for.
            runtime.shutdown_background();
            result.unwrap_or_else(|_| Err(self.too_long(&waiting)))?;
        }
        Ok(here.into_values().collect())
    }

    fn too_long(&self, waiting: &BTreeMap<usize, Wanted>) -> String {
        let names: Vec<_> = waiting.values().map(|wanted| wanted.from.to_string()).collect();
        let most = self.reload_timeout;
        format!("not here within `fetch.reload_timeout` ({most:?}): {}", names.join(", "))
    }

    /// Moves what is `waiting` to what is `here`, as it comes.
    async fn fetch_all(
        self: Arc<Self>,
        here: &mut BTreeMap<usize, Arc<Kept>>,
        waiting: &mut BTreeMap<usize, Wanted>,
    ) -> Result<(), String> {
        let turns = Arc::new(Semaphore::new(THREADS));
        let mut coming = JoinSet::new();
        for (&index, wanted) in &*waiting {
            let (inner, turns, wanted) = (self.clone(), turns.clone(), wanted.clone());
            coming.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let kept = inner.fetch(&wanted).await;
                kept.map(|kept| (index, kept)).map_err(|why| format!("{}: {why}", wanted.from))
            });
        }
        while let Some(came) = coming.join_next().await {
            let (index, kept) = came.map_err(|e| e.to_string())??;
            waiting.remove(&index);
            here.insert(index, Arc::new(kept));
        }
        Ok(())
    }
}
