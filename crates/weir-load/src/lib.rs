//! A load generator that tells the truth: requests are sent when they are due, whatever the
//! server does, and latency counts from the moment a request was due.
//!
//! [`prepare`] looks at a server and makes requests for it, [`run`] sends them, [`find_max`]
//! looks for the highest rate that keeps an objective, [`report`] writes what was measured as a
//! page.

mod answer;
mod body;
mod discover;
mod drive;
mod find;
mod machine;
mod outcome;
mod plan;
mod prepare;
mod record;
pub mod report;
mod result;
mod rng;
mod schedule;
mod slo;
mod transport;

use std::{io, sync::Arc};

pub use answer::Expected;
pub use drive::{Glance, Progress};
pub use find::{Found, Step, Verdict, find_max, judge};
pub use machine::Machine;
pub use outcome::Outcome;
pub use plan::{Face, Plan, Request, Shape, Slot, SlotUnit, Source, Target, Traffic};
pub use prepare::{Bodies, Options, Prepared, prepare};
pub use result::{Generator, Latency, Measured, Point};
pub use rng::Rng;
pub use schedule::{Spread, Stage, parse_rate, parse_stages};
pub use slo::{Objective, Threshold};
pub use transport::STREAMS;

/// Sends a load and measures it. `watch` sees the counters about twice a second.
///
/// Needs a thread that may wait; two more are started at most.
///
/// # Errors
/// When a thread or its runtime cannot be made. A server that does not answer is a result.
pub fn run(plan: &Plan, watch: impl FnMut(&Progress)) -> io::Result<Measured> {
    let progress = Arc::new(Progress::default());
    let shares = drive::run(plan, &progress, watch)?;
    Ok(Measured::new(plan, shares))
}
