//! Sends the bodies of a file in turn over HTTP/2 and prints one line of figures.
//!
//! wrk speaks HTTP/1.1 only, and Debian's h2load repeats one body: a server that sees the same
//! body again and again is faster than any real one. Here too because wrk cannot send at a given
//! rate: with `--rate` a request's time counts from when it was due, not from when it was sent,
//! so that a server which stalls is charged for everybody who had to wait.
//!
//! One thread, one core.

mod arguments;
mod client;
mod frames;
mod measure;

use anyhow::Result;

use arguments::Arguments;

fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    // Sockets are looked at often: the pacer keeps the thread busy between requests.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(8).build()?;
    runtime.block_on(measure::run(arguments))
}
