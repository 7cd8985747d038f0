//! `weir top`: what models and servers do, live, from their `/metrics`.

mod cells;
mod figures;
mod histogram;
mod once;
mod replica;
mod screen;
#[cfg(test)]
mod screens;
mod state;
mod terminal;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use anyhow::bail;

use self::{replica::Look, state::State};
use crate::{args::Top, output::Output};

/// Most servers that are watched at once: each has a thread.
const MAX_SERVERS: usize = 256;

pub(crate) fn run(options: &Top, output: &Output) -> anyhow::Result<ExitCode> {
    if options.urls.len() > MAX_SERVERS {
        bail!("{} servers; at most {MAX_SERVERS} are watched at once", options.urls.len());
    }
    // Before the terminal is taken: what is said there is gone with it.
    replica::check(&options.urls)?;
    // Piped, and as JSON, there is no screen to draw on.
    if options.once || output.is_json() || !io::stdout().is_terminal() {
        return once(&options.urls, options.interval, output);
    }
    terminal::run(&options.urls, options.interval)?;
    Ok(ExitCode::SUCCESS)
}

/// Two looks at each server, an interval apart. Fails where none answered both.
fn once(urls: &[String], interval: Duration, output: &Output) -> anyhow::Result<ExitCode> {
    let mut state = State::new(urls);
    let (tell, told) = sync_channel::<(usize, Look)>(urls.len());
    replica::watch(urls, interval, &tell, |number, look| (number, look))?;
    drop(tell);
    let mut looks = vec![0; urls.len()];
    let give_up = Instant::now() + 2 * interval + replica::PATIENCE * 2;
    while looks.iter().any(|looks| *looks < 2) {
        let Ok((number, look)) = told.recv_timeout(give_up.saturating_duration_since(Instant::now())) else {
            break;
        };
        if looks[number] < 2 {
            looks[number] += 1;
            state.take(number, look);
        }
    }
    once::write(&state, output);
    Ok(if state.known() > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
