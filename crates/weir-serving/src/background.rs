//! A runtime for what loading asks of executors.

use std::{sync::OnceLock, thread};

use tokio::runtime::{Builder, Handle, Runtime};

/// Runs futures for threads that have no runtime, such as the one that loads models. It lives as
/// long as the loader: connections that an executor opens on it serve later requests too, and
/// would break if the runtime ended before them. Its thread starts with the first use.
#[derive(Debug, Default)]
pub(crate) struct Background(OnceLock<Runtime>);

impl Background {
    /// Does `work`, which may block on the runtime, on a thread of its own: this one may belong
    /// to another runtime already.
    ///
    /// # Errors
    /// Where the system gives no thread, and where `work` panics.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce(&Handle) -> R + Send) -> Result<R, String> {
        let handle = self.handle()?;
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("weir-ask".into());
            let thread = thread.spawn_scoped(scope, || work(&handle));
            let thread = thread.map_err(|e| format!("the system gives no thread: {e}"))?;
            thread.join().map_err(|_| "asking the models was cut off".to_owned())
        })
    }

    fn handle(&self) -> Result<Handle, String> {
        if let Some(runtime) = self.0.get() {
            return Ok(runtime.handle().clone());
        }
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("weir-background").enable_all().build();
        let runtime = runtime.map_err(|e| format!("no runtime to ask models on: {e}"))?;
        Ok(self.0.get_or_init(|| runtime).handle().clone())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // To wait for its thread is forbidden where the last owner is a task.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
