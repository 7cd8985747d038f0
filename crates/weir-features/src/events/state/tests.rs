//! What is stored may come from a Redis that others write to: it is read or refused, whatever
//! it is.

use proptest::prelude::*;
use weir_config::HumanDuration;

use super::*;
use crate::{
    config::{FeatureConfig, FeatureType, KeyType, ViewConfig},
    view::Views,
};

fn views() -> Views {
    let feature = |kind: AggregateKind| FeatureConfig {
        name: format!("f{}", code(kind)),
        dtype: (kind == AggregateKind::Last).then_some(FeatureType::String),
        default: None,
        aggregate: Some(kind),
        of: Some(if kind == AggregateKind::Last { "text" } else { "number" }.into()),
        window: Some(HumanDuration::from_secs(60)),
        slide: Some(HumanDuration::from_secs(10)),
        description: None,
    };
    let view = ViewConfig {
        name: "v".into(),
        entity: "e".into(),
        key: KeyType::String,
        ttl: None,
        stream: Some("s".into()),
        lateness: Some(HumanDuration::from_secs(30)),
        description: None,
        feature: KINDS.map(feature).to_vec(),
    };
    Views::new(&[view]).unwrap()
}

fn time(seconds: i64) -> EventTime {
    EventTime::from_micros(1_700_000_000_000_000 + seconds * 1_000_000).unwrap()
}

fn entries(numbers: &[i64]) -> Vec<(usize, Entry)> {
    let one = |(i, &n): (usize, &i64)| {
        let value = |kind| match kind {
            AggregateKind::Last => Scalar::String(format!("t{n}")),
            _ => Scalar::Float(n as f64 / 3.0),
        };
        let values = KINDS.map(|kind| Some(value(kind)));
        (i, Entry { time: time(i as i64), id: Some(short_id(&n.to_string())), values: values.into() })
    };
    numbers.iter().enumerate().map(one).collect()
}

fn stored(views: &Views, numbers: &[i64]) -> Vec<u8> {
    let view = views.iter().next().unwrap();
    match count(view, None, &entries(numbers), time(40)).0 {
        Change::Put(stored) => stored.value.to_vec(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn damaged_state_is_refused_or_read(
        numbers in prop::collection::vec(-9i64..9, 1..40),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let views = views();
        let view = views.iter().next().unwrap();
        let mut damaged = stored(&views, &numbers);
        flips.iter().for_each(|(at, byte)| damaged[at.index(numbers.len())] ^= byte);
        flips.iter().for_each(|(at, byte)| { let at = at.index(damaged.len()); damaged[at] ^= byte; });
        damaged.truncate(if whole { damaged.len() } else { cut.index(damaged.len()) });
        let all: Vec<_> = (0..KINDS.len()).map(FeatureId).collect();
        let _ = look_up(view, &damaged, &all, time(50));
        let (change, outcome) = count(view, Some(&damaged), &entries(&[1, 2]), time(50));
        prop_assert!(outcome.is_ok() || change == Change::Keep);
    }

    #[test]
    fn any_bytes_are_refused_or_read(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let views = views();
        let view = views.iter().next().unwrap();
        let _ = look_up(view, &bytes, &[FeatureId(0)], time(50));
        bytes.insert(0, VERSION);
        let _ = look_up(view, &bytes, &[FeatureId(0)], time(50));
        for kind in KINDS {
            let _ = Pane::read(kind, &bytes).and_then(|pane| pane.value(weir_types::DType::Float64));
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let views = views();
    let view = views.iter().next().unwrap();
    let all: Vec<_> = (0..KINDS.len()).map(FeatureId).collect();
    let found = look_up(view, &stored(&views, &[3, 6, 3, 9]), &all, time(40)).unwrap();
    let values: Vec<_> = found.into_iter().map(|f| f.unwrap().value).collect();
    let (int, float) = (Scalar::Int, Scalar::Float);
    // The third event has the id of the first.
    assert_eq!(
        values,
        [int(3), float(6.0), float(2.0), float(1.0), float(3.0), Scalar::String("t9".into()), int(3)]
    );
}

/// Panes stay open for all events of a call; what is stored does not show it.
#[test]
fn one_call_and_many_store_the_same() {
    let views = views();
    let view = views.iter().next().unwrap();
    let numbers = [3, 6, 3, 9, -1, 7, 2, 8, 0, 5, 4, -7];
    let mut kept: Option<Vec<u8>> = None;
    for entry in entries(&numbers).chunks(1) {
        match count(view, kept.as_deref(), entry, time(40)).0 {
            Change::Put(stored) => kept = Some(stored.value.to_vec()),
            Change::Keep => {} // the second 3 has the id of the first
            Change::Delete => panic!("nothing is to go"),
        }
    }
    assert_eq!(kept.unwrap(), stored(&views, &numbers));
}

/// A stored format is specified, not derived: these bytes must stay readable.
#[test]
fn the_format_stays() {
    let views = views();
    let view = views.iter().next().unwrap();
    let mut bytes = vec![2];
    bytes.extend(time(0).micros().to_le_bytes());
    bytes.extend([1, 0]);
    bytes.extend(time(0).micros().to_le_bytes());
    bytes.extend([7; 16]);
    bytes.extend(b"\x02f1\x01\x06number"); // a sum
    bytes.extend(10_000_000i64.to_le_bytes());
    bytes.extend(6i64.to_le_bytes());
    bytes.extend([1, 0]);
    bytes.extend(170_000_000i64.to_le_bytes());
    bytes.extend([6, 0, 0, 0]);
    bytes.extend([1, 33, 0, 0, 8, 0]); // 2^19 units of 2^(32 * 33 - 1074): 2
    let found = look_up(view, &bytes, &[FeatureId(1), FeatureId(0)], time(0)).unwrap();
    assert_eq!(found, [Some(Found { value: Scalar::Float(2.0), event_time: time(0) }), None]);
}
