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
    command::{Command, Expect},
    dial::{Dialer, Target},
    reply::{is_lost, text, unfit},
    settings::Address,
    told::Told,
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
    /// What the log has of it.
    told: Told,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, kept, trouble, connection, .. } = self;
        write!(f, "State({number}, connected: {}, kept: {kept}, {trouble:?})", connection.is_some())
    }
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// By a prediction: until then, and no longer than the configured timeout.
    Call(Instant),
    /// By nobody: until then.
    Patient(Instant),
}

impl Wait {
    pub(crate) fn until(self) -> Instant {
        match self {
            Wait::Call(until) | Wait::Patient(until) => until,
        }
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

    /// [`call`](Self::call) or [`call_patiently`](Self::call_patiently), as `wait` says.
    ///
    /// # Errors
    /// Theirs.
    pub(crate) async fn call_within(
        self: &Arc<Self>,
        commands: &[&Command],
        wait: Wait,
    ) -> Result<Vec<Value>, RedisError> {
        match wait {
            Wait::Call(until) => self.call(commands, until).await,
            Wait::Patient(until) => self.call_patiently(commands, until).await,
        }
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

    fn settle(
        self: &Arc<Self>,
        number: u64,
        result: Result<Vec<Value>, CallError>,
    ) -> Result<Vec<Value>, RedisError> {
        match &result {
            Ok(answers) => self.note_refusals(answers),
            Err(CallError::TimedOut) => self.suspect(None),
            Err(CallError::Connection(_) | CallError::Broken(_)) => self.suspect(Some(number)),
            _ => {}
        }
        result.map_err(|error| self.explain(error))
    }

    /// Whatever it is asked for, and by whom: that the server refuses it is told here, in one place.
    fn note_refusals(&self, answers: &[Value]) {
        for answer in answers {
            if let Value::ServerError(error) = answer {
                self.lock().told.refused(&self.dialer, error);
            }
        }
    }

    /// The connection; waits for one that is being made, while nothing is known against the server.
    async fn connection(
        self: &Arc<Self>,
        until: Instant,
    ) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(found) = self.try_connection()? {
            return Ok(found);
        }
        let mut changed = self.changed.subscribe();
        loop {
            // Again: it may have come in between.
            if let Some(found) = self.try_connection()? {
                return Ok(found);
            }
            if timeout_at(until, changed.changed()).await.is_err() {
                return Err(RedisError::Unavailable(format!("{}: connecting", self.dialer)));
            }
        }
    }

    /// The connection, if there is one. Where something is not as it should be, a keeper is at work
    /// afterwards.
    fn try_connection(self: &Arc<Self>) -> Result<Option<(u64, MultiplexedConnection)>, RedisError> {
        let mut state = self.lock();
        let closed = self.guard.breaker() == BreakerState::Closed;
        if let Some(connection) = state.connection.as_ref().filter(|_| closed) {
            return Ok(Some((state.number, connection.clone())));
        }
        self.keep(&mut state);
        match closed {
            true => Ok(None),
            false => Err(RedisError::Unavailable(state.trouble(&self.dialer))),
        }
    }

    /// A call failed: a keeper looks what is the matter. The connection that broke, if one did, is used no
    /// more.
    fn suspect(self: &Arc<Self>, broken: Option<u64>) {
        let mut state = self.lock();
        if broken == Some(state.number) {
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
        let connection = match self.present() {
            Some(connection) => connection,
            None => self.dialer.dial().await?,
        };
        timeout(self.dialer.settings.timeout, ping(connection.clone()))
            .await
            .unwrap_or(Err(CallError::TimedOut))?;
        let mut state = self.lock();
        state.trouble = None;
        if state.connection.is_none() {
            state.number += 1;
            state.connection = Some(connection);
        }
        Ok(())
    }

    /// The connection that is worth asking. What went unanswered until the breaker opened is not waited for:
    /// a new one has an empty queue.
    fn present(&self) -> Option<MultiplexedConnection> {
        let mut state = self.lock();
        if self.guard.breaker() != BreakerState::Closed {
            state.connection = None;
        }
        state.connection.clone()
    }

    /// What the keeper's look found.
    fn found(&self, error: &CallError) {
        let mut state = self.lock();
        state.trouble = Some(plain(&format!("{}: {error}", self.dialer)));
        let slow = matches!(error, CallError::TimedOut) && state.connection.is_some();
        // Whether a server is only slow, the breaker finds out by counting. That nobody can be connected
        // to, or that it speaks no Redis, needs no counting.
        if !slow {
            state.connection = None;
            self.guard.open();
        }
    }

    /// Tells that it is away, if it is and that was not told.
    fn tell_away(&self) {
        let mut state = self.lock();
        if self.guard.breaker() != BreakerState::Closed {
            let trouble = state.trouble(&self.dialer);
            state.told.away(&trouble);
        }
    }

    /// Where it is, if that is fixed.
    pub(crate) fn address(&self) -> Option<&Address> {
        match &self.dialer.target {
            Target::Server(address) => Some(address),
            Target::Master => None,
        }
    }

    fn explain(&self, error: CallError) -> RedisError {
        match error {
            CallError::TimedOut => RedisError::Timeout,
            CallError::Broken(text) => RedisError::Garbage(text),
            CallError::BreakerOpen(_) => RedisError::Unavailable(self.lock().trouble(&self.dialer)),
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

impl State {
    fn trouble(&self, dialer: &Dialer) -> String {
        self.trouble.clone().unwrap_or_else(|| format!("{dialer}: it does not answer"))
    }
}

/// Asks whether it lives. Whoever may not ask that is answered nonetheless.
async fn ping(connection: MultiplexedConnection) -> Result<(), CallError> {
    let question = Command::new("PING", Expect::Anything);
    match exchange(connection, &[&question]).await?.first() {
        Some(Value::SimpleString(pong)) if pong == "PONG" => Ok(()),
        Some(Value::ServerError(_)) => Ok(()),
        other => Err(CallError::Broken(plain(&format!("to PING: {other:?}")))),
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
        Value::ServerError(error) if is_lost(error) => Err(CallError::Connection(text(error))),
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
            Ok(()) => return link.lock().told.back(&link.dialer),
            Err(CallError::BreakerOpen(wait)) => wait,
            // Nothing was asked: there is no room beside the calls that are under way.
            Err(CallError::Limited(_)) => SUSPICION,
            Err(error) => {
                link.found(&error);
                SUSPICION
            }
        };
        link.tell_away();
        link.changed.send_replace(());
        // Not held while it sleeps: it ends with the last of those who use it.
        drop(link);
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::RedisConfig;
    use super::*;

    /// A server that has just come back is asked when the longest wait is over that the keeper was in, on
    /// a connection that may take as long as it may.
    #[test]
    fn a_server_is_back_within_five_seconds() {
        let config = RedisConfig::single("redis://127.0.0.1");
        let last_probe_failed = config.connect_timeout.get();
        let longest = last_probe_failed + OPEN_MAX + SUSPICION + config.connect_timeout.get();
        assert!(longest <= Duration::from_secs(5), "{longest:?}");
    }
}
