//! What goes on when nobody waits.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{runtime::Handle, task::JoinSet};

/// Most tasks at once; what would be one more is left out.
const MAX_TASKS: usize = 256;

/// Tasks that end with it.
#[derive(Default)]
pub(super) struct Background(Mutex<State>);

#[derive(Default)]
struct State {
    runtime: Option<Handle>,
    tasks: JoinSet<()>,
}

impl Background {
    /// Tasks run on `runtime` from now on. Whether this is the first time.
    pub(super) fn start(&self, runtime: &Handle) -> bool {
        self.state().runtime.replace(runtime.clone()).is_none()
    }

    /// Whether `task` was started.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let state = &mut *self.state();
        while state.tasks.try_join_next().is_some() {}
        let Some(runtime) = state.runtime.as_ref().filter(|_| state.tasks.len() < MAX_TASKS) else {
            return false;
        };
        state.tasks.spawn_on(task, runtime);
        true
    }

    /// Ends all tasks, and starts no more.
    pub(super) fn stop(&self) {
        let state = &mut *self.state();
        state.runtime = None;
        state.tasks.abort_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
