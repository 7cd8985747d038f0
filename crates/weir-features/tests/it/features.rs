//! Feature views: typed, in event time, all problems at once, on every store.

use std::time::Duration;

use weir_features::{Entity, FeatureError, Found, Part, Question, Row, StoreError, Views, Written};
use weir_types::Scalar;

use crate::support::{Fixture, at, configs, on_every_store, views};

const VIEWS: &str = r#"
[[view]]
name = "user_stats"
entity = "user_id"
key = "int64"
ttl = "1h"
feature = [
    { name = "avg_amount", dtype = "float32" },
    { name = "country", dtype = "string", default = "??" },
    { name = "logins", dtype = "int32" },
    { name = "vip", dtype = "bool" },
]

[[view]]
name = "items"
entity = "sku"
feature = [{ name = "price", dtype = "float64" }]
"#;

on_every_store!(
    what_was_put_is_got_as_its_type,
    an_older_value_never_takes_the_place_of_a_newer_one,
    any_order_of_writes_ends_the_same,
    values_are_not_given_out_beyond_their_time_to_live,
    a_delete_forgets_values_and_times,
    many_features_of_many_views_at_once,
);

fn row(entity: impl Into<Entity>, seconds: f64, values: &[(&str, Scalar)]) -> Row {
    let values = values.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Row { entity: entity.into(), event_time: Some(at(seconds)), values }
}

fn found(value: Scalar, seconds: f64) -> Option<Found> {
    Some(Found { value, event_time: at(seconds) })
}

fn int(i: i64) -> Scalar {
    Scalar::Int(i)
}

async fn what_was_put_is_got_as_its_type(fixture: &Fixture) {
    let features = fixture.features(VIEWS);
    let values = [
        ("avg_amount", Scalar::Float(0.1)),
        ("country", Scalar::String("Österreich".into())),
        ("logins", Scalar::Float(3.0)),
    ];
    let written = features.put("user_stats", vec![row(42, -1.0, &values)]).await.unwrap();
    assert_eq!(written, [Written { written: 3, outdated: 0 }]);
    let got = features.get("user_stats", &42.into()).await.unwrap();
    let country = Scalar::String("Österreich".into());
    let expected =
        [found(Scalar::Float(f64::from(0.1f32)), -1.0), found(country, -1.0), found(int(3), -1.0), None];
    assert_eq!(got, expected);
    assert_eq!(features.get("user_stats", &"42".into()).await.unwrap(), expected, "a path has text only");
    assert_eq!(features.get("user_stats", &43.into()).await.unwrap(), [None, None, None, None]);
    // Without an event time it is so from now on.
    let now = Row { event_time: None, ..row("a", 0.0, &[("price", int(1))]) };
    features.put("items", vec![now]).await.unwrap();
    assert_eq!(features.get("items", &"a".into()).await.unwrap(), [found(Scalar::Float(1.0), 0.0)]);
}

async fn an_older_value_never_takes_the_place_of_a_newer_one(fixture: &Fixture) {
    let features = fixture.features(VIEWS);
    let put = |seconds, values: &[(&str, Scalar)]| features.put("user_stats", vec![row(1, seconds, values)]);
    put(-10.0, &[("logins", int(1))]).await.unwrap();
    // Each feature by itself: what is new is written, what is outdated is not.
    let written = put(-20.0, &[("logins", int(2)), ("vip", Scalar::Bool(true))]).await.unwrap();
    assert_eq!(written, [Written { written: 1, outdated: 1 }]);
    let got = features.get("user_stats", &1.into()).await.unwrap();
    assert_eq!(got[2..], [found(int(1), -10.0), found(Scalar::Bool(true), -20.0)]);
    // Equal times: the later write.
    put(-10.0, &[("logins", int(3))]).await.unwrap();
    assert_eq!(features.get("user_stats", &1.into()).await.unwrap()[2], found(int(3), -10.0));
    let stats = &features.stats()[0];
    assert_eq!((stats.written, stats.outdated, &*stats.view), (3, 1, "user_stats"));
}

