//! The end of a start that comes to nothing: archives that were awaited cannot be had, and nothing else serves.

use tokio::sync::oneshot;
use weir_serving::ServingSnapshot;

use crate::{commands::start::failing, state::Opening};

/// Looks at what comes of a start that waits for archives.
pub(super) struct Prospects {
    /// Until something served: a server that did goes on, whatever becomes of its models.
    starting: bool,
    tell: Option<oneshot::Sender<String>>,
}

impl Prospects {
    /// Beginning with `snapshot`; what is received is why nothing will ever serve.
    pub(super) fn of(snapshot: &ServingSnapshot) -> (Self, oneshot::Receiver<String>) {
        let (tell, told) = oneshot::channel();
        (Self { starting: snapshot.models().next().is_none(), tell: Some(tell) }, told)
    }

    /// `next` takes the place of `before`.
    pub(super) fn look(&mut self, before: &ServingSnapshot, next: &ServingSnapshot) {
        self.starting &= before.models().next().is_none() && next.unloaded().next().is_none();
        if self.starting && !next.has_prospects() {
            let tell = self.tell.take();
            let _ = tell.map(|tell| tell.send(failing(next, Opening::Use)));
        }
    }
}
