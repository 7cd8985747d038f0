//! A reload: read, wait for archives where some have to come, load, and put all of it in force or nothing.

use std::{
    path::PathBuf,
    sync::{Weak, mpsc::SyncSender},
    time::Duration,
};

use weir_types::{Error, ErrorCode};

use super::{Keeper, Order, Reply, Told};
use crate::{
    Archives, Failure, Reason, ServingSnapshot,
    fetch::{Bring, Bringing, NotFetched},
    watch::Watch,
};

/// Longest wait before a configuration is read again that failed for a passing reason.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Reads the configuration again, given the archives that serve.
pub type Reread = Box<dyn FnMut(Option<&Archives>) -> Result<Change, Refused> + Send>;

/// Why a configuration that was read again does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub reason: Reason,
    /// Whether it may count without anybody changing a file: a server was away.
    pub passing: bool,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, passing: false }
    }
}

/// Puts a configuration in force with what was loaded under it, or is told why it is not; says why it cannot.
/// Dropped unused where a newer configuration takes its place.
pub type PutInForce = Box<dyn FnOnce(Result<ServingSnapshot, Reason>) -> Result<(), Reason> + Send>;

/// A configuration that was read again and would work.
pub struct Change {
    /// Where models are now.
    pub paths: Vec<PathBuf>,
    /// The archives of models: they are brought before anything changes.
    pub archives: Option<Bring>,
    /// Puts it in force with what was loaded from there.
    pub publish: PutInForce,
}

/// What was read, and who asked for it: nobody where files changed.
struct Read {
    paths: Vec<PathBuf>,
    publish: PutInForce,
    asked: Vec<Reply>,
}

/// A reload that waits for its archives.
pub(super) struct Waiting {
    number: u64,
    read: Read,
    bringing: Bringing,
}

impl Keeper {
    /// Reads the configuration, and goes on as far as it can without waiting. A reload that waits is over
    /// by that: what it was read from is there no more.
    pub(super) fn reload(&mut self, asked: Vec<Reply>, models: &mut Option<Watch>) {
        self.configuration.iter_mut().for_each(Watch::seen);
        let earlier = self.waiting.take();
        let Some(reread) = &mut self.reread else {
            models.iter_mut().for_each(Watch::seen);
            return tell(asked, self.obey(&Order::Models));
        };
        match reread(self.loader.archives()) {
            Ok(Change { paths, archives, publish }) => {
                self.begin(Read { paths, publish, asked }, archives, earlier, models);
            }
            Err(refused) => {
                replace(earlier);
                self.end(asked, Err(refused));
            }
        }
    }

    /// Loads at once where nothing has to come, else lets it come. Archives that are on their way already
    /// are not begun again: a signal that is sent twice costs nothing.
    fn begin(
        &mut self,
        read: Read,
        archives: Option<Bring>,
        earlier: Option<Waiting>,
        models: &mut Option<Watch>,
    ) {
        let bring = match archives.map(Bring::here).transpose() {
            Err(bring) => bring,
            Ok(archives) => {
                replace(earlier);
                return self.put(read, archives, models);
            }
        };
        let (number, bringing) = match earlier {
            Some(Waiting { number, bringing, read }) if bringing.brings(&bring) => {
                tell(read.asked, Err(replaced()));
                (number, Ok(bringing))
            }
            earlier => {
                replace(earlier);
                self.waited += 1;
                (self.waited, bring.begin(came(self.tell.clone(), self.waited)))
            }
        };
        match bringing {
            Ok(bringing) => self.waiting = Some(Waiting { number, read, bringing }),
            Err(text) => {
                let reason = Reason::new("archives cannot be fetched now; the log says why", text);
                self.refuse(read, Refused { reason, passing: true });
            }
        }
    }