async fn any_order_of_writes_ends_the_same(fixture: &Fixture) {
    let features = fixture.features(VIEWS);
    let writes: Vec<Vec<(f64, &str, i64)>> = vec![
        vec![(-5.0, "logins", 5), (-3.0, "logins", 3), (-4.0, "avg_amount", 4)],
        vec![(-9.0, "avg_amount", 9), (-1.0, "logins", 1), (-2.0, "avg_amount", 2)],
    ];
    let all: Vec<_> = writes.concat();
    for (entity, rotation) in (0..all.len()).enumerate() {
        let mut order = all.clone();
        order.rotate_left(rotation);
        let rows = order.iter().map(|&(time, name, value)| row(entity as i64, time, &[(name, int(value))]));
        features.put("user_stats", rows.collect()).await.unwrap();
        let got = features.get("user_stats", &(entity as i64).into()).await.unwrap();
        assert_eq!(got, [found(Scalar::Float(2.0), -2.0), None, found(int(1), -1.0), None]);
    }
}

async fn values_are_not_given_out_beyond_their_time_to_live(fixture: &Fixture) {
    let features = fixture.features(VIEWS);
    let rows = vec![row(1, -1800.0, &[("logins", int(1))]), row(1, 0.0, &[("vip", Scalar::Bool(false))])];
    features.put("user_stats", rows).await.unwrap();
    features.put("items", vec![row("a", -1e6, &[("price", int(1))])]).await.unwrap();
    fixture.clock.advance(Duration::from_secs(1799));
    assert!(features.get("user_stats", &1.into()).await.unwrap()[2].is_some());
    fixture.clock.advance(Duration::from_secs(1));
    let got = features.get("user_stats", &1.into()).await.unwrap();
    assert_eq!(got[2..], [None, found(Scalar::Bool(false), 0.0)]);
    fixture.clock.advance(Duration::from_secs(1800));
    assert_eq!(features.get("user_stats", &1.into()).await.unwrap(), [None, None, None, None]);
    assert!(features.get("items", &"a".into()).await.unwrap()[0].is_some(), "no ttl is for ever");
}

async fn a_delete_forgets_values_and_times(fixture: &Fixture) {
    let features = fixture.features(VIEWS);
    features.put("items", vec![row("a", 0.0, &[("price", int(1))])]).await.unwrap();
    let gone = features.delete("items", &["a".into(), "b".into(), "a".into()]).await.unwrap();
    assert_eq!(gone, [true, false, false]);
    assert_eq!(features.get("items", &"a".into()).await.unwrap(), [None]);
    features.put("items", vec![row("a", -10.0, &[("price", int(2))])]).await.unwrap();
    assert_eq!(features.get("items", &"a".into()).await.unwrap(), [found(Scalar::Float(2.0), -10.0)]);
}

async fn many_features_of_many_views_at_once(fixture: &Fixture) {
    let features = fixture.features(VIEWS);
    let users = (0..100).map(|i| row(i, 0.0, &[("logins", int(i))])).collect();
    features.put("user_stats", users).await.unwrap();
    features.put("items", vec![row("a", -1.0, &[("price", int(7))])]).await.unwrap();
    let paths = ["user_stats.logins", "user_stats.avg_amount", "items.price"];
    let [logins, amount, price] = paths.map(|path| features.views().resolve(path).unwrap());
    let entities: Vec<Entity> = (0..101).map(Entity::Int).collect();
    let (of_user, of_item) = ([logins.feature, amount.feature], [price.feature]);
    let mut questions: Vec<_> =
        entities.iter().map(|entity| Question { view: logins.view, entity, features: &of_user }).collect();
    let sku = "a".into();
    questions.insert(1, Question { view: price.view, entity: &sku, features: &of_item });
    let got = features.look_up(&questions).await.unwrap();
    assert_eq!(got[..3], [found(int(0), 0.0), None, found(Scalar::Float(7.0), -1.0)]);
    assert_eq!(got[3 + 2 * 98..], [found(int(99), 0.0), None, None, None]);
    assert_eq!(got.len(), 203);
    let stats = features.stats();
    assert_eq!((stats[0].looked_up, stats[0].found, stats[1].found), (202, 100, 1));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_is_written() {
    let fixture = Fixture::memory();
    let features = fixture.features(VIEWS);
    let rows = vec![
        row(1, 0.0, &[("logins", int(1))]),
        row("x", 301.0, &[("login", int(1)), ("vip", int(1)), ("logins", int(1)), ("logins", int(2))]),
        row(2, 0.0, &[]),
    ];
    let Err(FeatureError::Invalid(problems)) = features.put("user_stats", rows).await else {
        panic!("taken")
    };
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "row 1, entity: `user_id` is a whole number, of 64 bits",
            "row 1, event_time: lies 301 s ahead of the server's clock, at most 300 s may be: send when it was so",
            "row 1, values.login: view `user_stats` has no feature `login`: did you mean `logins`?",
            "row 1, values.vip: 1 is no bool",
            "row 1, values.logins: is there twice",
            "row 2: no values: send at least one feature of view `user_stats`",
        ]
    );
    assert_eq!(features.get("user_stats", &1.into()).await.unwrap(), [None, None, None, None]);
}

