//! How a row is completed from what the server knows of an entity: the fields that may be
//! looked up, the key that says where, and what views there are.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use crate::{DType, Field, Scalar, Schema};

/// Where a field's value comes from when a row does not carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureSource {
    /// The feature view.
    pub view: String,
    /// The feature in it.
    pub feature: String,
    /// Index into [`Schema::keys`] of the key that names the entity.
    pub key: usize,
    /// How old the value may be, by its event time; an older one counts as none.
    pub max_age: Option<Duration>,
}

/// A key of a row that names an entity instead of feeding the model.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityKey {
    /// The key in a row.
    pub name: String,
    /// Other keys that mean the same.
    pub alias: Vec<String>,
    /// [`DType::String`] or [`DType::Int64`].
    pub dtype: DType,
    /// For the docs page.
    pub description: Option<String>,
    /// A typical entity, for the docs page.
    pub example: Option<Scalar>,
}

impl EntityKey {
    /// Longest text that can name an entity, in characters. Stores count bytes: of a text that
    /// is longer in those, nothing is known.
    pub const MAX_CHARS: usize = 256;

    /// The key as a field of the row that fills element 0 of a column of its own, `input`. A
    /// text that names an entity is 1 to [`MAX_CHARS`](Self::MAX_CHARS) characters long.
    pub fn field(&self, input: usize) -> Field {
        let mut field = Field::new(self.name.clone(), self.dtype, input, 0);
        field.alias = self.alias.clone();
        field.description = self.description.clone();
        field.example = self.example.clone();
        if self.dtype == DType::String {
            field.rules.min_length = Some(1);
            field.rules.max_length = Some(Self::MAX_CHARS);
        }
        field
    }
}

impl Schema {
    /// The same rows for callers that have no feature store at hand: every value is explicit,
    /// no key names an entity.
    pub fn explicit(&self) -> Schema {
        let plain = |field: &Field| Field { source: None, ..field.clone() };
        Schema { fields: self.fields.iter().map(plain).collect(), keys: Vec::new(), ..self.clone() }
    }

    /// What a row can hold: the names of its fields, then of its entity keys. Their places are
    /// what decoders of columns count by.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(|key| key.name.as_str());
        self.fields.iter().map(|field| field.name.as_str()).chain(keys)
    }

    /// The field or, behind the fields, the entity key at `place`, as a field.
    pub fn place(&self, place: usize) -> Option<Cow<'_, Field>> {
        match self.fields.get(place) {
            Some(field) => Some(Cow::Borrowed(field)),
            None => {
                let key = place - self.fields.len();
                self.keys.get(key).map(|k| Cow::Owned(k.field(self.inputs.len() + key)))
            }
        }
    }

    /// Whether rows may leave values to be looked up.
    pub fn looks_up(&self) -> bool {
        !self.keys.is_empty()
    }
}

/// What a feature view looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewShape {
    /// What its rows are about, such as `user_id`.
    pub entity: String,
    /// Type of the entity's key: [`DType::String`] or [`DType::Int64`].
    pub key: DType,
    /// Its features and their types.
    pub features: BTreeMap<String, DType>,
}

/// The feature views there are, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeatureCatalogue(pub BTreeMap<String, ViewShape>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dim, InputSlot, SchemaError};

    fn schema(key: &str) -> Schema {
        let source = FeatureSource { view: "v".into(), feature: "f".into(), key: 0, max_age: None };
        let field = Field { source: Some(source), ..Field::new("a", DType::Float32, 0, 0) };
        let key = EntityKey {
            name: key.into(),
            alias: Vec::new(),
            dtype: DType::Int64,
            description: None,
            example: None,
        };
        let slot = InputSlot { name: "x".into(), dtype: DType::Float32, row_shape: vec![Dim::Fixed(1)] };
        Schema { fields: vec![field], keys: vec![key], inputs: vec![slot], ..Schema::default() }
    }

    #[test]
    fn a_key_shares_its_name_with_no_field() {
        assert_eq!(schema("user").check(), Ok(()));
        assert_eq!(schema("a").check(), Err(vec![SchemaError::DuplicateKey("a".into())]));
    }

    #[test]
    fn explicit_rows_have_no_key_and_no_source() {
        let explicit = schema("user").explicit();
        assert!(!explicit.looks_up() && explicit.fields[0].source.is_none());
    }
}
