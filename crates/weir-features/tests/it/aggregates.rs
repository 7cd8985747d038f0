//! Streaming aggregates: against a naive reference that keeps every event.

use std::{collections::HashSet, time::Duration};

use proptest::prelude::*;
use weir_features::{Entity, Event, Events, FeatureError, Features, Taken};
use weir_types::Scalar;

use crate::support::{Fixture, Rng, at, on_every_store};

const LATENESS: f64 = 120.0;

/// Every aggregate, sliding and tumbling, over two fields: `amount` is a multiple of 1/64, whose
/// sums a float64 holds exactly; `wild` is anything.
const VIEWS: &str = r#"
[[view]]
name = "spend"
entity = "user_id"
stream = "payments"
lateness = "2m"
feature = [
    { name = "count", aggregate = "count", window = "10m", slide = "1m" },
    { name = "amounts", aggregate = "count", of = "amount", window = "10m", slide = "1m" },
    { name = "sum", aggregate = "sum", of = "amount", window = "10m", slide = "1m" },
    { name = "mean", aggregate = "mean", of = "amount", window = "5m" },
    { name = "min", aggregate = "min", of = "amount", window = "10m", slide = "5m" },
    { name = "max", aggregate = "max", of = "amount", window = "10m", slide = "1m" },
    { name = "last", aggregate = "last", of = "merchant", dtype = "string", window = "10m", slide = "2m" },
    { name = "merchants", aggregate = "distinct", of = "merchant", window = "10m", slide = "1m" },
    { name = "wild", aggregate = "sum", of = "wild", window = "10m", slide = "1m" },
    { name = "wild_mean", aggregate = "mean", of = "wild", window = "10m", slide = "1m" },
]
"#;

on_every_store!(
    any_order_within_the_lateness_gives_the_same_values,
    late_and_doubled_events_are_refused_and_counted,
    one_stream_feeds_several_views,
);

/// An event, in words of the reference.
#[derive(Debug, Clone)]
struct Paid {
    user: i64,
    time: f64,
    amount: Option<i64>,
    merchant: Option<u64>,
    wild: f64,
    id: Option<u64>,
}

fn event(paid: &Paid) -> Event {
    let mut values: Vec<(Box<str>, Scalar)> = vec![("wild".into(), Scalar::Float(paid.wild))];
    values.extend(paid.amount.map(|a| ("amount".into(), Scalar::Float(a as f64 / 64.0))));
    values.extend(paid.merchant.map(|m| ("merchant".into(), Scalar::String(format!("m{m:03}")))));
    Event {
        entity: Entity::String(format!("u{}", paid.user).into()),
        event_time: Some(at(paid.time)),
        id: paid.id.map(|id| id.to_string().into()),
        values,
    }
}

/// The events of the window that `now` is in.
fn window(events: &[Paid], user: i64, now: f64, window: f64, slide: f64) -> Vec<&Paid> {
    let end = (now / slide).floor() * slide + slide;
    let inside = |e: &&Paid| e.user == user && e.time >= end - window && e.time < end;
    events.iter().filter(inside).collect()
}

/// What the reference says of the first seven features, and how many merchants there are.
fn expected(events: &[Paid], user: i64, now: f64) -> (Vec<Option<Scalar>>, usize) {
    let amounts = |w, s| window(events, user, now, w, s).iter().filter_map(|e| e.amount).collect::<Vec<_>>();
    let float = |n: i64| Scalar::Float(n as f64 / 64.0);
    let all = window(events, user, now, 600.0, 60.0);
    let ten = amounts(600.0, 60.0);
    let five = amounts(300.0, 300.0);
    let count = |n: usize| (n > 0).then_some(Scalar::Int(n as i64));
    let sum = (!ten.is_empty()).then(|| float(ten.iter().sum()));
    let mean =
        (!five.is_empty()).then(|| Scalar::Float(five.iter().sum::<i64>() as f64 / 64.0 / five.len() as f64));
    let min = amounts(600.0, 300.0).into_iter().min().map(float);
    let max = ten.iter().copied().max().map(float);
    let last = window(events, user, now, 600.0, 120.0).into_iter().filter(|e| e.merchant.is_some());
    let last = last.max_by(|a, b| a.time.total_cmp(&b.time).then(a.merchant.cmp(&b.merchant)));
    let last = last.and_then(|e| e.merchant).map(|m| Scalar::String(format!("m{m:03}")));
    let merchants: HashSet<_> = all.iter().filter_map(|e| e.merchant).collect();
    (vec![count(all.len()), count(ten.len()), sum, mean, min, max, last], merchants.len())
}

