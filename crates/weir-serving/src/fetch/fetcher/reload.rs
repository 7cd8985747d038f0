//! What a reload fetches: some at once, within one time for all, and none if one fails.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{Archives, Inner, Kept, NotFetched, THREADS, Wanted};

/// The archives of a configuration that is not in force yet.
pub struct Bring {
    pub(super) inner: Arc<Inner>,
    pub(super) wanted: Vec<Wanted>,
    /// Those that serve.
    pub(super) current: Archives,
}

/// Archives on their way. Dropped, it ends: what came whole stays in the store, what came in part goes.
pub(crate) struct Bringing {
    wanted: Vec<Wanted>,
    runtime: Option<Runtime>,
}

impl Bring {
    /// The archives, where those that serve are enough.
    ///
    /// # Errors
    /// Itself, where some have to come.
    pub(crate) fn here(self) -> Result<Archives, Self> {
        if self.wanted == self.current.0.wanted {
            // What could not be fetched so far is being tried by those who began to.
            self.current.look_again(self.inner.clock.now());
            return Ok(self.current);
        }
        let here: Option<Vec<_>> =
            self.wanted.iter().map(|wanted| self.current.here(&wanted.sha256)).collect();
        match here {
            Some(here) => Ok(self.inner.settled(self.wanted, here)),
            None => Err(self),
        }
    }

    /// Begins to bring what is missing, in the background. `done` is told once how it went, unless what is
    /// returned is dropped before; it may take `fetch.reload_timeout` and what unpacking takes.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(crate) fn begin(
        self,
        done: impl FnOnce(Result<Archives, NotFetched>) + Send + 'static,
    ) -> Result<Bringing, String> {
        // One more than archives that come at once: unpacking holds a thread, and time has to pass meanwhile.
        let runtime = Builder::new_multi_thread().worker_threads(THREADS + 1).enable_all().build();
        let runtime = runtime.map_err(|e| format!("no runtime to fetch on: {e}"))?;
        let Self { inner, wanted, current } = self;
        let asked = wanted.clone();
        runtime.spawn(async move {
            let kept = inner.clone().bring(&asked, &current).await;
            done(kept.map(|kept| inner.settled(asked, kept)));
        });
        Ok(Bringing { wanted, runtime: Some(runtime) })
    }
}

impl Bringing {
    /// Whether these are the archives that `bring` would bring.
    pub(crate) fn brings(&self, bring: &Bring) -> bool {
        self.wanted == bring.wanted
    }
}

impl Drop for Bringing {
    fn drop(&mut self) {
        // Drops all that is under way. A look-up of a name that hangs cannot be ended, and is not waited for.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Inner {
    /// All are here: what nobody uses may go.
    fn settled(&self, wanted: Vec<Wanted>, kept: Vec<Arc<Kept>>) -> Archives {
        self.store.sweep();
        Archives::all_here(wanted, kept)
    }

    /// Each of `wanted`, in its order, some at once; the first that fails ends it.
    async fn bring(
        self: Arc<Self>,
        wanted: &[Wanted],
        current: &Archives,
    ) -> Result<Vec<Arc<Kept>>, NotFetched> {
        let (mut here, mut waiting) = (BTreeMap::new(), BTreeMap::new());
        for (index, wanted) in wanted.iter().enumerate() {
            match current.here(&wanted.sha256) {
                Some(kept) => drop(here.insert(index, kept)),
                None => drop(waiting.insert(index, wanted.clone())),
            }
        }
        let all = self.clone().fetch_all(&mut here, &mut waiting);
        let result = timeout(self.reload_timeout, all).await;
        result.unwrap_or_else(|_| Err(self.too_long(&waiting)))?;
        Ok(here.into_values().collect())
    }

    fn too_long(&self, waiting: &BTreeMap<usize, Wanted>) -> NotFetched {
        let names: Vec<_> = waiting.values().map(|wanted| wanted.from.to_string()).collect();
        let most = self.reload_timeout;
        let names = names.join(", ");
        let stems: Vec<_> = waiting.values().map(|wanted| wanted.from.stem()).collect();
        let stems = stems.join(", ");
        let full = format!("not here within `fetch.reload_timeout` ({most:?}): {names}");
        NotFetched::passing(format!("not here within `fetch.reload_timeout`: {stems}"), full)
    }

    /// Moves what is `waiting` to what is `here`, as it comes.
    async fn fetch_all(
        self: Arc<Self>,
        here: &mut BTreeMap<usize, Arc<Kept>>,
        waiting: &mut BTreeMap<usize, Wanted>,
    ) -> Result<(), NotFetched> {
        let turns = Arc::new(Semaphore::new(THREADS));
        let mut coming = JoinSet::new();
        for (&index, wanted) in &*waiting {
            let (inner, turns, wanted) = (self.clone(), turns.clone(), wanted.clone());
            coming.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let kept = inner.fetch(&wanted).await;
                kept.map(|kept| (index, kept)).map_err(|why| why.named(&wanted))
            });
        }
        while let Some(came) = coming.join_next().await {
            let (index, kept) =
                came.map_err(|e| NotFetched::passing("fetching was cut off", e.to_string()))??;
            waiting.remove(&index);
            here.insert(index, Arc::new(kept));
        }
        Ok(())
    }
}
