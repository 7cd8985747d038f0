//! The loop: looks, keys and signals come in over one channel, the screen is drawn.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{replica, replica::Look, screen, state::State};

/// Events that wait to be handled. Who sends waits when there are more.
const MAX_WAITING: usize = 64;
/// Rows that a page key scrolls.
const PAGE: isize = 10;

/// What comes in.
enum Told {
    Look(usize, Look),
    Event(Event),
    /// A signal, or a terminal that is gone.
    End,
}

/// Shows the servers until somebody quits. The terminal is as it was before when this returns,
/// also after a panic or a signal.
///
/// # Errors
/// Where the terminal cannot be drawn on.
pub(super) fn run(urls: &[String], interval: Duration) -> anyhow::Result<()> {
    let (tell, told) = sync_channel(MAX_WAITING);
    await_signals(tell.clone())?;
    replica::watch(urls, interval, &tell, Told::Look)?;
    let terminal = ratatui::try_init().context("the terminal cannot be drawn on; --once needs none")?;
    // Only now: before, what is typed belongs to the shell.
    let read = read_keys(tell);
    let shown = read.and_then(|()| show(terminal, State::new(urls), &told, interval));
    ratatui::try_restore().context("the terminal cannot be set back; the command `reset` does it")?;
    Ok(shown?)
}

fn show(
    mut terminal: DefaultTerminal,
    mut state: State,
    told: &Receiver<Told>,
    interval: Duration,
) -> io::Result<()> {
    let mut tick = Instant::now() + interval;
    loop {
        terminal.draw(|frame| screen::draw(frame, &state))?;
        let wait = tick.saturating_duration_since(Instant::now());
        match told.recv_timeout(wait) {
            Ok(Told::Look(number, look)) => state.take(number, look),
            Ok(Told::Event(Event::Key(key))) if !press(&mut state, key) => return Ok(()),
            // A new size is drawn to like any other.
            Ok(Told::Event(_)) => {}
            Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                state.tick();
                tick += interval;
            }
        }
    }
}

/// Whether to go on.
fn press(state: &mut State, key: KeyEvent) -> bool {
    if key.kind == KeyEventKind::Release {
        return true;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('h' | '?') => state.help = !state.help,
        KeyCode::Esc if state.help => state.help = false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('s') => state.sort_next(),
        KeyCode::Char('p' | ' ') => state.pause(),
        KeyCode::Up => state.scroll(-1),
        KeyCode::Down => state.scroll(1),
        KeyCode::PageUp => state.scroll(-PAGE),
        KeyCode::PageDown => state.scroll(PAGE),
        _ => {}
    }
    true
}

fn read_keys(tell: SyncSender<Told>) -> io::Result<()> {
    let read = move || loop {
        let read = event::read();
        let gone = read.is_err();
        // Nobody listens any more, or there is nothing more to read.
        if tell.send(read.map_or(Told::End, Told::Event)).is_err() || gone {
            return;
        }
    };
    thread::Builder::new().name("weir-top-keys".into()).spawn(read).map(|_| ())
}

/// Tells of signals that end the process, so that the terminal is set back before. Keys send none:
/// the terminal hands them over as they are typed.
fn await_signals(tell: SyncSender<Told>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]
    };
    let wait = move || {
        runtime.block_on(async {
            let [term, interrupt, hangup, quit] = &mut signals;
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
                _ = quit.recv() => {}
            }
        });
        let _ = tell.send(Told::End);
    };
    thread::Builder::new().name("weir-top-signals".into()).spawn(wait).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(state: &mut State, code: KeyCode) -> bool {
        press(state, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_do_what_the_screen_says() {
        let mut state = State::new(&["a".to_owned()]);
        assert!(pressed(&mut state, KeyCode::Char('s')) && state.sort.name() == "name");
        assert!(pressed(&mut state, KeyCode::Char(' ')) && state.paused);
        assert!(pressed(&mut state, KeyCode::Char('p')) && !state.paused);
        assert!(pressed(&mut state, KeyCode::Char('?')) && state.help);
        assert!(pressed(&mut state, KeyCode::Esc) && !state.help, "the first Esc closes the help");
        assert!(pressed(&mut state, KeyCode::PageDown) && state.first == 0, "there is nothing below");
        assert!(!pressed(&mut state, KeyCode::Esc));
        assert!(!pressed(&mut state, KeyCode::Char('q')));
        assert!(!press(&mut state, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
