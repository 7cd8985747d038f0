//! The life of models while the server serves: reload, load and unload, one order at a time.
//!
//! Orders come from signals, from watched files and from the repository endpoints. They are
//! obeyed by one [`Keeper`] on a thread of its own, because loading blocks; two of them at
//! once could undo each other.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use weir_types::{Error, ErrorCode, ModelName};

use crate::{Archives, Failure, Loader, ServingSnapshot, watch::Watch};

/// Orders that may wait; one more is refused.
const MAX_WAITING: usize = 16;
/// How often watched files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a model is tried again whose server was away.
const RETRY: Duration = Duration::from_secs(10);
/// Longest wait before a configuration is read again that failed for a passing reason.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// The configuration and every model.
    Reload,
    /// Every model.
    Models,
    Load(ModelName),
    Unload(ModelName),
}

type Reply = oneshot::Sender<Result<(), Error>>;

/// Gives orders to the [`Keeper`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelControl {
    orders: SyncSender<(Order, Reply)>,
}

impl ModelControl {
    /// Reads the configuration again, where the [`Keeper`] knows how, and every model.
    ///
    /// # Errors
    /// Why nothing changed.
    pub async fn reload(&self) -> Result<(), Error> {
        self.give(Order::Reload).await
    }

    /// Reads one model again, also one that was unloaded.
    ///
    /// # Errors
    /// `NotFound` where no folder holds it, `InvalidArgument` with the reason where no
    /// version of it could be loaded anew; what served before serves on.
    pub async fn load(&self, model: ModelName) -> Result<(), Error> {
        self.give(Order::Load(model)).await
    }

    /// Stops serving one model until it is loaded again. Requests in flight finish; its
    /// memory is given back behind the last of them.
    ///
    /// # Errors
    /// `NotFound` where it is not served.
    pub async fn unload(&self, model: ModelName) -> Result<(), Error> {
        self.give(Order::Unload(model)).await
    }

    async fn give(&self, order: Order) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send((order, reply)).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::new(ErrorCode::Overloaded, "models are being loaded; try again shortly")
            }
            TrySendError::Disconnected(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> Error {
    Error::new(ErrorCode::Unavailable, "the server is shutting down")
}

/// Makes a new snapshot serve; the text says why it cannot.
type Publish = Box<dyn FnMut(ServingSnapshot) -> Result<(), String> + Send>;

/// Reads the configuration again, given the archives that serve.
pub type Reread = Box<dyn FnMut(Option<&Archives>) -> Result<Change, Refused> + Send>;

/// Why a configuration that was read again does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub text: String,
    /// Whether it may count without anybody changing a file: a server was away.
    pub passing: bool,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self { text, passing: false }
    }
}

/// Puts a configuration in force with what was loaded under it, or is told why it is not; the text says why
/// it cannot.
pub type PutInForce = Box<dyn FnOnce(Result<ServingSnapshot, String>) -> Result<(), String> + Send>;

/// A configuration that was read again and would work.
pub struct Change {
    /// Where models are now.
    pub paths: Vec<PathBuf>,
    /// The archives of models, all of them here.
    pub archives: Option<Archives>,
    /// Puts it in force with what was loaded from there.
    pub publish: PutInForce,
}

/// Obeys orders.
pub struct Keeper {
    loader: Loader,
    serving: Arc<ServingSnapshot>,
    unloaded: BTreeSet<ModelName>,
    publish: Publish,
    reread: Option<Reread>,
    configuration: Option<Watch>,
    orders: Receiver<(Order, Reply)>,
    retry: Duration,
    tried: Instant,
    /// When the configuration is read again that failed for a passing reason, and how long that is waited for.
    again: Option<(Instant, Duration)>,
}

impl Keeper {
    /// Keeps what `loader` loads, beginning with `serving`; `publish` puts each new snapshot
    /// in force.
    pub fn new(loader: Loader, serving: Arc<ServingSnapshot>, publish: Publish) -> (Self, ModelControl) {
        let (sender, orders) = sync_channel(MAX_WAITING);
        let (retry, tried) = (RETRY, loader.clock().now());
        (
            Self {
                loader,
                serving,
                unloaded: BTreeSet::new(),
                publish,
                reread: None,
                configuration: None,
                orders,
                retry,
                tried,
                again: None,
            },
            ModelControl { orders: sender },
        )
    }

    /// Reads the configuration with `reread` at each reload, and when `files` say that it changed; with
    /// `files`, also again and again while what stands against it may pass.
    #[must_use]
    pub fn rereading(self, reread: Reread, files: Option<Watch>) -> Self {
        Self { reread: Some(reread), configuration: files, ..self }
    }