    /// What a reload waited for is here, or cannot be had.
    pub(super) fn came(
        &mut self,
        number: u64,
        archives: Result<Archives, NotFetched>,
        models: &mut Option<Watch>,
    ) {
        // Else it is for one that was replaced.
        let Some(Waiting { read, .. }) = self.waiting.take_if(|waiting| waiting.number == number) else {
            return;
        };
        match archives {
            Ok(archives) => self.put(read, Some(archives), models),
            Err(NotFetched { reason, passing }) => self.refuse(read, Refused { reason, passing }),
        }
    }

    fn refuse(&mut self, read: Read, refused: Refused) {
        let _ = (read.publish)(Err(refused.reason.clone()));
        self.end(read.asked, Err(refused));
    }

    /// Loads and puts in force. Models that changed while this failed count under the configuration in force.
    fn put(&mut self, read: Read, archives: Option<Archives>, models: &mut Option<Watch>) {
        let before = models.clone();
        models.iter_mut().for_each(Watch::seen);
        let outcome = self.change(read.paths, archives, read.publish);
        if outcome.is_err() {
            *models = before;
        }
        self.end(read.asked, outcome);
    }

    fn change(
        &mut self,
        paths: Vec<PathBuf>,
        archives: Option<Archives>,
        publish: PutInForce,
    ) -> Result<(), Refused> {
        let loader = self.loader.at(paths).with_archives(archives);
        let next = loader.load(&self.serving, &self.unloaded, &|_| {});
        if let Some(refused) = lost(&next) {
            let _ = publish(Err(refused.reason.clone()));
            return Err(refused);
        }
        publish(Ok(next.clone()))?;
        self.serves(next);
        self.loader = loader;
        Ok(())
    }

    /// Notes when to try again, and tells.
    fn end(&mut self, asked: Vec<Reply>, outcome: Result<(), Refused>) {
        let passes = outcome.as_ref().is_err_and(|refused| refused.passing);
        self.again = (passes && self.configuration.is_some()).then(|| {
            let wait = self.again.map_or(self.retry, |(_, wait)| (wait * 2).min(LONGEST_RETRY));
            (self.loader.clock().now() + wait, wait)
        });
        tell(asked, outcome.map_err(|refused| Error::new(ErrorCode::Conflict, refused.reason.to_string())));
    }
}

/// Tells the keeper what came, if it is still there.
fn came(
    tell: Weak<SyncSender<Told>>,
    number: u64,
) -> impl FnOnce(Result<Archives, NotFetched>) + Send + 'static {
    move |archives| {
        if let Some(tell) = tell.upgrade() {
            let _ = tell.send(Told::Came(number, archives));
        }
    }
}

/// Ends one that waits: nothing more is fetched for it.
fn replace(earlier: Option<Waiting>) {
    if let Some(Waiting { read, bringing, .. }) = earlier {
        drop(bringing);
        tell(read.asked, Err(replaced()));
    }
}

fn replaced() -> Error {
    let text = "replaced by a newer one while its archives were fetched; nothing of it changed";
    Error::new(ErrorCode::Conflict, text)
}

/// Tells who asked, or the log where nobody did.
fn tell(asked: Vec<Reply>, outcome: Result<(), Error>) {
    if let (true, Err(error)) = (asked.is_empty(), &outcome) {
        tracing::error!("reload failed: {error}");
    }
    for reply in asked {
        let _ = reply.send(outcome.clone());
    }
}

/// Why a configuration does not count under which models that serve now would have no version left.
fn lost(next: &ServingSnapshot) -> Option<Refused> {
    let passing = next.kept().all(|failure| failure.transient);
    let text = |line: fn(&Failure) -> String| {
        let lines: Vec<_> = next.kept().map(line).collect();
        format!("{}\nnothing of it would be left where it is read from; nothing changed", lines.join("\n"))
    };
    let refused =
        || Refused { reason: Reason::new(text(Failure::public), text(Failure::to_string)), passing };
    next.kept().next().map(|_| refused())
}
