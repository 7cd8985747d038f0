//! Which settings are tried, in which order: one knob after the other, over a small grid, and again
//! around what was found while that helps.

use std::collections::BTreeSet;

use weir_artifact::BatchingTable;

use super::verdict::GAIN;

/// Most settings that are tried besides the one in force.
pub(super) const MOST_SETTINGS: usize = 40;
/// Rounds over all knobs: the second looks around what the first found.
const ROUNDS: usize = 3;

/// What there is to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Threads that models may compute on.
    pub(super) cores: usize,
    /// Whether the engine can compute one execution on several threads.
    pub(super) parallel: bool,
    /// Whether rows are texts.
    pub(super) text: bool,
}

/// Why a measurement was not made.
#[derive(Debug)]
pub(super) enum Halt<E> {
    /// The time for it is used up.
    Spent,
    /// It failed.
    Failed(E),
}

/// What was found.
#[derive(Debug, PartialEq)]
pub(super) struct Searched {
    /// The best setting: the one in force, where no other was better.
    pub(super) best: BatchingTable,
    /// The rate that it kept, requests a second.
    pub(super) rate: f64,
    /// Whether everything was tried; if not, the time was used up.
    pub(super) complete: bool,
}

/// Starts from the setting in force, which keeps `rate`. `measure` gets a setting and the rate that
/// it has to keep to be of interest, and says what it keeps.
///
/// # Errors
/// Whatever `measure` fails with.
pub(super) fn search<E>(
    (in_force, rate): (&BatchingTable, f64),
    limits: Limits,
    mut measure: impl FnMut(&BatchingTable, f64) -> Result<Option<f64>, Halt<E>>,
) -> Result<Searched, E> {
    let mut found = Searched { best: in_force.clone(), rate, complete: true };
    let mut tried = BTreeSet::from([limits.meaning(in_force)]);
    let knobs = || limits.knobs().into_iter().map(Some);
    for round in 0..ROUNDS {
        let before = found.rate;
        // All defaults at once come first: one knob at a time may not lead there.
        let first = (round == 0).then_some(None);
        for knob in first.into_iter().chain(knobs()) {
            let settings = match knob {
                None => vec![defaults(in_force)],
                Some(knob) => knob.values(&found.best.clone(), limits, round),
            };
            for setting in settings {
                if tried.len() > MOST_SETTINGS || !tried.insert(limits.meaning(&setting)) {
                    continue;
                }
                match measure(&setting, found.rate * GAIN) {
                    Ok(Some(rate)) if rate >= found.rate * GAIN => {
                        (found.best, found.rate) = (setting, rate);
                    }
                    Ok(_) => {}
                    Err(Halt::Spent) => return Ok(Searched { complete: false, ..found }),
                    Err(Halt::Failed(error)) => return Err(error),
                }
            }
        }
        if found.rate <= before {
            break;
        }
    }
    Ok(found)
}

/// `table` with the default of everything that is searched.
pub(super) fn defaults(table: &BatchingTable) -> BatchingTable {
    let BatchingTable { max_rows, max_tokens, buckets, instances, threads, .. } = BatchingTable::default();
    BatchingTable { max_rows, max_tokens, buckets, instances, threads, ..table.clone() }
}

/// What a setting comes to: threads, instances, rows, tokens, buckets. Two settings that come to
/// the same are not tried twice.
type Meaning = (usize, usize, Option<usize>, usize, Vec<usize>);

impl Limits {
    /// Whether two settings come to the same.
    pub(super) fn same(self, one: &BatchingTable, other: &BatchingTable) -> bool {
        self.meaning(one) == self.meaning(other)
    }

    fn meaning(self, table: &BatchingTable) -> Meaning {
        let (tokens, buckets) = match self.text {
            true => (table.max_tokens, table.buckets.clone()),
            false => (0, Vec::new()),
        };
        (self.threads(table), self.instances(table), table.max_rows, tokens, buckets)
    }

    fn threads(self, table: &BatchingTable) -> usize {
        table.threads.unwrap_or(1).clamp(1, self.cores)
    }

    /// As the executor has it: more than fit would wait for a core.
    fn instances(self, table: &BatchingTable) -> usize {
        let most = (self.cores / self.threads(table)).max(1);
        table.instances.unwrap_or(most).clamp(1, most)
    }

