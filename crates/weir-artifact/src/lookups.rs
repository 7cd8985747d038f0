//! Fields that are filled in from feature views: what `model.toml` says of them, and what that
//! comes to beside the views of a server.
//!
//! A model is read without knowing any server, so this has two halves. [`declare`] checks what
//! the file alone decides. [`ModelSpec::bind_features`] holds the rest against the views, which
//! are in `weir.toml`, and still tells every problem at its place in `model.toml`: the places
//! are kept. A spec that was never bound (`weir inspect`, `weir tune`) takes explicit rows only.

use std::{collections::BTreeSet, time::Duration};

use weir_config::Problem;
use weir_types::{DType, EntityKey, FeatureCatalogue, FeatureSource, Scalar, Schema, SchemaError, ViewShape};

use crate::{FieldTable, InputTable, KeyTable, ModelSpec, report::Report, rules::scalar};

/// What `model.toml` says of looking up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lookups {
    fields: Vec<Declared>,
    keys: Vec<Key>,
}

/// A field with `from`.
#[derive(Debug, Clone, PartialEq)]
struct Declared {
    /// Index of the schema's field.
    field: usize,
    view: String,
    feature: String,
    max_age: Option<Duration>,
    place: Problem,
}

/// An `[[input.key]]`.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    table: KeyTable,
    example: Option<Scalar>,
    place: Problem,
}

impl Lookups {
    /// Whether nothing is looked up.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields that are looked up where a server has their views: index of the schema's
    /// field, and `view.feature`.
    pub fn sources(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.fields.iter().map(|f| (f.field, format!("{}.{}", f.view, f.feature)))
    }
}

/// Types whose every value a feature can hold: for the others there is none in the store.
fn can_be_looked_up(dtype: DType) -> bool {
    !matches!(dtype, DType::Float16 | DType::Bfloat16 | DType::Uint64)
}

/// Checks `from`, `max_age` and `[[input.key]]` as far as the file alone decides.
pub(crate) fn declare(table: &InputTable, schema: &Schema, report: &mut Report) -> Lookups {
    let fields = table.field.iter().enumerate();
    let fields: Vec<_> = fields.filter_map(|(i, f)| field(f, i, schema, report)).collect();
    let keys: Vec<_> = table.key.iter().enumerate().filter_map(|(i, k)| key(k, i, report)).collect();
    if fields.is_empty() && !table.key.is_empty() && report.problems.is_empty() {
        let message =
            "nothing is looked up by this key: write `from = \"view.feature\"` at an [[input.field]]";
        report.at("input.key[0]", message);
    }
    Lookups { fields, keys }
}

fn field(table: &FieldTable, index: usize, schema: &Schema, report: &mut Report) -> Option<Declared> {
    let path = format!("input.field[{index}]");
    let Some(from) = &table.from else {
        if table.max_age.is_some() {
            let message = "`max_age` is for values that are looked up: write `from` too";
            report.at(&format!("{path}.max_age"), message);
        }
        return None;
    };
    let at = format!("{path}.from");
    let Some((view, feature)) = from.split_once('.').filter(|(v, f)| !v.is_empty() && !f.is_empty()) else {
        report.at(&at, "`from` names a feature: `view.feature`");
        return None;
    };
    // A field that is not there was refused already.
    let field = schema.fields.iter().position(|f| f.name == table.name)?;
    let known = &schema.fields[field];
    if !known.shape.is_empty() {
        report.at(&at, "`from` is for single values, and this field takes a list");
    } else if !can_be_looked_up(known.dtype) {
        report.at(&at, format!("`from`: features are never {}", known.dtype));
    }
    let max_age = table.max_age.map(|age| age.0);
    Some(Declared { field, view: view.into(), feature: feature.into(), max_age, place: report.place(&at) })
}

fn key(table: &KeyTable, index: usize, report: &mut Report) -> Option<Key> {
    let path = format!("input.key[{index}]");
    if table.name.is_empty() {
        report.at(&format!("{path}.name"), "`name` must not be empty");
    }
    let dtype = table.dtype.map(DType::from);
    if dtype.is_some_and(|dtype| !matches!(dtype, DType::String | DType::Int64)) {
        report.at(&format!("{path}.dtype"), "the key of an entity is `string` or `int64`");
        return None;
    }
    let example = table.example.as_ref().map(|example| {
        let fits = |dtype| scalar(example, dtype).map_err(|e| format!("`example`: {e}"));
        dtype.map_or_else(|| fits(DType::String).or_else(|_| fits(DType::Int64)), fits)
    });
    let example = example.and_then(|example| report.keep(&format!("{path}.example"), example));
    Some(Key { table: table.clone(), example, place: report.place(&format!("{path}.name")) })
}

impl ModelSpec {
    /// Looks fields up in the views of `catalogue` from now on.
    ///
    /// # Errors
    /// Everything that does not fit, at its place in `model.toml`: a view or feature that there
    /// is not, another type, no key or several for an entity, a key that is a field's name.
    pub fn bind_features(&mut self, catalogue: &FeatureCatalogue) -> Result<(), Vec<Problem>> {
        if self.lookups.is_empty() {
            return Ok(());
        }
        let mut binding =
            Binding { lookups: &self.lookups, schema: self.schema.explicit(), problems: Vec::new() };
        binding.bind(catalogue);
        let Binding { schema, problems, .. } = binding;
        if !problems.is_empty() {
            return Err(problems);
        }
        self.schema = schema;
        Ok(())
    }
}

/// One attempt to bind.
struct Binding<'a> {
    lookups: &'a Lookups,
    schema: Schema,
    problems: Vec<Problem>,
}

