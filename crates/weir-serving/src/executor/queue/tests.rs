use proptest::prelude::*;
use weir_types::Principal;

use super::*;

fn ticket(level: usize, caller: u8, cost: u64, kind: u64) -> Ticket {
    let caller = Caller::Named(Principal::new(caller.to_string()));
    Ticket { level, caller, cost, rows: cost as usize, kind, last: true }
}

fn limits(rows: usize) -> impl Fn(&Ticket) -> Limits {
    move |_| Limits { entries: usize::MAX, rows, cost: u64::MAX }
}

fn alone(_: &Ticket) -> Limits {
    Limits { entries: 1, rows: usize::MAX, cost: u64::MAX }
}

/// Takes everything, one by one.
fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.take(alone, |_| false).batch.pop().map(|e| e.item)).collect()
}

#[test]
fn callers_take_turns_by_what_they_cost() {
    let mut queue = Queue::new(1);
    (0..4).for_each(|i| {
        queue.push(ticket(0, 0, 10, 0), i);
    });
    (10..14).for_each(|i| {
        queue.push(ticket(0, 1, 5, 0), i);
    });
    // Two entries of the caller of 5 for each of the caller of 10.
    assert_eq!(drain(&mut queue), [0, 10, 11, 1, 12, 13, 2, 3]);
}

#[test]
fn who_comes_back_from_idling_has_saved_nothing_up() {
    let mut queue = Queue::new(1);
    (0..3).for_each(|i| {
        queue.push(ticket(0, 0, 10, 0), i);
    });
    assert_eq!(queue.take(alone, |_| false).batch[0].item, 0);
    assert_eq!(queue.take(alone, |_| false).batch[0].item, 1);
    (10..14).for_each(|i| {
        queue.push(ticket(0, 1, 10, 0), i);
    });
    assert_eq!(drain(&mut queue), [10, 2, 11, 12, 13], "it begins at the present, not at nothing");
}

#[test]
fn what_goes_back_is_next_and_nothing_is_forgotten_of_the_others() {
    let mut queue = Queue::new(1);
    (0..4).for_each(|i| {
        queue.push(ticket(0, 0, 1, 0), i);
    });
    let mut batch = queue.take(limits(3), |_| false).batch;
    queue.put_back(batch.pop().unwrap());
    assert_eq!((queue.len(), drain(&mut queue)), (2, vec![2, 3]));
}

#[test]
fn only_one_kind_shares_a_batch() {
    let mut queue = Queue::new(1);
    (0..6).for_each(|i| {
        queue.push(ticket(0, 0, 1, u64::from(i % 2)), i);
    });
    let batch: Vec<u32> = queue.take(limits(10), |_| false).batch.into_iter().map(|e| e.item).collect();
    assert_eq!(batch, [0, 2, 4]);
}

#[test]
fn what_runs_before_is_counted_for_each_caller() {
    let mut queue = Queue::new(2);
    (0..10).for_each(|i| {
        queue.push(ticket(1, 0, 10, 0), i);
    });
    queue.push(ticket(0, 0, 7, 0), 99);
    let of = |caller: u8| Caller::Named(Principal::new(caller.to_string()));
    assert_eq!((queue.ahead(0, &of(1), 0), queue.ahead(1, &of(0), 0)), (7, 107));
    queue.push(ticket(1, 2, 10, 0), 100);
    // The first of the bulk and the one of the second caller, besides the higher level.
    assert_eq!(queue.ahead(1, &of(1), 0), 27);
    assert_eq!(queue.ahead(1, &of(1), 50), 77, "with five turns of its own before");
}

#[test]
fn callers_who_caught_up_are_forgotten() {
    let mut queue = Queue::new(1);
    queue.push(ticket(0, 0, 1_000_000, 0), 0);
    queue.push(ticket(0, 0, 1, 0), 1);
    for i in 0..20_000u32 {
        let caller = Caller::Peer(std::net::Ipv4Addr::from(i).into());
        queue.push(Ticket { caller, ..ticket(0, 0, 1, 0) }, 2);
        let taken = queue.take(alone, |_| false).batch;
        assert_eq!(taken.len(), 1);
    }
    assert!(queue.levels[0].ends.len() <= 2 * MAX_CALLERS, "{}", queue.levels[0].ends.len());
    drain(&mut queue);
    queue.push(ticket(0, 0, 1, 0), 3);
    assert_eq!(queue.levels[0].ends.len(), 1);
}

