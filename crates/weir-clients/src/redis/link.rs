//! One server: its breaker, its connection, and the keeper that mends both in the background.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::{
    Pipeline, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    RedisError,
    command::Command,
    dial::{Dialer, Target},
    reply::{is_lost, unfit},
    settings::Address,
};
use crate::{
    BreakerPolicy, BreakerState, CallError, Guard, GuardStats, LimitPolicy, Policy, RetryPolicy, plain,
};

/// Pipelines under way at once on one connection. They are answered in order, so that more would only
/// wait longer than anybody does.
const MOST_CALLS: u32 = 4_096;
/// Open at first for so long, and never longer than so long: a server that is back is asked again
/// within `OPEN_MAX` and the time it takes to connect.
const OPEN: Duration = Duration::from_millis(250);
const OPEN_MAX: Duration = Duration::from_secs(2);
/// While calls fail but the breaker is closed, the keeper asks as often.
const SUSPICION: Duration = Duration::from_millis(10);

/// One server, as it is for now.
#[derive(Debug)]
pub(crate) struct Link {
    dialer: Dialer,
    guard: Guard,
    /// Held for a few assignments, never across a wait.
    state: Mutex<State>,
    /// Tells those who wait for a connection that there is one, or that there will be none.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Which connection that is: what befell an earlier one says nothing about it.
    number: u64,
    /// Whether a keeper is at work.
    kept: bool,
    /// Why it was last found to be away.
    trouble: Option<String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, kept, trouble, connection } = self;
        write!(f, "State({number}, connected: {}, kept: {kept}, {trouble:?})", connection.is_some())
    }
}

impl Link {
    pub(crate) fn new(dialer: Dialer) -> Arc<Self> {
        let policy = Policy {
            timeout: dialer.settings.timeout,
            // A cache goes on without, and what a lost write did is not known: nothing is repeated.
            repeatable: false,
            retry: RetryPolicy::default(),
            breaker: BreakerPolicy { open: OPEN, open_max: OPEN_MAX, ..BreakerPolicy::default() },
            limit: LimitPolicy { initial: MOST_CALLS, min: MOST_CALLS, max: MOST_CALLS },
            hedge_after: None,
        };
        let (guard, changed) = (Guard::kept(policy), watch::Sender::new(()));
        Arc::new(Self { dialer, guard, state: Mutex::default(), changed })
    }

    /// Sends the commands in one go and gives their answers, one for each and each of a form that fits.
    ///
    /// # Errors
    /// When all of them failed together.
    pub(crate) async fn call(
        self: &Arc<Self>,
        commands: &[&Command],
        until: Instant,
    ) -> Result<Vec<Value>, RedisError> {
        let (number, connection) = self.connection(until).await?;
        let attempt = |_| exchange(connection.clone(), commands);
        self.settle(number, self.guard.call(until, attempt).await)
    }

    /// As [`call`](Self::call), but for what nobody waits for: until `until`, however long that is.
    ///
    /// # Errors
    /// When all of them failed together.
    pub(crate) async fn call_patiently(
        self: &Arc<Self>,
        commands: &[&Command],
        until: Instant,
    ) -> Result<Vec<Value>, RedisError> {
        let (number, connection) = self.connection(until).await?;
        self.settle(number, self.guard.probe(until, exchange(connection, commands)).await)
    }

    fn settle<T>(self: &Arc<Self>, number: u64, result: Result<T, CallError>) -> Result<T, RedisError> {
        if let Err(CallError::TimedOut | CallError::Connection(_) | CallError::Broken(_)) = &result {
            self.suspect(number, &result);
        }
        result.map_err(|error| self.explain(error))
    }

