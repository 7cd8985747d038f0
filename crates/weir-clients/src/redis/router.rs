//! Which server is asked what, and what is asked again elsewhere.

use std::{borrow::Cow, sync::Arc};

use futures_util::future::join_all;
use redis::Value;
use tokio::time::Instant;

use super::{
    RedisError,
    cluster::{Cluster, Map, redirect},
    command::Command,
    link::{Link, Wait},
};

/// Rounds that one call may take: a slot moves once in a while, not in circles.
const MOST_ROUNDS: usize = 4;

/// Where commands go.
#[derive(Debug)]
pub(crate) enum Router {
    /// All to one server.
    One(Arc<Link>),
    /// Each to the master that has its slot.
    Cluster(Arc<Cluster>),
}

/// What came of one command; the server's own errors are among the values.
pub(crate) type Outcome = Result<Value, RedisError>;

impl Router {
    /// The answers, in the order of the commands. What goes to one server goes in one pipeline.
    pub(crate) async fn call(&self, commands: &[Command], wait: Wait) -> Vec<Outcome> {
        match self {
            Self::One(link) => {
                let all: Vec<&Command> = commands.iter().collect();
                spread(link.call_within(&all, wait).await, commands.len())
            }
            Self::Cluster(cluster) => match cluster.map(wait.until()).await {
                Ok(map) => Rounds::new(cluster, commands.len()).run(&map, commands, wait).await,
                Err(error) => spread(Err(error), commands.len()),
            },
        }
    }

    /// All masters.
    pub(crate) async fn masters(&self, until: Instant) -> Result<Vec<Arc<Link>>, RedisError> {
        match self {
            Self::One(link) => Ok(vec![link.clone()]),
            Self::Cluster(cluster) => Ok(cluster.map(until).await?.masters()),
        }
    }

    /// The servers that are known.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        match self {
            Self::One(link) => vec![link.clone()],
            Self::Cluster(cluster) => cluster.links(),
        }
    }
}

/// The outcome of each of `count` commands that went together.
fn spread(result: Result<Vec<Value>, RedisError>, count: usize) -> Vec<Outcome> {
    match result {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}

/// One command on its way, and its place in the call.
struct Errand<'a> {
    index: usize,
    command: Cow<'a, Command>,
}

/// What goes to one server.
struct Group<'a> {
    link: Arc<Link>,
    errands: Vec<Errand<'a>>,
}

/// A call to a cluster, round by round: each server once, all at the same time; then the commands that
/// were redirected, where they were redirected to.
struct Rounds<'c> {
    cluster: &'c Arc<Cluster>,
    outcomes: Vec<Outcome>,
}

impl<'c> Rounds<'c> {
    fn new(cluster: &'c Arc<Cluster>, count: usize) -> Self {
        // Stays for those that are still on their way when the rounds are over.
        let lost = Err(RedisError::Unavailable("the cluster sends in circles".to_owned()));
        Self { cluster, outcomes: vec![lost; count] }
    }

    async fn run(mut self, map: &Map, commands: &[Command], wait: Wait) -> Vec<Outcome> {
        let mut groups = self.first(map, commands);
        for _ in 0..MOST_ROUNDS {
            let calls = groups.iter().map(|group| group.call(wait));
            let answers = join_all(calls).await;
            let before = std::mem::take(&mut groups);
            for (group, answers) in before.into_iter().zip(answers) {
                self.settle(group, answers, &mut groups);
            }
            if groups.is_empty() {
                break;
            }
        }
        self.outcomes
    }

    /// Each to the master that has its slot.
    fn first<'a>(&mut self, map: &Map, commands: &'a [Command]) -> Vec<Group<'a>> {
        let mut groups = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            match map.owner(command.slot) {
                Some(link) => put(&mut groups, link, Errand { index, command: Cow::Borrowed(command) }),
                None => {
                    let text = format!("nobody in the cluster has slot {}", command.slot);
                    self.outcomes[index] = Err(RedisError::Unavailable(text));
                    self.cluster.doubt();
                }
            }
        }
        groups
    }

    /// Notes what is settled; what was redirected goes into the groups of the next round.
    fn settle<'a>(&mut self, group: Group<'a>, answers: Vec<Outcome>, next: &mut Vec<Group<'a>>) {
        for (mut errand, answer) in group.errands.into_iter().zip(answers) {
            if answer.is_err() {
                self.cluster.doubt();
            }
            let to = match &answer {
                Ok(Value::ServerError(error)) => redirect(error, group.link.address()),
                _ => None,
            };
            let Some((asking, link)) = to.and_then(|to| Some((to.ask, self.cluster.follow(&to)?))) else {
                self.outcomes[errand.index] = answer;
                continue;
            };
            if errand.command.asking != asking {
                errand.command.to_mut().asking = asking;
            }
            put(next, &link, errand);
        }
    }
}

impl Group<'_> {
    async fn call(&self, wait: Wait) -> Vec<Outcome> {
        let commands: Vec<&Command> = self.errands.iter().map(|errand| &*errand.command).collect();
        spread(self.link.call_within(&commands, wait).await, commands.len())
    }
}

fn put<'a>(groups: &mut Vec<Group<'a>>, link: &Arc<Link>, errand: Errand<'a>) {
    match groups.iter_mut().find(|group| Arc::ptr_eq(&group.link, link)) {
        Some(group) => group.errands.push(errand),
        None => groups.push(Group { link: link.clone(), errands: vec![errand] }),
    }
}
