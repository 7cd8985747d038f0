//! Random mixes of jobs against the simplest model there is: each job's answer is its rows
//! plus one, or an error of its own making.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use weir_types::ErrorCode;

use super::{Double, named, values};
use crate::executor::{
    Executor, Job,
    tests::double::{LONG, job, local, wrong},
};

#[derive(Debug, Clone)]
enum Fate {
    Answered,
    Poisonous,
    Wrong,
    /// Its caller goes away before the model is free.
    Dropped,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::Poisonous), 1 => Just(Fate::Wrong), 2 => Just(Fate::Dropped)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No answer is swapped, lost or doubled, whatever is merged, cut, retried or withdrawn.
    #[test]
    fn everybody_gets_the_own_answer_once(
        jobs in prop::collection::vec((fate(), 0usize..20, 0u64..4, 0u8..3), 1..40),
        max_rows in 1usize..12,
        instances in 1usize..4,
    ) {
        let double = Double::held();
        let executor = local(&double, |b| (b.max_rows, b.instances) = (Some(max_rows), Some(instances)));
        let mut waiting = Vec::new();
        for (at, (fate, rows, priority, caller)) in jobs.into_iter().enumerate() {
            let mut input: Vec<f32> = (0..rows).map(|row| (at * 100 + row) as f32).collect();
            if matches!(fate, Fate::Poisonous) {
                input.push(-1.0);
            }
            let job = if matches!(fate, Fate::Wrong) { wrong(double.clock()) } else { job(double.clock(), &input, LONG) };
            let job = Job { priority, caller: named(&caller.to_string()), ..job };
            waiting.push((fate, input, executor.execute(job)));
        }
        let total = waiting.len();
        waiting.retain(|(fate, ..)| !matches!(fate, Fate::Dropped));
        double.open();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let left = waiting.len();
        for (fate, input, answer) in waiting {
            let result = runtime.block_on(answer);
            match fate {
                Fate::Answered => {
                    let expected: Vec<f32> = input.iter().map(|x| x + 1.0).collect();
                    prop_assert_eq!(values(result), expected);
                }
                Fate::Poisonous => prop_assert_eq!(result.unwrap_err().code, ErrorCode::Internal),
                _ => prop_assert_eq!(result.unwrap_err().code, ErrorCode::InvalidArgument),
            }
        }
        let stats = executor.stats();
        let counted = stats.answered.count() + stats.failed.count() + stats.abandoned.load(Ordering::Relaxed);
        prop_assert_eq!(counted, total as u64, "{} were dropped", total - left);
        prop_assert_eq!(executor.waiting(), 0);
    }
}