    /// Tries models whose server was away again after `retry` instead of ten seconds.
    #[must_use]
    pub fn retrying_after(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// Obeys until every [`ModelControl`] is gone. With `files`, those that changed and then
    /// kept still are read again too. Blocks: give it a thread.
    pub fn run(mut self, mut files: Option<Watch>) {
        loop {
            match self.orders.recv_timeout(LOOK) {
                Ok((order, reply)) => {
                    // Whoever asked may be gone; the order is obeyed all the same.
                    let _ = reply.send(self.carry_out(&order, &mut files));
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.look(&mut files),
            }
            files.iter_mut().for_each(|files| files.turn_to(self.loader.paths()));
        }
    }

    /// Obeys what the files say that changed.
    fn look(&mut self, models: &mut Option<Watch>) {
        let settled = |watch: &mut Option<Watch>| watch.as_mut().is_some_and(Watch::settled);
        let order = if settled(&mut self.configuration) || self.is_due_again() {
            Order::Reload
        } else if settled(models) || self.archives_have_news() {
            Order::Models
        } else {
            return self.retry_transient();
        };
        if let Err(error) = self.carry_out(&order, models) {
            tracing::error!("reload failed: {error}");
        }
    }

    /// Obeys, and notes which files were read for it: what an order does not read may have changed, and
    /// counts the next time somebody looks.
    fn carry_out(&mut self, order: &Order, models: &mut Option<Watch>) -> Result<(), Error> {
        let before = match order {
            Order::Reload => models.clone(),
            _ => None,
        };
        match order {
            Order::Reload => models.iter_mut().chain(&mut self.configuration).for_each(Watch::seen),
            Order::Models => models.iter_mut().for_each(Watch::seen),
            Order::Load(_) | Order::Unload(_) => {}
        }
        let outcome = self.obey(order);
        if outcome.is_err() && before.is_some() {
            // Models that changed meanwhile count under the configuration in force.
            *models = before;
        }
        outcome
    }

    fn is_due_again(&self) -> bool {
        self.again.is_some_and(|(due, _)| due <= self.loader.clock().now())
    }

    /// Loads models again whose server was away, when it is time.
    fn retry_transient(&mut self) {
        let now = self.loader.clock().now();
        if now.saturating_duration_since(self.tried) < self.retry {
            return;
        }
        let failed = self.serving.failures().iter().filter(|f| f.transient);
        let models: BTreeSet<ModelName> = failed.filter_map(|f| f.model.parse().ok()).collect();
        for model in models {
            let Ok(next) = self.loader.load_model(&self.serving, &model) else { continue };
            let still = next.failures().iter().any(|f| f.transient && f.model == model.as_str());
            if !still {
                // Its refusal is in the log, and the model is tried again.
                let _ = self.put_in_force(next);
            }
        }
        self.tried = self.loader.clock().now();
    }

    fn archives_have_news(&self) -> bool {
        self.loader.archives().is_some_and(Archives::has_news)
    }

    fn obey(&mut self, order: &Order) -> Result<(), Error> {
        let next = match order {
            Order::Reload if self.reread.is_some() => return self.reconfigure(),
            Order::Reload | Order::Models => self.loader.load(&self.serving, &self.unloaded, &|_| {}),
            Order::Load(model) => self.load(model)?,
            Order::Unload(model) => self.unload(model)?,
        };
        self.put_in_force(next)?;
        self.verdict(order)
    }

    /// Reads configuration and models, and puts both in force, or neither.
    fn reconfigure(&mut self) -> Result<(), Error> {
        let outcome = self.change();
        let passes = outcome.as_ref().is_err_and(|refused| refused.passing);
        self.again = (passes && self.configuration.is_some()).then(|| {
            let wait = self.again.map_or(self.retry, |(_, wait)| (wait * 2).min(LONGEST_RETRY));
            (self.loader.clock().now() + wait, wait)
        });
        outcome.map_err(|refused| Error::new(ErrorCode::Conflict, refused.text))
    }

    fn change(&mut self) -> Result<(), Refused> {
        let Some(reread) = &mut self.reread else { return Ok(()) };
        let Change { paths, archives, publish } = reread(self.loader.archives())?;
        let loader = self.loader.at(paths).with_archives(archives);
        let next = loader.load(&self.serving, &self.unloaded, &|_| {});
        if let Some(refused) = lost(&next) {
            let _ = publish(Err(refused.text.clone()));
            return Err(refused);
        }
        let published = publish(Ok(next.clone()));
        self.published(next, published).map_err(|error| error.message.into_owned())?;
        self.loader = loader;
        Ok(())
    }

    fn put_in_force(&mut self, next: ServingSnapshot) -> Result<(), Error> {
        let published = (self.publish)(next.clone());
        self.published(next, published)
    }

    fn published(&mut self, next: ServingSnapshot, published: Result<(), String>) -> Result<(), Error> {
        let (models, failures) = (next.models().count(), next.failures().len());
        match published {
            Ok(()) => {
                tracing::info!(models, failures, "models changed");
                self.serving = Arc::new(next);
                Ok(())
            }
            Err(problem) => {
                tracing::error!("what served before serves on: {problem}");
                Err(Error::new(ErrorCode::Conflict, problem))
            }
        }
    }

    /// What the one who gave `order` is told once it is in force.
    fn verdict(&self, order: &Order) -> Result<(), Error> {
        let Order::Load(model) = order else { return Ok(()) };
        let failed = self.serving.failures().iter().find(|f| f.model == model.as_str());
        failed.map_or(Ok(()), |f| Err(Error::invalid(f.reason.clone())))
    }

    fn load(&mut self, model: &ModelName) -> Result<ServingSnapshot, Error> {
        let next = self.loader.load_model(&self.serving, model)?;
        self.unloaded.remove(model);
        Ok(next)
    }

    fn unload(&mut self, model: &ModelName) -> Result<ServingSnapshot, Error> {
        let next = self.serving.without(model)?;
        self.unloaded.insert(model.clone());
        Ok(next)
    }
}

/// Why a configuration does not count under which models that serve now would have no version left.
fn lost(next: &ServingSnapshot) -> Option<Refused> {
    let passing = next.kept().all(|failure| failure.transient);
    let line = |f: &Failure| match &f.version {
        Some(version) => format!("model {}/{version}: {}", f.model, f.reason),
        None => format!("model {}: {}", f.model, f.reason),
    };
    let lines: Vec<_> = next.kept().map(line).collect();
    let text =
        format!("{}\nnothing of it would be left where it is read from; nothing changed", lines.join("\n"));
    (!lines.is_empty()).then_some(Refused { text, passing })
}
