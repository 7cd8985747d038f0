//! Interleavings of callers and workers: `make test-shuttle`.

use shuttle::{
    check_random,
    sync::{Arc, Mutex},
    thread,
};

use super::*;
use crate::executor::{Caller, Cores};

const ROUNDS: usize = 2_000;

fn ticket(cost: u64) -> Ticket {
    Ticket { level: 0, caller: Caller::Unknown, cost, rows: 1, kind: 0, last: true }
}

fn limits(_: &Ticket) -> Limits {
    Limits { entries: 2, rows: 2, cost: u64::MAX }
}

/// Two workers, three callers, one of whom withdraws: each entry is taken or withdrawn, once.
#[test]
fn nothing_is_lost_or_taken_twice() {
    let round = || {
        let lane = Arc::new(Lane::new(1));
        let cores = Arc::new(Cores::new(1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (lane, cores, seen) = (lane.clone(), cores.clone(), seen.clone());
                thread::spawn(move || {
                    while lane.wait() {
                        let _permit = cores.take(1);
                        let mut batch = lane.take(limits, |_| false).batch;
                        // Once, the second entry of a batch goes back.
                        let back = if batch.len() > 1 && batch[1].item % 2 == 0 { batch.pop() } else { None };
                        let owed = cost(&batch);
                        if let Some(mut entry) = back {
                            entry.item += 1;
                            lane.put_back(vec![entry]);
                        }
                        seen.lock().unwrap().extend(batch.into_iter().map(|e| e.item / 2));
                        lane.done(owed);
                    }
                })
            })
            .collect();
        let callers: Vec<_> = (0..3u32)
            .map(|i| {
                let (lane, seen) = (lane.clone(), seen.clone());
                thread::spawn(move || {
                    let pushed = lane.push(vec![(ticket(1), i * 2)], |_| Ok::<_, ()>(())).unwrap();
                    if i == 0 {
                        let withdrawn = lane.withdraw(&pushed.places);
                        seen.lock().unwrap().extend(withdrawn.into_iter().map(|item| item / 2));
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        lane.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(lane.look(|state| (state.running, state.queue.len(), state.idle)), (0, 0, 0));
    };
    check_random(round, ROUNDS);
}

/// Permits: never more than there are, and a large wish is not passed for ever.
#[test]
fn permits_are_bounded_and_come_back() {
    let round = || {
        let cores = Arc::new(Cores::new(2));
        let used = Arc::new(Mutex::new(0));
        let all: Vec<_> = [1, 2, 1, 3]
            .into_iter()
            .map(|threads: usize| {
                let (cores, used) = (cores.clone(), used.clone());
                thread::spawn(move || {
                    let permit = cores.take(threads);
                    *used.lock().unwrap() += threads.min(2);
                    thread::yield_now();
                    assert!(*used.lock().unwrap() <= 2);
                    *used.lock().unwrap() -= threads.min(2);
                    drop(permit);
                })
            })
            .collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
    };
    check_random(round, ROUNDS);
}
