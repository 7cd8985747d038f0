//! TOML that an operator writes: checked as a whole, every problem told at once.
//!
//! The Rust type is the only description: `schemars` turns it into a JSON Schema, the
//! document is checked against that with its places, and only a clean document is
//! deserialized. Derive `Deserialize` and `JsonSchema` with `#[serde(deny_unknown_fields)]`;
//! doc comments become the comments of [`default_toml`].
//!
//! Of JSON Schema the checker follows what `schemars` writes: `$ref`, `allOf`, `anyOf`,
//! `oneOf`, `type`, `enum`, `const`, `minimum`, `maximum`, `exclusiveMinimum`,
//! `exclusiveMaximum`, `minLength`, `maxLength`, `items`, `prefixItems`, `minItems`,
//! `maxItems`, `properties`, `required`, `additionalProperties`, and the formats of
//! [`HumanDuration`] and [`ByteSize`]. Anything else is left to `serde`, whose error is
//! reported at its place too, but one at a time.

mod byte_size;
mod check;
mod document;
mod duration;
pub mod files;
mod keys;
mod overrides;
mod parse;
mod places;
mod problem;
mod schema;
mod template;

pub use byte_size::ByteSize;
pub use duration::HumanDuration;
pub use keys::{Key, keys};
pub use overrides::{Override, environment, misspelt};
pub use parse::{Layer, Loaded, MAX_BYTES, parse, parse_layers, parse_with};
pub use places::{Origin, Places, Source};
pub use problem::{Problem, nearest};
pub use schema::json_schema;
pub use template::default_toml;