async fn values(features: &Features, user: i64) -> Vec<Option<Scalar>> {
    let entity = Entity::String(format!("u{user}").into());
    let found = features.get("spend", &entity).await.unwrap();
    found.into_iter().map(|found| found.map(|found| found.value)).collect()
}

/// Sends the events in an order in which none comes later than the lateness, in requests of any
/// size, and some of those with an id twice.
async fn send(events: &Events, paid: &[Paid], rng: &mut Rng) {
    let mut order: Vec<(f64, &Paid)> =
        paid.iter().map(|p| (p.time + rng.below(1000) as f64 / 1000.0 * LATENESS, p)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut rest: Vec<&Paid> = order.into_iter().map(|(_, paid)| paid).collect();
    while !rest.is_empty() {
        let some = rest.split_off(rest.len() - rng.below(rest.len().min(9) as u64 + 1) as usize);
        let some = std::mem::replace(&mut rest, some);
        let (request, again): (Vec<_>, _) = (some.iter().map(|p| event(p)).collect(), some);
        let taken = events.ingest("payments", request).await.unwrap();
        assert!(taken.iter().all(|t| *t == Taken::Accepted), "{taken:?}");
        // Events that no window reaches back to are forgotten at once, and change no value.
        let twice = |p: &&&Paid| p.id.is_some() && p.time >= -600.0;
        let doubled: Vec<_> = again.iter().filter(twice).filter(|_| rng.below(3) == 0).collect();
        let taken = events.ingest("payments", doubled.into_iter().map(|p| event(p)).collect()).await.unwrap();
        assert!(taken.iter().all(|t| *t != Taken::Accepted), "{taken:?}");
    }
}

/// Events of the quarter of an hour before the clock's time, some at the same time.
fn some_events(rng: &mut Rng, count: u64) -> Vec<Paid> {
    let one = |i: u64| Paid {
        user: rng.below(3) as i64,
        time: -(rng.below(900) as f64),
        amount: (rng.below(5) > 0).then(|| rng.below(100_000) as i64 - 50_000),
        merchant: (rng.below(5) > 0).then(|| rng.below(40)),
        wild: f64::from_bits(rng.below(0x7e0) << 52 | rng.below(1 << 52) | rng.below(2) << 63),
        id: (rng.below(2) > 0).then_some(i),
    };
    (0..count).map(one).collect()
}

/// Sends the same events in two orders to two stores; both say what the reference says, now and
/// while the windows move on.
async fn check(one: &Fixture, other: &Fixture, seed: u64, count: u64) {
    let mut rng = Rng(seed | 1);
    let paid = some_events(&mut rng, count);
    let ((events, features), (others, other_features)) = (one.events(VIEWS), other.events(VIEWS));
    send(&events, &paid, &mut rng).await;
    send(&others, &paid, &mut rng).await;
    let mut now = 0.0;
    for step in [0, 1, 59, 60, 61, 119, 180, 300, 600] {
        one.clock.advance(Duration::from_secs(step));
        other.clock.advance(Duration::from_secs(step));
        now += step as f64;
        for user in 0..3 {
            let got = values(&features, user).await;
            assert_eq!(got, values(&other_features, user).await, "user {user} at {now}");
            let (expected, merchants) = expected(&paid, user, now);
            assert_eq!(got[..7], expected, "user {user} at {now}");
            let estimate = match got[7] {
                Some(Scalar::Int(n)) => n,
                _ => 0,
            };
            assert!((estimate - merchants as i64).abs() <= 1, "{estimate} of {merchants} merchants");
        }
    }
}

async fn any_order_within_the_lateness_gives_the_same_values(fixture: &Fixture) {
    check(fixture, &Fixture::memory(), 7, 120).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_order_gives_what_the_reference_gives(seed in any::<u64>(), count in 0u64..200) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&Fixture::memory(), &Fixture::memory(), seed, count));
    }
}

fn paid(time: f64, id: Option<u64>) -> Paid {
    Paid { user: 0, time, amount: Some(64), merchant: None, wild: 0.0, id }
}

