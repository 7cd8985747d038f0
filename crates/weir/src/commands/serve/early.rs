//! SIGTERM and SIGINT while models load, before there is a server that could drain.
//!
//! Elsewhere the system ends a process that has not asked for these signals, but not the first process
//! of a container: it would load on until whoever stops it loses patience and kills it.

use std::{
    future, process,
    thread::{self, JoinHandle},
};

use anyhow::Context;
use tokio::{runtime::Builder, sync::oneshot};

use super::Ending;

/// What a shell reports for a process that SIGTERM or SIGINT ended: 128 and the signal's number.
const TERMINATED: i32 = 128 + 15;
const INTERRUPTED: i32 = 128 + 2;

/// Ends the process at a signal, until it is told to end itself.
#[derive(Debug)]
pub(super) struct Early {
    /// Dropped to end it.
    over: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Early {
    /// From here on signals are for those who listen by now. Blocks until the thread let go: one that
    /// comes later must not find both.
    pub(super) fn end(self) {
        drop(self.over);
        // It does not panic; if it did, it would have let go as well.
        let _ = self.thread.join();
    }
}

/// Listens on a thread of its own: the one that loads does nothing else meanwhile.
pub(super) fn listen() -> anyhow::Result<Early> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (sender, over) = oneshot::channel::<()>();
    let ending = {
        let _inside = runtime.enter();
        Ending::listen()?
    };
    let thread = thread::Builder::new().name("weir-early".into());
    let thread = thread.spawn(move || runtime.block_on(until(over, ending)));
    Ok(Early { over: sender, thread: thread.context("no thread for signals")? })
}

/// Ends the process at a signal; returns once it is over and there was none.
async fn until(over: oneshot::Receiver<()>, mut ending: Ending) {
    tokio::select! {
        _ = over => {}
        code = code(&mut ending) => process::exit(code),
    }
    // One that came before the others listened is known here alone.
    tokio::select! {
        biased;
        code = code(&mut ending) => process::exit(code),
        () = future::ready(()) => {}
    }
}

/// The status that the next signal ends the process with.
async fn code(ending: &mut Ending) -> i32 {
    tokio::select! {
        _ = ending.term.recv() => TERMINATED,
        _ = ending.interrupt.recv() => INTERRUPTED,
    }
}
