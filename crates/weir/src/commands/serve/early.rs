//! SIGTERM and SIGINT while models load, before there is a server that could drain.
//!
//! Elsewhere the system ends a process that has not asked for these signals, but not the first process
//! of a container: it would load on until whoever stops it loses patience and kills it.

use std::{process, thread};

use anyhow::Context;
use tokio::{runtime::Builder, sync::oneshot};

use super::Ending;

/// What a shell reports for a process that SIGTERM or SIGINT ended: 128 and the signal's number.
const TERMINATED: i32 = 128 + 15;
const INTERRUPTED: i32 = 128 + 2;

/// Ends the process at a signal, until this is dropped.
#[derive(Debug)]
pub(super) struct Early(#[allow(dead_code)] oneshot::Sender<()>); // what counts is when it is dropped

/// Listens on a thread of its own: the one that loads does nothing else meanwhile.
pub(super) fn listen() -> anyhow::Result<Early> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (sender, over) = oneshot::channel::<()>();
    let mut ending = {
        let _inside = runtime.enter();
        Ending::listen()?
    };
    let wait = async move {
        tokio::select! {
            _ = ending.term.recv() => process::exit(TERMINATED),
            _ = ending.interrupt.recv() => process::exit(INTERRUPTED),
            _ = over => {}
        }
    };
    let thread = thread::Builder::new().name("weir-early".into());
    thread.spawn(move || runtime.block_on(wait)).context("no thread for signals")?;
    Ok(Early(sender))
}