async fn late_and_doubled_events_are_refused_and_counted(fixture: &Fixture) {
    let (events, features) = fixture.events(VIEWS);
    let send = |time, id| events.ingest("payments", vec![event(&paid(time, id))]);
    assert_eq!(send(0.0, Some(1)).await.unwrap(), [Taken::Accepted]);
    assert_eq!(send(-120.0, Some(2)).await.unwrap(), [Taken::Accepted], "just in time");
    assert_eq!(send(-120.1, Some(3)).await.unwrap(), [Taken::Late]);
    assert_eq!(send(-60.0, Some(2)).await.unwrap(), [Taken::Duplicate]);
    assert_eq!(send(-60.0, Some(4)).await.unwrap(), [Taken::Accepted]);
    let three = Some(Scalar::Int(3));
    assert_eq!(values(&features, 0).await[..3], [three.clone(), three, Some(Scalar::Float(3.0))]);
    let stats = &features.stats()[0];
    assert_eq!((stats.accepted, stats.late, stats.duplicates, stats.forgotten_ids), (3, 1, 1, 0));
    // Late is by the entity: another one's newest event says nothing about it.
    let mut other = paid(-500.0, None);
    other.user = 1;
    assert_eq!(events.ingest("payments", vec![event(&other)]).await.unwrap(), [Taken::Accepted]);
    // Within one request the oldest is taken first.
    let (new, old) = (paid(10.0, None), paid(-115.0, None));
    assert_eq!(
        events.ingest("payments", vec![event(&new), event(&old)]).await.unwrap(),
        [Taken::Accepted; 2]
    );
    let found = features.get("spend", &"u0".into()).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().event_time, at(10.0), "since the newest event");
}

