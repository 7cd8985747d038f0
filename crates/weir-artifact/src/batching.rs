//! `[batching]`: how requests to a model that does not answer at once wait and run together.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::HumanDuration;

use crate::report::Report;

/// How requests wait and run together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchingTable {
    /// Most rows in one execution; larger requests are cut. Default: as many as take about
    /// 10 ms, at least 8 and at most 1,024.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_rows: Option<usize>,
    /// Most tokens in one execution of a model that reads text.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_tokens: usize,
    /// How long an execution that could start waits for more rows. The default, not at all, is
    /// best for nearly everybody: while a model is busy, rows gather by themselves.
    pub max_delay: HumanDuration,
    /// Lengths in tokens, ascending, up to which texts run together: each text is padded to
    /// the longest beside it.
    pub buckets: Vec<usize>,
    /// Executions at the same time. Default: cores divided by `threads`.
    #[schemars(range(min = 1, max = 1024))]
    pub instances: Option<usize>,
    /// Threads of one execution, where the engine has several. Default: 1, which wastes least.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Most requests that wait; one more is refused. Default: `max_queue` of the server.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue: Option<usize>,
    /// Whether rows of several requests may run together. Default: found out when the model
    /// loads, by comparing two rows together with each alone.
    pub merge: Option<bool>,
    /// How many priorities there are. The highest is 1; a request that names none, or one that
    /// is not there, has the default.
    #[schemars(range(min = 1, max = 64))]
    pub priority_levels: usize,
    /// The priority of requests that name none. Default: the middle one.
    #[schemars(range(min = 1, max = 64))]
    pub default_priority: Option<usize>,
}

impl Default for BatchingTable {
    fn default() -> Self {
        Self {
            max_rows: None,
            max_tokens: 512,
            max_delay: HumanDuration(Duration::ZERO),
            buckets: vec![16, 32, 64, 128, 256, 512],
            instances: None,
            threads: None,
            queue: None,
            merge: None,
            priority_levels: 9,
            default_priority: None,
        }
    }
}

/// Longest `max_delay`.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// Most buckets.
const MAX_BUCKETS: usize = 64;

impl BatchingTable {
    /// Reports every setting that cannot be obeyed, besides the ranges, which the schema holds.
    pub(crate) fn check(&self, report: &mut Report) {
        if self.default_priority.is_some_and(|n| n > self.priority_levels) {
            let text =
                format!("`batching.default_priority` is at most `priority_levels`, {}", self.priority_levels);
            report.at("batching.default_priority", text);
        }
        if self.max_delay.0 > MAX_DELAY {
            report.at(
                "batching.max_delay",
                "`batching.max_delay` is at most 1s: callers wait that long for nothing",
            );
        }
        let buckets = &self.buckets;
        if buckets.len() > MAX_BUCKETS
            || buckets.first() == Some(&0)
            || buckets.windows(2).any(|w| w[0] >= w[1])
        {
            let text = format!(
                "`batching.buckets` is at most {MAX_BUCKETS} lengths from 1, each larger than the one before"
            );
            report.at("batching.buckets", text);
        }
    }

    /// The level of a request's priority, from 0: one that is not there is the default.
    pub fn level(&self, priority: u64) -> usize {
        match priority {
            1.. if priority <= self.priority_levels as u64 => (priority - 1) as usize,
            _ => self.default_priority() - 1,
        }
    }

    /// The default priority, from 1.
    pub fn default_priority(&self) -> usize {
        self.default_priority
            .unwrap_or(self.priority_levels.div_ceil(2))
            .clamp(1, self.priority_levels.max(1))
    }
}
