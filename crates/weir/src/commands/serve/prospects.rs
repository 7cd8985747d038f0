//! The end of a start that comes to nothing: archives that were awaited cannot be had and nothing else serves, or all
//! of them are here and the routes do not fit what is in them.

use tokio::sync::oneshot;
use weir_api::Server;
use weir_serving::{Reason, ServingSnapshot};

use crate::{commands::start::failing, state::Opening};

/// Looks at what comes of a start that waits for archives.
pub(super) struct Prospects {
    /// Until something served: a server that did goes on, whatever becomes of its models.
    starting: bool,
    tell: Option<oneshot::Sender<String>>,
}

impl Prospects {
    /// Beginning with `snapshot`; what is received is why the start failed, as a start says it that
    /// awaits nothing.
    pub(super) fn of(snapshot: &ServingSnapshot) -> (Self, oneshot::Receiver<String>) {
        let (tell, told) = oneshot::channel();
        (Self { starting: snapshot.models().next().is_none(), tell: Some(tell) }, told)
    }

    /// `next` takes the place of `before`.
    pub(super) fn look(&mut self, before: &ServingSnapshot, next: &ServingSnapshot) {
        self.starting &= before.models().next().is_none() && next.unloaded().next().is_none();
        if self.starting && !next.has_prospects() {
            self.end(format!("no model could be loaded\n{}", failing(next, Opening::Use)));
        }
    }

    /// The last archive came, and `server` cannot serve what there is now for `reason`: routes do not become right by
    /// waiting. With the archives in place the same start would have ended before it listened, so that this one ends
    /// too. Until it has, nobody is told that something is being fetched.
    pub(super) fn refused(&mut self, server: &Server, reason: &Reason) {
        server.note_reload(Err(reason));
        let told = "is here, and not served: the routes do not fit; `reload` says why";
        // Its routes are those that were right before.
        let _ = server.swap(server.snapshot().held_up(&Reason::open(told)));
        self.end(reason.to_string());
    }

    fn end(&mut self, why: String) {
        let _ = self.tell.take().map(|tell| tell.send(why));
    }
}
