//! What is on the screen: all servers together, their history, and how it is sorted.

use std::collections::{BTreeMap, VecDeque};

use super::{
    figures::{ModelRates, Rates},
    replica::{Look, Replica},
};

/// Intervals that the sparklines remember.
const HISTORY: usize = 120;
/// The name under which the history of all models together is kept; no model has it.
const ALL: &str = "";

/// By what models are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Rate,
    Name,
    Errors,
    P99,
    Queue,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Rate, Self::Name, Self::Errors, Self::P99, Self::Queue];

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Name => "name",
            Sort::Errors => "errors",
            Sort::P99 => "p99",
            Sort::Queue => "queue",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) replicas: Vec<Replica>,
    pub(super) sort: Sort,
    /// What is shown stands still; looking goes on.
    pub(super) paused: bool,
    pub(super) help: bool,
    /// The first row of the table that is shown.
    pub(super) first: usize,
    /// Requests a second, interval by interval, newest last.
    history: BTreeMap<String, VecDeque<f64>>,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) rates: ModelRates,
}

impl State {
    pub(super) fn new(urls: &[String]) -> Self {
        Self { replicas: urls.iter().map(|url| Replica::new(url)).collect(), ..Self::default() }
    }

    /// Takes in what was found of a server. Nothing changes while it is paused.
    pub(super) fn take(&mut self, number: usize, look: Look) {
        if let Some(replica) = self.replicas.get_mut(number).filter(|_| !self.paused) {
            replica.take(look);
        }
    }

    /// An interval has passed: the history grows by one.
    pub(super) fn tick(&mut self) {
        if self.paused || self.known() == 0 {
            return;
        }
        let all = self.together();
        let mut now: BTreeMap<String, f64> =
            all.models.iter().map(|(name, model)| (name.clone(), model.counts.requests)).collect();
        now.insert(ALL.to_owned(), all.total().counts.requests);
        // A model that is gone keeps no history.
        self.history.retain(|name, _| now.contains_key(name));
        for (name, rate) in now {
            let history = self.history.entry(name).or_default();
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(rate);
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    pub(super) fn sort_next(&mut self) {
        self.sort = self.sort.next();
    }

    /// Scrolls by some rows; as far as there are any is up to who shows them.
    pub(super) fn scroll(&mut self, rows: isize) {
        self.first = self.first.saturating_add_signed(rows).min(self.rows().len().saturating_sub(1));
    }

    /// Servers that answered twice in a row.
    pub(super) fn known(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.rates.is_some()).count()
    }

    /// All servers that answer.
    pub(super) fn together(&self) -> Rates {
        let mut all = Rates::default();
        self.replicas.iter().filter_map(|replica| replica.rates.as_ref()).for_each(|rates| all.add(rates));
        all
    }

    /// One row a model, sorted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let models = self.together().models.into_iter().filter(|(name, _)| !name.is_empty());
        let mut rows: Vec<Row> = models.map(|(name, rates)| Row { name, rates }).collect();
        let key = |row: &Row| match self.sort {
            Sort::Name => 0.0,
            Sort::Rate => row.rates.counts.requests,
            // What the column shows: a busy model with few errors stands behind a quiet one that fails.
            Sort::Errors => row.rates.error_share().unwrap_or(-1.0),
            Sort::P99 => row.rates.latency.quantile(0.99).map_or(-1.0, super::cells::seconds),
            Sort::Queue => row.rates.queue,
        };
        // Largest first; equal ones stay in the order of their names.
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
        rows
    }

    /// Requests a second of all models, interval by interval.
    pub(super) fn history(&self) -> impl DoubleEndedIterator<Item = f64> {
        self.history.get(ALL).into_iter().flatten().copied()
    }

    /// The same of one model.
    pub(super) fn history_of(&self, model: &str) -> impl DoubleEndedIterator<Item = f64> {
        self.history.get(model).into_iter().flatten().copied()
    }
}