async fn one_stream_feeds_several_views(fixture: &Fixture) {
    let more = r#"
[[view]]
name = "lately"
entity = "user_id"
stream = "payments"
feature = [{ name = "n", aggregate = "count", window = "1m" }, { name = "cards", aggregate = "distinct", of = "card", window = "1m" }]
"#;
    let (events, features) = fixture.events(&format!("{VIEWS}{more}"));
    let mut one = event(&paid(-10.0, None));
    one.values.push(("card".into(), Scalar::Int(7)));
    assert_eq!(
        events.ingest("payments", vec![one, event(&paid(0.0, None))]).await.unwrap(),
        [Taken::Accepted; 2]
    );
    let lately = features.get("lately", &"u0".into()).await.unwrap();
    assert_eq!(lately[0].as_ref().unwrap().value, Scalar::Int(1), "the minute has just begun");
    assert_eq!(values(&features, 0).await[0], Some(Scalar::Int(2)));
    // `lately` has no lateness, `spend` has.
    assert_eq!(events.ingest("payments", vec![event(&paid(-1.0, None))]).await.unwrap(), [Taken::Accepted]);
    let stats = features.stats();
    assert_eq!((stats[0].accepted, stats[0].late, stats[1].accepted, stats[1].late), (3, 0, 2, 1));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_is_counted() {
    let fixture = Fixture::memory();
    let (events, features) = fixture.events(VIEWS);
    let mut wrong = event(&paid(61.0, None));
    wrong.id = Some("".into());
    wrong.values =
        [("amont", Scalar::Int(1)), ("amount", Scalar::String("1".into())), ("merchant", Scalar::Int(3))]
            .map(|(name, value)| (name.into(), value))
            .to_vec();
    let refused = events.ingest("payments", vec![event(&paid(0.0, None)), wrong]).await;
    let Err(FeatureError::Invalid(problems)) = refused else { panic!("taken") };
    let mut told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    told.dedup();
    assert_eq!(told[0], "row 1, values.amont: no aggregate of the stream takes it: did you mean `amount`?");
    assert_eq!(told[1], "row 1, id: has 0 bytes, 1 to 256 are taken");
    assert!(
        told[2].starts_with("row 1, event_time: lies 61 s ahead of the server's clock, at most 60 s"),
        "{told:?}"
    );
    assert_eq!(told[3], "row 1, values.amount: a string is no float64");
    assert_eq!(told.last().unwrap(), "row 1, values.merchant: 3 is no string");
    assert_eq!(values(&features, 0).await[0], None);
    // Looking for the nearest name of each would take minutes.
    let (wide, _) = fixture.events(&crate::features::wide("sum_of", "stream = \"s\""));
    let mut unknown = event(&paid(0.0, None));
    unknown.values = (0..200_000).map(|i| (format!("amount_of_{i}").into(), Scalar::Int(1))).collect();
    let refused = wide.ingest("s", vec![unknown; 2]).await;
    let Err(FeatureError::Invalid(problems)) = refused else { panic!("taken") };
    assert_eq!(problems.len(), 100);
    let unknown = events.ingest("payment", vec![]).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no feature view is fed by a stream `payment`: did you mean `payments`?");
    let put = features.put("spend", vec![]).await.unwrap_err();
    assert!(put.to_string().contains("is fed by the events of stream `payments`"), "{put}");
}

/// What is kept of an entity does not grow with its events, and goes when its windows have passed.
#[tokio::test]
async fn memory_is_bounded_and_comes_back() {
    let fixture = Fixture::memory();
    let (events, features) = fixture.events(VIEWS);
    let mut rng = Rng(5);
    let mut most = 0;
    for minute in 0..60 {
        fixture.clock.advance(Duration::from_secs(60));
        let now = f64::from(minute + 1) * 60.0;
        let mut batch = some_events(&mut rng, 200);
        batch.iter_mut().for_each(|p| {
            p.id = p.id.map(|id| id + minute as u64 * 1000);
            p.time = now - (-p.time) / 900.0 * 60.0;
        });
        events.ingest("payments", batch.iter().map(event).collect()).await.unwrap();
        if minute == 20 {
            most = fixture.store.held().unwrap().state;
        }
    }
    let held = fixture.store.held().unwrap().state;
    assert!(held < most * 3 / 2, "{held} bytes after an hour, {most} after 20 minutes");
    fixture.clock.advance(Duration::from_secs(3600));
    assert_eq!(values(&features, 0).await, [const { None::<Scalar> }; 10]);
    let later = Paid { time: 7200.0, ..paid(0.0, None) };
    for user in 100..200 {
        events.ingest("payments", vec![event(&Paid { user, ..later.clone() })]).await.unwrap();
    }
    fixture.clock.advance(Duration::from_secs(3600));
    for user in 200..210 {
        events
            .ingest("payments", vec![event(&Paid { user, time: 10_800.0, ..later.clone() })])
            .await
            .unwrap();
    }
    assert!(fixture.store.held().unwrap().state < most + 110 * 1500, "expired entities go as others come");
}

/// The ids of one entity are bounded; what is forgotten is counted, never silent.
#[tokio::test]
async fn forgotten_ids_are_counted() {
    let fixture = Fixture::memory();
    let (events, features) = fixture.events(VIEWS);
    let batch = (0..1030).map(|i| event(&paid(-60.0 + i as f64 / 100.0, Some(i)))).collect();
    events.ingest("payments", batch).await.unwrap();
    assert_eq!(features.stats()[0].forgotten_ids, 6);
    let again = |i| events.ingest("payments", vec![event(&paid(-60.0 + i as f64 / 100.0, Some(i)))]);
    assert_eq!(again(6).await.unwrap(), [Taken::Duplicate]);
    assert_eq!(again(5).await.unwrap(), [Taken::Accepted]);
}

/// A feature that is declared otherwise begins anew; the others, and those of a replica with the
/// old configuration, go on.
#[tokio::test]
async fn a_changed_feature_begins_anew() {
    let fixture = Fixture::memory();
    let (events, features) = fixture.events(VIEWS);
    let (new_events, new_features) =
        fixture.events(&VIEWS.replacen(r#""10m", slide = "1m""#, r#""10m", slide = "2m""#, 1));
    events.ingest("payments", vec![event(&paid(0.0, None))]).await.unwrap();
    assert_eq!(values(&new_features, 0).await[..2], [None, Some(Scalar::Int(1))]);
    new_events.ingest("payments", vec![event(&paid(0.0, None))]).await.unwrap();
    assert_eq!(values(&new_features, 0).await[..2], [Some(Scalar::Int(1)), Some(Scalar::Int(2))]);
    assert_eq!(values(&features, 0).await[..2], [Some(Scalar::Int(1)), Some(Scalar::Int(2))]);
}

/// The greatest is the greatest by value, though whole numbers lie among floats after a change.
#[tokio::test]
async fn a_changed_type_of_number_changes_no_comparison() {
    let fixture = Fixture::memory();
    let view = |dtype: &str| {
        let one = |kind: &str| {
            format!(
                "{{ name = \"{kind}\", aggregate = \"{kind}\", of = \"x\", dtype = \"{dtype}\", window = \"1h\" }}"
            )
        };
        let features = ["min", "max"].map(one).join(", ");
        format!("[[view]]\nname = \"v\"\nentity = \"id\"\nstream = \"s\"\nfeature = [{features}]\n")
    };
    let event =
        |x| Event { entity: "a".into(), event_time: Some(at(0.0)), id: None, values: vec![("x".into(), x)] };
    let (old, _) = fixture.events(&view("int64"));
    old.ingest("s", vec![event(Scalar::Int(5)), event(Scalar::Int(2))]).await.unwrap();
    let (new, features) = fixture.events(&view("float64"));
    new.ingest("s", vec![event(Scalar::Float(3.0))]).await.unwrap();
    let found = features.get("v", &"a".into()).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|f| f.unwrap().value).collect();
    assert_eq!(values, [Scalar::Float(2.0), Scalar::Float(5.0)]);
}