impl<'a> Binding<'a> {
    fn bind(&mut self, catalogue: &FeatureCatalogue) {
        let mut entities: Vec<(&str, usize)> = Vec::new();
        let found: Vec<_> = self.lookups.fields.iter().map(|f| self.view(f, catalogue)).collect();
        let distinct: BTreeSet<&str> = found.iter().flatten().map(|view| view.entity.as_str()).collect();
        for (declared, view) in self.lookups.fields.iter().zip(found) {
            let Some(view) = view else { continue };
            let known = entities.iter().find(|(entity, _)| *entity == view.entity).map(|(_, key)| *key);
            let key = known.or_else(|| self.key(view, distinct.len() == 1, declared));
            let Some(key) = key else { continue };
            if known.is_none() {
                entities.push((&view.entity, key));
            }
            self.schema.fields[declared.field].source = Some(FeatureSource {
                view: declared.view.clone(),
                feature: declared.feature.clone(),
                key,
                max_age: declared.max_age,
            });
        }
        if self.problems.is_empty() {
            self.unused();
            self.names();
        }
    }

    /// The view of a field, if it has the feature, of a type that fits.
    fn view<'c>(&mut self, declared: &Declared, catalogue: &'c FeatureCatalogue) -> Option<&'c ViewShape> {
        let field = &self.schema.fields[declared.field];
        let Some(view) = catalogue.0.get(&declared.view) else {
            let known = catalogue.0.keys().map(String::as_str);
            let message =
                format!("there is no feature view `{}`{}", declared.view, hint(&declared.view, known));
            return self.told(&declared.place, message);
        };
        let Some(&dtype) = view.features.get(&declared.feature) else {
            let known = view.features.keys().map(String::as_str);
            let hint = hint(&declared.feature, known);
            let message = format!("view `{}` has no feature `{}`{hint}", declared.view, declared.feature);
            return self.told(&declared.place, message);
        };
        if !fits(dtype, field.dtype) {
            let message = format!(
                "`{}.{}` is {dtype}, which field `{}` ({}) cannot hold",
                declared.view, declared.feature, field.name, field.dtype
            );
            return self.told(&declared.place, message);
        }
        Some(view)
    }

    /// Adds the key that names the view's entity: the one of that `entity`, the one of its name,
    /// the only one there is, or one that is called as the entity is.
    fn key(&mut self, view: &ViewShape, only: bool, declared: &Declared) -> Option<usize> {
        let keys = &self.lookups.keys;
        let named = |key: &&Key| key.table.entity.as_ref().unwrap_or(&key.table.name) == &view.entity;
        let single = || keys.first().filter(|key| only && keys.len() == 1 && key.table.entity.is_none());
        let key = match keys.iter().find(named).or_else(single) {
            Some(key) => key,
            None if keys.is_empty() => return Some(self.add(implied(view))),
            None => {
                let message = format!(
                    "view `{}` is about `{entity}`, and no [[input.key]] is: write one with `entity = \"{entity}\"`",
                    declared.view,
                    entity = view.entity
                );
                return self.told(&declared.place, message);
            }
        };
        let dtype = key.table.dtype.map_or(view.key, DType::from);
        if dtype != view.key {
            let message =
                format!("key `{}` is {dtype}, the entity `{}` is {}", key.table.name, view.entity, view.key);
            return self.told(&key.place, message);
        }
        let key = EntityKey {
            name: key.table.name.clone(),
            alias: key.table.alias.clone(),
            dtype,
            description: key.table.description.clone(),
            example: key.example.clone(),
        };
        Some(self.add(key))
    }

    fn add(&mut self, key: EntityKey) -> usize {
        self.schema.keys.push(key);
        self.schema.keys.len() - 1
    }

    /// Keys by which nothing is looked up.
    fn unused(&mut self) {
        for key in &self.lookups.keys {
            if !self.schema.keys.iter().any(|used| used.name == key.table.name) {
                let message = format!("nothing is looked up by the key `{}`", key.table.name);
                let _: Option<()> = self.told(&key.place, message);
            }
        }
    }

    /// Names that a row would have twice.
    fn names(&mut self) {
        for error in self.schema.check().err().unwrap_or_default() {
            let SchemaError::DuplicateKey(name) = &error else { continue };
            let key = |k: &&Key| k.table.name == *name || k.table.alias.contains(name);
            let place = self.lookups.keys.iter().find(key).map(|key| &key.place);
            let first = self.lookups.fields.first().map(|field| &field.place);
            if let Some(place) = place.or(first) {
                let place = place.clone();
                let message = format!("{error}: give the key another name with [[input.key]]");
                let _: Option<()> = self.told(&place, message);
            }
        }
    }

    fn told<T>(&mut self, place: &Problem, message: String) -> Option<T> {
        let Problem { message, .. } = Problem::new(&place.file, message);
        self.problems.push(Problem { message, ..place.clone() });
        None
    }
}

/// The key of a model that says nothing of keys.
fn implied(view: &ViewShape) -> EntityKey {
    let name = view.entity.clone();
    EntityKey { name, alias: Vec::new(), dtype: view.key, description: None, example: None }
}

/// Whether a field of `field` holds what a feature of `feature` is. A whole number can be a
/// float; nothing else changes its kind. Whether it is within an integer's range is seen when
/// it is filled in.
fn fits(feature: DType, field: DType) -> bool {
    let whole = |dtype: DType| dtype.int_bounds().is_some();
    feature == field
        || (field.is_float() && (feature.is_float() || whole(feature)))
        || (whole(field) && whole(feature))
}

fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match weir_config::nearest(word, known.clone()) {
        Some(near) => format!(": did you mean `{near}`?"),
        None if known.clone().next().is_none() => ": weir.toml declares them as [[view]]".into(),
        None => format!(", only: {}", known.take(8).collect::<Vec<_>>().join(", ")),
    }
}
