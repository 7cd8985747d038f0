//! A job whose answer is to come.

use std::{sync::Arc, time::Instant};

use tokio::{sync::oneshot, time::timeout_at};
use weir_types::Error;

use super::{
    Done, Stats,
    call::{Call, Piece},
    lane::Lane,
    past_deadline,
    queue::Place,
};

/// Where jobs wait: in this process for a thread, or for a call to another server.
pub(super) trait Desk {
    fn lane(&self) -> &Lane<Piece>;
    fn stats(&self) -> &Stats;
    fn now(&self) -> Instant;
}

/// A job whose answer is to come. When it is dropped nobody waits any more: what has not
/// started is taken out of the lane, and what runs is told.
pub(super) struct Waiting<D: Desk> {
    pub(super) desk: Arc<D>,
    pub(super) call: Arc<Call>,
    pub(super) places: Vec<Place>,
    pub(super) answer: oneshot::Receiver<Result<Done, Error>>,
}

impl<D: Desk> Waiting<D> {
    pub(super) async fn answer(mut self) -> Result<Done, Error> {
        match timeout_at(self.call.deadline.instant().into(), &mut self.answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::internal("what runs the model has ended")),
            Err(_) => Err(past_deadline()),
        }
    }
}

impl<D: Desk> Drop for Waiting<D> {
    fn drop(&mut self) {
        let unanswered = self.call.abandon();
        if unanswered || self.places.len() > 1 {
            self.desk.lane().withdraw(&self.places);
        }
        if unanswered {
            self.desk.stats().gave_up(self.call.deadline.is_past(self.desk.now()));
        }
    }
}
