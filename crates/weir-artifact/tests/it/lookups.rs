//! Fields that are filled in from feature views.

use std::{collections::BTreeMap, time::Duration};

use weir_artifact::{ModelSpec, Problem};
use weir_types::{DType, FeatureCatalogue, ViewShape};

use crate::support::Folder;

const NAMES: [&str; 8] =
    ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"];

/// The housing model with `extra` lines at some of its fields, and `tail` behind them.
fn model(extra: &[(&str, &str)], tail: &str) -> (Folder, Result<ModelSpec, Vec<Problem>>) {
    let mut text = String::from("labels = [\"low\", \"high\"]\n");
    for name in NAMES {
        let line = extra.iter().find(|(of, _)| *of == name).map_or("", |(_, line)| line);
        text += &format!("[[input.field]]\nname = \"{name}\"\n{line}\n");
    }
    text += tail;
    let folder = Folder::new().with_model("m/model.onnx", "housing").with("m/model.toml", &text);
    let loaded = folder.load().map(|loaded| loaded.spec);
    (folder, loaded)
}

fn catalogue() -> FeatureCatalogue {
    let view = |entity: &str, key, features: &[(&str, DType)]| ViewShape {
        entity: entity.into(),
        key,
        features: features.iter().map(|(n, d)| ((*n).to_owned(), *d)).collect(),
    };
    FeatureCatalogue(BTreeMap::from([
        ("user".into(), view("user_id", DType::Int64, &[("income", DType::Float64), ("age", DType::Int32)])),
        (
            "spend".into(),
            view("user_id", DType::Int64, &[("rooms", DType::Float32), ("name", DType::String)]),
        ),
        ("block".into(), view("block", DType::String, &[("people", DType::Int64)])),
    ]))
}

fn bound(extra: &[(&str, &str)], tail: &str) -> Result<ModelSpec, String> {
    let (folder, loaded) = model(extra, tail);
    let mut spec = loaded.map_err(|problems| folder.told(&problems))?;
    spec.bind_features(&catalogue()).map_err(|problems| folder.told(&problems))?;
    Ok(spec)
}

const FROM_USER: [(&str, &str); 2] =
    [("MedInc", "from = \"user.income\"\nmax_age = \"1h\""), ("HouseAge", "from = \"user.age\"")];

#[test]
fn a_key_is_called_as_its_entity_unless_the_file_says_otherwise() {
    let spec = bound(&FROM_USER, "").unwrap();
    let [key] = spec.schema.keys.as_slice() else { panic!("{:?}", spec.schema.keys) };
    assert_eq!((key.name.as_str(), key.dtype), ("user_id", DType::Int64));
    let source = spec.schema.fields[0].source.clone().unwrap();
    assert_eq!((source.view.as_str(), source.feature.as_str(), source.key), ("user", "income", 0));
    assert_eq!(source.max_age, Some(Duration::from_secs(3600)));
    let other = "[[input.key]]\nname = \"uid\"\nalias = [\"user\"]\nexample = 42\n";
    let spec = bound(&FROM_USER, other).unwrap();
    assert_eq!((spec.schema.keys[0].name.as_str(), spec.schema.keys[0].dtype), ("uid", DType::Int64));
}

#[test]
fn each_entity_has_its_key() {
    let extra =
        [FROM_USER[0], ("AveRooms", "from = \"spend.rooms\""), ("Population", "from = \"block.people\"")];
    let keys = "[[input.key]]\nname = \"block\"\n[[input.key]]\nname = \"who\"\nentity = \"user_id\"\n";
    let spec = bound(&extra, keys).unwrap();
    let of = |i: usize| spec.schema.keys[spec.schema.fields[i].source.as_ref().unwrap().key].name.as_str();
    assert_eq!([of(0), of(2), of(4)], ["who", "who", "block"]);
    let missing = bound(&extra, "[[input.key]]\nname = \"block\"\n").unwrap_err();
    assert!(missing.contains("m/model.toml:4:8: view `user` is about `user_id`"), "{missing}");
}

#[test]
fn a_model_that_no_server_was_asked_for_takes_explicit_rows() {
    let (_, loaded) = model(&FROM_USER, "");
    let spec = loaded.unwrap();
    assert!(!spec.schema.looks_up());
    let sources: Vec<_> = spec.lookups.sources().collect();
    assert_eq!(sources, [(0, "user.income".to_owned()), (1, "user.age".to_owned())]);
}

#[test]
fn what_does_not_fit_the_views_is_told_at_its_place_all_at_once() {
    let extra = [
        ("MedInc", "from = \"usr.income\""),
        ("HouseAge", "from = \"user.agee\""),
        ("AveRooms", "from = \"spend.name\""),
    ];
    let told = bound(&extra, "").unwrap_err();
    let want = "m/model.toml:4:8: there is no feature view `usr`: did you mean `user`?\n\
                m/model.toml:7:8: view `user` has no feature `agee`: did you mean `age`?\n\
                m/model.toml:10:8: `spend.name` is string, which field `AveRooms` (float32) cannot hold";
    assert_eq!(told, want);
}

#[test]
fn a_key_is_no_field_and_has_the_type_of_its_entity() {
    let clash = bound(&FROM_USER, "[[input.key]]\nname = \"Latitude\"\n").unwrap_err();
    assert!(clash.contains("two fields or keys are called `Latitude`"), "{clash}");
    let dtype = bound(&FROM_USER, "[[input.key]]\nname = \"user_id\"\ndtype = \"string\"\n").unwrap_err();
    assert!(dtype.contains("key `user_id` is string, the entity `user_id` is int64"), "{dtype}");
    let unused = "[[input.key]]\nname = \"user_id\"\n[[input.key]]\nname = \"spare\"\n";
    let unused = bound(&FROM_USER, unused).unwrap_err();
    assert!(unused.contains("nothing is looked up by the key `spare`"), "{unused}");
}

#[test]
fn what_the_file_alone_decides_is_told_without_any_view() {
    let told = |extra: &[(&str, &str)], tail| {
        let (folder, loaded) = model(extra, tail);
        folder.told(&loaded.unwrap_err())
    };
    for (extra, tail, want) in [
        (("MedInc", "from = \"income\""), "", "m/model.toml:4:8: `from` names a feature"),
        (("MedInc", "max_age = \"1h\""), "", "m/model.toml:4:11: `max_age` is for values that are looked up"),
        (("MedInc", ""), "[[input.key]]\nname = \"k\"\n", "nothing is looked up by this key"),
        (FROM_USER[1], "[[input.key]]\nname = \"k\"\ndtype = \"float32\"\n", "is `string` or `int64`"),
        (FROM_USER[1], "[[input.key]]\nname = \"\"\n", "`name` must not be empty"),
        (
            FROM_USER[1],
            "[[input.key]]\nname = \"k\"\ndtype = \"int64\"\nexample = \"x\"\n",
            "`example`: \"x\" is no int64",
        ),
    ] {
        let got = told(&[extra], tail);
        assert!(got.contains(want), "{want}: {got}");
    }
}

#[test]
fn prose_of_a_key_is_no_part_of_the_digest_and_its_name_is() {
    let digest = |tail: &str| bound(&FROM_USER, tail).unwrap().digest;
    let key = |rest: &str| format!("[[input.key]]\nname = \"k\"\n{rest}");
    assert_eq!(digest(&key("")), digest(&key("description = \"d\"\nexample = 3\n")));
    assert_ne!(digest(&key("")), digest(&key("alias = [\"l\"]\n")));
}
