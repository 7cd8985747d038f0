//! Which server is asked what, and what is asked again elsewhere.

use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::{RedisError, command::Command, link::Link};

/// Where commands go.
#[derive(Debug)]
pub(crate) enum Router {
    /// All to one server.
    One(Arc<Link>),
}

type Outcome = Result<Value, RedisError>;

impl Router {
    /// The answers, in the order of the commands. What goes to one server goes in one pipeline.
    pub(crate) async fn call(&self, commands: &[Command], until: Instant) -> Vec<Outcome> {
        match self {
            Self::One(link) => {
                let all: Vec<&Command> = commands.iter().collect();
                spread(link.call(&all, until).await, commands.len())
            }
        }
    }

    /// The masters that are known.
    pub(crate) fn masters(&self) -> Vec<Arc<Link>> {
        match self {
            Self::One(link) => vec![link.clone()],
        }
    }
}

/// An error that all of them share.
fn spread(result: Result<Vec<Value>, RedisError>, count: usize) -> Vec<Outcome> {
    match result {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}
