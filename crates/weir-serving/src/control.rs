//! The life of models while the server serves: reload, load and unload, one order at a time.
//!
//! Orders come from signals, from watched files and from the repository endpoints. They are
//! obeyed by one [`Keeper`] on a thread of its own, because loading blocks; two of them at
//! once could undo each other. What a reload has to fetch comes in the background meanwhile: other orders are
//! obeyed, and a newer reload replaces it.

mod reload;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use weir_types::{Error, ErrorCode, ModelName};

use crate::{Archives, Loader, Reason, ServingSnapshot, fetch::NotFetched, watch::Watch};
use reload::Waiting;

pub use reload::{Change, PutInForce, Refused, Reread};

/// Orders that may wait; one more is refused.
const MAX_WAITING: usize = 16;
/// How often watched files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a model is tried again whose server was away.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// Every model.
    Models,
    Load(ModelName),
    Unload(ModelName),
}

type Reply = oneshot::Sender<Result<(), Error>>;

/// What the [`Keeper`] is told.
enum Told {
    /// Read the configuration and every model; who asked for it is among the [`Asking`].
    Reload,
    Order(Order, Reply),
    /// What the reload of this number waited for, or why it cannot be had.
    Came(u64, Result<Archives, NotFetched>),
}

/// Those who asked for a reload that has not begun: it is one for all of them.
type Asking = Mutex<Vec<Reply>>;

/// Gives orders to the [`Keeper`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelControl {
    told: Arc<SyncSender<Told>>,
    asking: Weak<Asking>,
}

impl ModelControl {
    /// Reads the configuration again, where the [`Keeper`] knows how, and every model. Replaces a reload
    /// that still waits for its archives.
    ///
    /// # Errors
    /// Why nothing changed, all of it: for the log. A newer reload may be why.
    pub async fn reload(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(reply)?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Reads one model again, also one that was unloaded.
    ///
    /// # Errors
    /// `NotFound` where no folder holds it, `InvalidArgument` where no version of it could be loaded anew, with
    /// what anybody may read of the reason; what served before serves on.
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
        self.tell(Told::Order(order, reply))?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Joins those who wait for the next reload to begin, or is the first of them.
    fn ask(&self, reply: Reply) -> Result<(), Error> {
        let asking = self.asking.upgrade().ok_or_else(ended)?;
        let mut asking = lock(&asking);
        if asking.len() >= MAX_WAITING {
            return Err(busy());
        }
        if asking.is_empty() {
            self.tell(Told::Reload)?;
        }
        asking.push(reply);
        Ok(())
    }

    fn tell(&self, told: Told) -> Result<(), Error> {
        self.told.try_send(told).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => ended(),
        })
    }
}

fn lock(asking: &Asking) -> MutexGuard<'_, Vec<Reply>> {
    asking.lock().unwrap_or_else(PoisonError::into_inner)
}

fn busy() -> Error {
    Error::new(ErrorCode::Overloaded, "models are being loaded; try again shortly")
}

fn ended() -> Error {
    Error::new(ErrorCode::Unavailable, "the server is shutting down")
}

/// Makes a new snapshot serve, or says why it cannot.
type Publish = Box<dyn FnMut(ServingSnapshot) -> Result<(), Reason> + Send>;

/// Obeys orders.
pub struct Keeper {
    loader: Loader,
    serving: Arc<ServingSnapshot>,
    unloaded: BTreeSet<ModelName>,
    publish: Publish,
    reread: Option<Reread>,
    configuration: Option<Watch>,
    told: Receiver<Told>,
    /// To be told what came; it keeps nobody waiting for orders once all who give them are gone.
    tell: Weak<SyncSender<Told>>,
    asking: Arc<Asking>,
    /// The reload that waits for its archives.
    waiting: Option<Waiting>,
    /// Reloads that waited for archives so far.
    waited: u64,
    retry: Duration,
    tried: Instant,
    /// When the configuration is read again that failed for a passing reason, and how long that is waited for.
    again: Option<(Instant, Duration)>,
}

impl Keeper {
    /// Keeps what `loader` loads, beginning with `serving`; `publish` puts each new snapshot
    /// in force.
    pub fn new(loader: Loader, serving: Arc<ServingSnapshot>, publish: Publish) -> (Self, ModelControl) {
        let (sender, told) = sync_channel(MAX_WAITING);
        let (sender, asking) = (Arc::new(sender), Arc::new(Asking::default()));
        let (retry, tried) = (RETRY, loader.clock().now());
        let control = ModelControl { told: sender.clone(), asking: Arc::downgrade(&asking) };
        let keeper = Self {
            loader,
            serving,
            unloaded: BTreeSet::new(),
            publish,
            reread: None,
            configuration: None,
            told,
            tell: Arc::downgrade(&sender),
            asking,
            waiting: None,
            waited: 0,
            retry,
            tried,
            again: None,
        };
        (keeper, control)
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
            match self.told.recv_timeout(LOOK) {
                Ok(Told::Reload) => {
                    let asked = std::mem::take(&mut *lock(&self.asking));
                    self.reload(asked, &mut files);
                }
                Ok(Told::Order(order, reply)) => {
                    // Whoever asked may be gone; the order is obeyed all the same.
                    let _ = reply.send(self.obey(&order));
                }
                Ok(Told::Came(number, archives)) => self.came(number, archives, &mut files),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.look(&mut files),
            }
            files.iter_mut().for_each(|files| files.turn_to(self.loader.paths()));
        }
    }

    /// Obeys what the files say that changed.
    fn look(&mut self, models: &mut Option<Watch>) {
        let settled = |watch: &mut Option<Watch>| watch.as_mut().is_some_and(Watch::settled);
        if settled(&mut self.configuration) || self.is_due_again() {
            self.reload(Vec::new(), models);
        } else if settled(models) || self.archives_have_news() {
            models.iter_mut().for_each(Watch::seen);
            // Where it fails, the log says so already.
            let _ = self.obey(&Order::Models);
        } else {
            self.retry_transient();
        }
    }

    fn is_due_again(&self) -> bool {
        self.waiting.is_none() && self.again.is_some_and(|(due, _)| due <= self.loader.clock().now())
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
            Order::Models => self.loader.load(&self.serving, &self.unloaded, &|_| {}),
            Order::Load(model) => self.load(model)?,
            Order::Unload(model) => self.unload(model)?,
        };
        self.put_in_force(next)?;
        self.verdict(order)
    }

    fn put_in_force(&mut self, next: ServingSnapshot) -> Result<(), Error> {
        match (self.publish)(next.clone()) {
            Ok(()) => {
                self.serves(next);
                Ok(())
            }
            Err(reason) => {
                tracing::error!("what served before serves on: {reason}");
                Err(Error::new(ErrorCode::Conflict, reason.public().to_owned()))
            }
        }
    }

    /// `next` was put in force.
    fn serves(&mut self, next: ServingSnapshot) {
        let (models, failures) = (next.models().count(), next.missing_count());
        tracing::info!(models, failures, "models changed");
        self.serving = Arc::new(next);
    }

    /// What the one who gave `order` is told once it is in force.
    fn verdict(&self, order: &Order) -> Result<(), Error> {
        let Order::Load(model) = order else { return Ok(()) };
        let failed = self.serving.failures().iter().find(|f| f.model == model.as_str());
        failed.map_or(Ok(()), |f| Err(Error::invalid(f.reason.public().to_owned())))
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