    /// The connection; waits for one that is being made, while nothing is known against it.
    async fn connection(
        self: &Arc<Self>,
        until: Instant,
    ) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let mut state = self.lock();
                if let Some(connection) = &state.connection {
                    return Ok((state.number, connection.clone()));
                }
                self.keep(&mut state);
            }
            if self.guard.stats().breaker != BreakerState::Closed {
                return Err(RedisError::Unavailable(self.trouble()));
            }
            let waited = timeout_at(until, changed.changed()).await;
            if waited.is_err() {
                return Err(RedisError::Unavailable(format!("{}: connecting", self.dialer)));
            }
        }
    }

    /// A call failed: the keeper looks what is the matter. A connection that broke is used no more.
    fn suspect<T>(self: &Arc<Self>, number: u64, result: &Result<T, CallError>) {
        let mut state = self.lock();
        if state.number == number && !matches!(result, Err(CallError::TimedOut)) {
            state.connection = None;
        }
        self.keep(&mut state);
    }

    /// Sees to it that a keeper is at work.
    fn keep(self: &Arc<Self>, state: &mut State) {
        if !state.kept {
            state.kept = true;
            tokio::spawn(keeper(Keeping(Arc::downgrade(self))));
        }
    }

    /// The keeper's look: connects where there is no connection, and asks whether it lives.
    async fn look(&self) -> Result<(), CallError> {
        let (connection, number) = match self.lock() {
            state if self.guard.stats().breaker == BreakerState::Closed => {
                (state.connection.clone(), state.number)
            }
            // What went unanswered for so long is not waited for: a new connection has an empty queue.
            state => (None, state.number),
        };
        let connection = match connection {
            Some(connection) => connection,
            None => self.dialer.dial().await?,
        };
        let ping = Command::new("PING", super::command::Expect::Anything);
        let question = [&ping];
        let asked = timeout(self.dialer.settings.timeout, exchange(connection.clone(), &question));
        let answer = asked.await.unwrap_or(Err(CallError::TimedOut))?;
        match answer.first() {
            // Whoever may not ask that is answered nonetheless.
            Some(Value::SimpleString(pong)) if pong == "PONG" => {}
            Some(Value::ServerError(_)) => {}
            other => return Err(CallError::Broken(plain(&format!("to PING: {other:?}")))),
        }
        self.publish(connection, number);
        Ok(())
    }

    fn publish(&self, connection: MultiplexedConnection, number: u64) {
        let mut state = self.lock();
        if state.number == number {
            state.number += 1;
            state.connection = Some(connection);
        }
        state.trouble = None;
    }

    /// What the keeper's look found.
    fn found(&self, error: &CallError) {
        let text = plain(&format!("{}: {error}", self.dialer));
        let mut state = self.lock();
        state.trouble = Some(text);
        // A breaker counts calls that fail. That nobody can be connected to needs no counting.
        if state.connection.is_none() || !matches!(error, CallError::TimedOut) {
            state.connection = None;
            self.guard.open();
        }
    }

    /// Where it is, if that is fixed.
    pub(crate) fn address(&self) -> Option<&Address> {
        match &self.dialer.target {
            Target::Server(address) => Some(address),
            Target::Master => None,
        }
    }

    fn trouble(&self) -> String {
        self.lock().trouble.clone().unwrap_or_else(|| format!("{}: it does not answer", self.dialer))
    }

    fn explain(&self, error: CallError) -> RedisError {
        match error {
            CallError::TimedOut => RedisError::Timeout,
            CallError::Broken(text) => RedisError::Garbage(text),
            CallError::BreakerOpen(_) => RedisError::Unavailable(self.trouble()),
            other => RedisError::Unavailable(format!("{}: {other}", self.dialer)),
        }
    }

    /// How its calls went, and what is wrong with it where something is.
    pub(crate) fn stats(&self) -> (String, GuardStats, Option<String>) {
        (self.dialer.to_string(), self.guard.stats(), self.lock().trouble.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pipeline there and back. Dropped at any point it takes nothing from anybody: the library keeps a place
/// in the connection's queue for each answer, and forgets those that nobody waits for.
async fn exchange(
    mut connection: MultiplexedConnection,
    commands: &[&Command],
) -> Result<Vec<Value>, CallError> {
    let asking = || redis::cmd("ASKING");
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        if command.asking {
            pipeline.add_command(asking());
        }
        pipeline.add_command(command.cmd.clone());
    }
    let sent = pipeline.len();
    let answers = connection.req_packed_commands(&pipeline, 0, sent).await;
    let mut answers = answers.map_err(|error| CallError::Connection(plain(&error.to_string())))?.into_iter();
    let mut kept = Vec::with_capacity(commands.len());
    for command in commands {
        if command.asking {
            answers.next();
        }
        kept.push(check(command, answers.next())?);
    }
    Ok(kept)
}

/// The answer, if it is one and comes from a server that can serve.
fn check(command: &Command, answer: Option<Value>) -> Result<Value, CallError> {
    let answer = answer.ok_or_else(|| CallError::Broken("an answer is missing".to_owned()))?;
    match &answer {
        Value::ServerError(error) if is_lost(error) => Err(CallError::Connection(plain(&format!(
            "{} {}",
            error.code(),
            error.details().unwrap_or_default()
        )))),
        value if !command.fits(value) => Err(CallError::Broken(unfit(value).to_string())),
        _ => Ok(answer),
    }
}

/// Makes sure that a link knows when its keeper is gone, also when its runtime ended under it.
struct Keeping(Weak<Link>);

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.lock().kept = false;
            link.changed.send_replace(());
        }
    }
}

/// Looks after one link until it is well again or nobody has it any more.
async fn keeper(keeping: Keeping) {
    loop {
        let Some(link) = keeping.0.upgrade() else { return };
        let until = Instant::now() + link.dialer.settings.connect_timeout;
        let wait = match link.guard.probe(until, link.look()).await {
            Ok(()) => return,
            Err(CallError::BreakerOpen(wait)) => wait,
            Err(error) => {
                link.found(&error);
                SUSPICION
            }
        };
        link.changed.send_replace(());
        // Not held while it sleeps: it ends with the last of those who use it.
        drop(link);
        sleep(wait).await;
    }
}