/// A view of as many features as may be.
pub(crate) fn wide(name: &str, stream: &str) -> String {
    let kind = |i| match stream {
        "" => "dtype = \"float64\"".to_owned(),
        _ => format!("aggregate = \"sum\", of = \"field_{i}\", window = \"1h\""),
    };
    let features =
        (0..weir_features::MAX_FEATURES).map(|i| format!("{{ name = \"{name}_{i}\", {} }}", kind(i)));
    let features = features.collect::<Vec<_>>().join(", ");
    format!("[[view]]\nname = \"wide\"\nentity = \"id\"\n{stream}\nfeature = [{features}]\n")
}

#[tokio::test]
async fn requests_have_bounds() {
    let fixture = Fixture::memory();
    let features = fixture.features(VIEWS);
    let many = vec![row("a", 0.0, &[("price", int(1))]); weir_features::MAX_ROWS + 1];
    let Err(FeatureError::Invalid(problems)) = features.put("items", many).await else { panic!("taken") };
    assert_eq!(problems[0].part, Part::Whole);
    assert!(problems[0].message.contains("at most 10000"), "{problems:?}");
    let long = "k".repeat(257);
    for bad in ["", &long] {
        let refused = features.get("items", &bad.into()).await;
        assert!(matches!(refused, Err(FeatureError::Invalid(p)) if p[0].part == Part::Entity));
    }
    let wrong = vec![row("a", 0.0, &[("nothing", int(1))]); 200];
    let Err(FeatureError::Invalid(problems)) = features.put("items", wrong).await else { panic!("taken") };
    assert_eq!(problems.len(), 100);
    // Looking for the nearest name of each would take minutes.
    let names = (0..200_000).map(|i| (format!("amount_of_{i}").into(), int(1)));
    let wide = fixture.features(&wide("price_of", ""));
    let row = Row { entity: "a".into(), event_time: None, values: names.collect() };
    let Err(FeatureError::Invalid(problems)) = wide.put("wide", vec![row; 2]).await else { panic!("taken") };
    assert_eq!(problems.len(), 100);
    assert!(problems[99].to_string().starts_with("row 0, values.amount_of_99: view `wide` has no"));
    let unknown = features.get("user_stat", &1.into()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no feature view `user_stat`: did you mean `user_stats`?");
}

#[tokio::test]
async fn a_stored_row_that_cannot_be_read_is_an_error_and_stays() {
    let fixture = Fixture::memory();
    let features = fixture.features(VIEWS);
    let stored = weir_features::Stored { value: "rubbish".into(), expires: None };
    let decide = move |_: Option<&[u8]>| weir_features::Change::Put(stored.clone());
    let update = weir_features::Update { key: "f:items:a".into(), decide: Box::new(decide) };
    fixture.store.update(vec![update]).await.unwrap();
    let failed = |e| matches!(e, FeatureError::Store(StoreError::Failed(_)));
    assert!(failed(features.get("items", &"a".into()).await.unwrap_err()));
    let put = features.put("items", vec![row("a", 0.0, &[("price", int(1))])]).await;
    assert!(failed(put.unwrap_err()));
    assert_eq!(features.delete("items", &["a".into()]).await.unwrap(), [true], "the way out");
}

#[tokio::test]
async fn a_feature_of_another_type_than_what_is_stored_is_unknown() {
    let fixture = Fixture::memory();
    let features = fixture.features(VIEWS);
    features.put("items", vec![row("a", 0.0, &[("price", Scalar::Float(1.5))])]).await.unwrap();
    let changed =
        fixture.features(&VIEWS.replace(r#""price", dtype = "float64""#, r#""price", dtype = "string""#));
    assert_eq!(changed.get("items", &"a".into()).await.unwrap(), [None]);
}

#[test]
fn everything_that_is_wrong_with_views_is_told_at_once() {
    let toml = r#"
[[view]]
name = "a.b"
entity = ""
lateness = "1m"
feature = [{ name = "x" }, { name = "x", dtype = "int8", default = 300, window = "1h" }]

[[view]]
name = "ok"
entity = "e"
stream = "s"
ttl = "1h"
feature = [
    { name = "n", aggregate = "count", dtype = "float32", window = "1h" },
    { name = "m", aggregate = "sum", window = "1h", slide = "7m" },
    { name = "o", dtype = "int64" },
    { name = "p", aggregate = "mean", of = "a" },
    { name = "q", aggregate = "max", of = "a", window = "10s", slide = "100ms" },
]

[[view]]
name = "ok"
entity = "e"
"#;
    let problems = Views::new(&configs(toml)).unwrap_err();
    let told: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
    let name = "takes 1 to 64 of a-z, A-Z, 0-9, '_' and '-'";
    assert_eq!(
        told,
        [
            "view[0].name: `name` takes 1 to 128 of a-z, 0-9, '_' and '-', a letter or digit first".to_owned(),
            format!("view[0].entity: `entity` {name}"),
            "view[0].lateness: `lateness` is for views with `stream`".into(),
            "view[0].feature[0]: a feature that is no aggregate needs a `dtype`".into(),
            "view[0].feature[1].name: two features are called `x`".into(),
            "view[0].feature[1].window: `window` is for views that name the `stream` of events they are fed by".into(),
            "view[0].feature[1].default: `default`: 300 is no int8: send a whole number from -128 to 127".into(),
            "view[1].ttl: a view with `stream` has no `ttl`: the windows say how long events count".into(),
            "view[1].feature[0].dtype: this aggregate is int64, no float32".into(),
            "view[1].feature[1]: an aggregate needs `of`, the field of the events that it draws together".into(),
            "view[1].feature[1].slide: `slide` divides `window`, into at most 256 panes: \"7m\" into \"1h\" does not"
                .into(),
            "view[1].feature[2]: a view with `stream` has aggregates only: say `aggregate`, or put it into another view"
                .into(),
            "view[1].feature[3]: an aggregate needs a `window`, such as \"1h\"".into(),
            "view[1].feature[4].window: a window is at most 3660d and slides by at least 1s, in whole microseconds"
                .into(),
            "view[2].name: two feature views are called `ok`".into(),
            "view[2].feature: a feature view has 1 to 256 features, this one 0".into(),
        ]
    );
}

#[test]
fn aggregates_of_one_entity_have_a_bound() {
    let feature = r#"{ name = "NAME", aggregate = "distinct", of = "x", window = "256m", slide = "1m" },"#;
    let features: String = (0..5).map(|i| feature.replace("NAME", &format!("d{i}"))).collect();
    let toml = format!("[[view]]\nname = \"v\"\nentity = \"e\"\nstream = \"s\"\nfeature = [{features}]");
    let problems = Views::new(&configs(&toml)).unwrap_err();
    assert!(problems[0].message.contains("at most 4194304 are kept"), "{problems:?}");
}

#[test]
fn a_path_resolves_or_says_what_is_near() {
    let views = views(VIEWS);
    let at = views.resolve("user_stats.country").unwrap();
    assert_eq!(
        (&*views.feature(at).name, views.feature(at).default.clone()),
        ("country", Some(Scalar::String("??".into())))
    );
    for (path, why) in [
        ("country", "`country` is no feature: write `view.feature`"),
        ("user_stat.country", "there is no feature view `user_stat`: did you mean `user_stats`?"),
        ("user_stats.county", "view `user_stats` has no feature `county`: did you mean `country`?"),
        ("items.x", "view `items` has no feature `x`, only `price`"),
    ] {
        assert_eq!(views.resolve(path).unwrap_err(), why);
    }
}