    /// What most hangs on comes first, in case that the time ends.
    fn knobs(self) -> Vec<Knob> {
        let size = if self.text { Knob::MaxTokens } else { Knob::MaxRows };
        let all = [Some(size), Some(Knob::Threads), Some(Knob::Instances), Some(Knob::Buckets)];
        let applies = |knob: &Knob| match knob {
            Knob::Threads => self.parallel && self.cores > 1,
            Knob::Instances => self.cores > 1,
            Knob::Buckets => self.text,
            Knob::MaxRows | Knob::MaxTokens => true,
        };
        all.into_iter().flatten().filter(applies).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knob {
    MaxRows,
    MaxTokens,
    Threads,
    Instances,
    Buckets,
}

/// Widths of buckets: doubling (the default), half steps between, four times as wide, one for all.
const BUCKETS: [&[usize]; 4] = [
    &[16, 32, 64, 128, 256, 512],
    &[16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512],
    &[32, 128, 512],
    &[512],
];

impl Knob {
    /// `at` with other values of this knob: the whole grid in the first round, then what is next to
    /// the value at hand.
    fn values(self, at: &BatchingTable, limits: Limits, round: usize) -> Vec<BatchingTable> {
        let set = |change: &dyn Fn(&mut BatchingTable)| {
            let mut table = at.clone();
            change(&mut table);
            table
        };
        let around = |n: usize| [n / 2, n * 2].into_iter().filter(|n| (1..=8_192).contains(n)).collect();
        let grid = |first: &[usize], now: Option<usize>| -> Vec<usize> {
            if round == 0 { first.to_vec() } else { now.map(around).unwrap_or_default() }
        };
        match self {
            Self::MaxRows => {
                let rows = grid(&[1, 4, 16, 64, 256], at.max_rows);
                // What Weir chooses by itself comes first: a number must be better than that.
                let open = (round == 0).then_some(None);
                let rows = open.into_iter().chain(rows.into_iter().map(Some));
                rows.map(|n| set(&|table| table.max_rows = n)).collect()
            }
            Self::MaxTokens => {
                let tokens = grid(&[128, 256, 512, 1_024], Some(at.max_tokens));
                tokens.into_iter().map(|n| set(&|table| table.max_tokens = n)).collect()
            }
            Self::Threads => powers(limits.cores)
                .map(|n| set(&|table| (table.threads, table.instances) = (Some(n), None)))
                .collect(),
            Self::Instances => powers(limits.cores / limits.threads(at))
                .map(|n| set(&|table| table.instances = Some(n)))
                .collect(),
            Self::Buckets => BUCKETS.map(|widths| set(&|table| table.buckets = widths.to_vec())).into(),
        }
    }
}

/// 1, 2, 4 … up to `most`, and `most` itself.
fn powers(most: usize) -> impl Iterator<Item = usize> {
    let below = std::iter::successors(Some(1usize), |n| n.checked_mul(2)).take_while(move |n| *n < most);
    below.chain((most > 0).then_some(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(cores: usize, parallel: bool, text: bool) -> Limits {
        Limits { cores, parallel, text }
    }

    /// A machine where an execution costs `fixed` and each row one, computed by `threads` as well as
    /// `scaling` says; a batch may not take longer than `allowed`.
    fn cost_model(table: &BatchingTable, limits: Limits, (fixed, allowed, scaling): (f64, f64, f64)) -> f64 {
        let (threads, rows) = (limits.threads(table) as f64, table.max_rows.unwrap_or(8) as f64);
        let took = (fixed + rows) / threads.powf(scaling);
        if took > allowed { 0.5 } else { 1e3 * limits.instances(table) as f64 * rows / took }
    }

    proptest! {
        #[test]
        fn what_is_found_is_never_worse_and_costs_a_bounded_number_of_measurements(
            cores in 1usize..200, parallel: bool, text: bool, fixed in 0.0f64..100.0,
            allowed in 1.0f64..1000.0, scaling in 0.0f64..1.0, noise in prop::collection::vec(0.7f64..1.3, 60),
        ) {
            let (limits, mut tried) = (limits(cores, parallel, text), Vec::new());
            let in_force = BatchingTable::default();
            let truth = |table: &BatchingTable| cost_model(table, limits, (fixed, allowed, scaling));
            let rate = truth(&in_force);
            let found = search((&in_force, rate), limits, |table, beat| {
                let measured = truth(table) * noise[tried.len()];
                tried.push((table.clone(), measured));
                Ok::<_, Halt<()>>((measured >= beat).then_some(measured))
            }).unwrap();
            prop_assert!(tried.len() <= MOST_SETTINGS);
            prop_assert!(found.rate >= rate && found.complete);
            let best = tried.iter().map(|t| t.1).fold(rate, f64::max);
            prop_assert!(found.rate * GAIN >= best, "{} of {best}", found.rate);
            for (at, (table, _)) in tried.iter().enumerate() {
                prop_assert!(limits.instances(table) * limits.threads(table) <= cores);
                prop_assert!(table.instances.is_none_or(|n| n * limits.threads(table) <= cores));
                let meaning = limits.meaning(table);
                prop_assert!(tried[..at].iter().all(|(other, _)| limits.meaning(other) != meaning), "twice: {table:?}");
                prop_assert!(text || (table.buckets == in_force.buckets && table.max_tokens == in_force.max_tokens));
            }
        }
    }

    #[test]
    fn the_second_round_refines_what_the_first_found() {
        // Each row costs one and an execution 50; 140 are allowed, so that 64 rows fit and 128 do not.
        let (limits, in_force) = (limits(1, false, false), BatchingTable::default());
        let mut tried = Vec::new();
        let measure = |table: &BatchingTable, _| {
            tried.push(table.max_rows);
            Ok::<_, Halt<()>>(Some(cost_model(table, limits, (50.0, 90.0, 1.0))))
        };
        let rate = cost_model(&in_force, limits, (50.0, 90.0, 1.0));
        let found = search((&in_force, rate), limits, measure).unwrap();
        assert_eq!(found.best.max_rows, Some(32));
        assert_eq!(tried, [1, 4, 16, 64, 256, 8, 32].map(Some));
    }

    #[test]
    fn what_weir_chooses_by_itself_is_tried_too() {
        let in_force = BatchingTable { max_rows: Some(1), ..BatchingTable::default() };
        let measure = |table: &BatchingTable, _| {
            Ok::<_, Halt<()>>(Some(if table.max_rows.is_none() { 9.0 } else { 9.2 }))
        };
        let found = search((&in_force, 1.0), limits(1, false, false), measure).unwrap();
        assert_eq!((found.best.max_rows, found.rate), (None, 9.0));
    }

    #[test]
    fn a_search_that_runs_out_of_time_keeps_what_it_has() {
        let in_force = BatchingTable::default();
        let mut left = 3;
        let found = search((&in_force, 10.0), limits(4, true, false), |_, beat| {
            left -= 1;
            if left == 0 { Err(Halt::<()>::Spent) } else { Ok(Some(beat * 2.0)) }
        });
        let found = found.unwrap();
        assert!(!found.complete && found.rate > 40.0 && found.best.max_rows == Some(4), "{found:?}");
        let failed = search((&in_force, 1.0), limits(4, true, false), |_, _| Err(Halt::Failed("gone")));
        assert_eq!(failed, Err("gone"));
    }

    #[test]
    fn threads_times_instances_never_exceed_the_cores() {
        let values = |knob: Knob, cores| knob.values(&BatchingTable::default(), limits(cores, true, true), 0);
        let threads: Vec<_> = values(Knob::Threads, 6).iter().map(|t| t.threads.unwrap()).collect();
        assert_eq!(threads, [1, 2, 4, 6]);
        assert_eq!(powers(1).collect::<Vec<_>>(), [1]);
        assert_eq!(powers(0).count(), 0);
    }

    #[test]
    fn the_defaults_are_tried_at_once_and_leave_the_rest_alone() {
        let (max_rows, threads) = (Some(1), Some(2));
        let in_force = BatchingTable { max_rows, threads, merge: Some(true), ..BatchingTable::default() };
        let mut tried = Vec::new();
        let found = search((&in_force, 1.0), limits(2, true, false), |table, _| {
            tried.push(table.clone());
            // Either change alone makes it worse.
            let plain = *table == defaults(&in_force);
            Ok::<_, Halt<()>>(Some(if plain { 2.0 } else { 0.5 }))
        });
        let best = found.unwrap().best;
        assert_eq!((&tried[0], best.merge, best.max_rows, best.threads), (&best, Some(true), None, None));
    }
}
