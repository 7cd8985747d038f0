//! What the log is told of one server: when something changes, not with each call.

use std::{fmt::Display, time::Duration};

use redis::ServerError;
use tokio::time::Instant;

use super::reply::text;
use crate::plain;

/// A refusal that was not seen for so long and comes again is news.
const QUIET: Duration = Duration::from_secs(60);
/// Kinds of refusals that are told apart; Redis has some thirty codes, and scripts may make up others.
const MOST_KINDS: usize = 32;
/// Answers that are no refusal: scripts are sent when they are asked for, redirections are followed.
const ROUTINE: [&str; 4] = ["NOSCRIPT", "MOVED", "ASK", "TRYAGAIN"];

/// What the log has already.
#[derive(Debug, Default)]
pub(crate) struct Told {
    away: bool,
    /// Codes of refusals, and when each was last seen.
    refusals: Vec<(String, Instant)>,
}

impl Told {
    /// It is away, for the reason in `trouble`, which names it.
    pub(crate) fn away(&mut self, trouble: &str) {
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!("Redis is away: {trouble}");
        }
    }

    /// It answers.
    pub(crate) fn back(&mut self, name: &dyn Display) {
        if std::mem::take(&mut self.away) {
            tracing::info!("Redis is back: {name}");
        }
    }

    /// It answered a command with an error.
    pub(crate) fn refused(&mut self, name: &dyn Display, error: &ServerError) {
        if !ROUTINE.contains(&error.code()) && self.is_news(error.code(), Instant::now()) {
            tracing::warn!("Redis refuses commands: {name}: {}", text(error));
        }
    }

    fn is_news(&mut self, code: &str, now: Instant) -> bool {
        // Bounded, as whatever listens there may call anything a code.
        let code = plain(code);
        if let Some((_, seen)) = self.refusals.iter_mut().find(|(known, _)| *known == code) {
            return now.duration_since(std::mem::replace(seen, now)) >= QUIET;
        }
        if self.refusals.len() == MOST_KINDS {
            self.refusals.remove(0);
        }
        self.refusals.push((code, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_goes_on_is_told_once_and_one_that_comes_again_is_news() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut seen = |code: &str, after: u64| told.is_news(code, start + Duration::from_secs(after));
        assert_eq!(
            [seen("OOM", 0), seen("NOPERM", 1), seen("OOM", 59), seen("OOM", 118)],
            [true, true, false, false]
        );
        assert_eq!([seen("OOM", 178), seen("NOPERM", 178)], [true, true]);
    }

    #[test]
    fn codes_that_scripts_make_up_take_no_more_room_than_is_given() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!((0..1_000).all(|i| told.is_news(&i.to_string(), now)));
        assert_eq!(told.refusals.len(), MOST_KINDS);
    }
}