#[derive(Debug, Clone)]
enum Op {
    Push(usize, u8, u64, u64),
    Take(usize),
    TakeAndReturn(usize),
    Withdraw(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0usize..3, 0u8..4, 1u64..20, 0u64..3).prop_map(|(l, c, cost, kind)| Op::Push(l, c, cost, kind)),
        2 => (1usize..40).prop_map(Op::Take),
        1 => (1usize..40).prop_map(Op::TakeAndReturn),
        1 => (0usize..60).prop_map(Op::Withdraw),
    ]
}

/// Start-time fair queueing as the paper has it, over a list.
#[derive(Default)]
struct Model {
    /// `(level, tag, number)`, ticket.
    waiting: Vec<((usize, u64, u64), Ticket)>,
    ends: HashMap<(usize, Caller), u64>,
    now: [u64; 3],
    number: u64,
}

impl Model {
    fn push(&mut self, ticket: Ticket) {
        let key = (ticket.level, ticket.caller.clone());
        let tag = self.ends.get(&key).copied().unwrap_or(0).max(self.now[ticket.level]);
        self.ends.insert(key, tag + ticket.cost);
        self.waiting.push(((ticket.level, tag, self.number), ticket));
        self.number += 1;
    }

    fn withdraw(&mut self, number: u64) {
        let Some(at) = self.waiting.iter().position(|((.., n), _)| *n == number) else { return };
        let ((level, tag, _), ticket) = self.waiting.remove(at);
        let end = self.ends.get_mut(&(level, ticket.caller));
        end.filter(|end| **end == tag + ticket.cost).into_iter().for_each(|end| *end = tag);
        self.forget();
    }

    /// Of a level without entries, nothing is remembered but its time.
    fn forget(&mut self) {
        let waiting: Vec<usize> = self.waiting.iter().map(|(key, _)| key.0).collect();
        self.ends.retain(|(level, _), _| waiting.contains(level));
    }

    fn take(&mut self, rows: usize) -> Vec<u64> {
        self.waiting.sort_by_key(|(key, _)| *key);
        let Some(((level, tag, _), first)) = self.waiting.first().cloned() else { return Vec::new() };
        self.now[level] = tag;
        let (mut sum, mut taken) = (0, Vec::new());
        self.waiting.retain(|((.., number), ticket)| {
            let joins =
                taken.is_empty() || (ticket.kind == first.kind && sum < rows && sum + ticket.rows <= rows);
            if joins {
                sum += ticket.rows;
                taken.push(*number);
            }
            !joins
        });
        self.forget();
        taken
    }
}

proptest! {
    #[test]
    fn the_order_is_that_of_the_paper(ops in prop::collection::vec(op(), 1..120)) {
        let (mut queue, mut model) = (Queue::new(3), Model::default());
        let mut places = Vec::new();
        for op in ops {
            match op {
                Op::Push(level, caller, cost, kind) => {
                    let number = model.number;
                    places.push(queue.push(ticket(level, caller, cost, kind), number));
                    model.push(ticket(level, caller, cost, kind));
                }
                Op::Take(rows) => {
                    let taken = queue.take(limits(rows), |_| false).batch;
                    let taken: Vec<u64> = taken.into_iter().map(|e| e.item).collect();
                    prop_assert_eq!(taken, model.take(rows));
                }
                Op::TakeAndReturn(rows) => {
                    let mut taken = queue.take(limits(rows), |_| false).batch;
                    if taken.len() < 2 {
                        prop_assert_eq!(taken.iter().map(|e| e.item).collect::<Vec<_>>(), model.take(rows));
                        continue;
                    }
                    let last = taken.pop().unwrap();
                    // In the model, the last one was never taken.
                    let ticket = last.ticket.clone();
                    let expected = model.take(rows);
                    prop_assert_eq!(expected.last(), Some(&last.item));
                    let key = (last.place.level, last.place.tag, last.place.sequence);
                    model.waiting.push((key, ticket));
                    let end = last.place.tag + last.ticket.cost;
                    let known = (last.ticket.level, last.ticket.caller.clone());
                    let known = model.ends.entry(known).or_default();
                    *known = end.max(*known);
                    queue.put_back(last);
                }
                Op::Withdraw(at) => {
                    let number = at as u64;
                    let Some(place) = places.get(at) else { continue };
                    let had = model.waiting.iter().any(|((.., n), _)| *n == number);
                    model.withdraw(number);
                    prop_assert_eq!(queue.withdraw(*place).is_some(), had);
                }
            }
            prop_assert_eq!(queue.len(), model.waiting.len());
            let cost: u64 = queue.levels.iter().map(|l| l.cost).sum();
            prop_assert_eq!(cost, model.waiting.iter().map(|(_, t)| t.cost).sum::<u64>());
        }
    }
}
