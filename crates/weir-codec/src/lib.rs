//! JSON rows in, typed batches out; every error at once, as Pydantic words it.
//!
//! A [`RowDecoder`] is built once per route from a model's schema. Its good path reads the
//! bytes once, straight into the model's own input tensors (`fast`). Whatever that path
//! does not know (a number in quotes, a duplicate key, a mistake) sends the same bytes
//! through the complete path (`full`), which reads JSON as Python's `json` module does,
//! validates as Pydantic v2 does and collects all errors. The two agree wherever the first
//! one answers; a property test holds them to it.
//!
//! What equals FastAPI and Pydantic, and what differs on purpose, is written down in
//! `docs/reference/validation.md` and held by a test against the real ones.

mod answer;
mod details;
mod error;
mod fast;
mod full;
mod lookup;
mod number;
mod plan;
mod query;
mod records;
mod sink;
pub mod v2;

use std::sync::Arc;

use weir_types::{Batch, Schema};

pub use answer::{write_answer, write_floats, write_string};
pub use details::{STATUS_DETAILS, retry_info, told_retry_info};
pub use error::{CodecError, Context, ContextValue, Echo, FieldError, Loc, Rejection, write_detail};
pub use lookup::{Absent, Decoded, Lookups, Wanted};
pub use query::{QueryDecoder, QueryParam, QueryValues};
pub use records::{Record, RecordDecoder, RecordPart, RecordShape, Records};

use plan::Plan;

/// How rows lie in a request body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyShape {
    /// The body is one row: `{"MedInc": 8.3, …}`.
    Row,
    /// The body holds a list of rows: `{"houses": [{…}, …]}`.
    Rows {
        /// The key of the list.
        key: String,
    },
    /// One row, or `{"instances": [{…}, …]}`. A schema with a field called `instances` has
    /// rows only.
    Instances,
    /// One list a field, all of one length: `{"text": ["a", "b"]}`. Fields without a list
    /// must have a default.
    Columns {
        /// Body key and index of the field it fills.
        keys: Vec<(String, usize)>,
    },
}

/// What bounds the work and the answer, whatever the body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most rows of one body.
    pub max_rows: usize,
    /// Deepest nesting of lists and objects, also of fields that are ignored.
    pub max_depth: usize,
    /// Errors after which validation stops.
    pub max_errors: usize,
    /// Bytes of a value that an error repeats; longer ones are cut and end in `…`.
    pub max_echo_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_rows: 10_000, max_depth: 64, max_errors: 100, max_echo_bytes: 256 }
    }
}

/// Decodes request bodies into batches by a schema.
#[derive(Debug)]
pub struct RowDecoder {
    plan: Plan,
}

impl RowDecoder {
    /// Prepares a decoder of explicit rows: none leaves a value to be looked up.
    ///
    /// # Errors
    /// [`CodecError`] where schema, shape and limits do not fit together: a pattern that is
    /// no regular expression, a default of another type, a column of no field.
    pub fn new(schema: Arc<Schema>, shape: BodyShape, limits: DecodeLimits) -> Result<Self, CodecError> {
        let schema = if schema.looks_up() { Arc::new(schema.explicit()) } else { schema };
        Self::looking_up(schema, shape, limits)
    }

    /// Prepares a decoder of rows that may name an entity instead of carrying the values that
    /// are known of it: for [`decode_rows`](Self::decode_rows).
    ///
    /// # Errors
    /// As [`new`](Self::new), and for a looked-up field that is not a single value.
    pub fn looking_up(
        schema: Arc<Schema>,
        shape: BodyShape,
        limits: DecodeLimits,
    ) -> Result<Self, CodecError> {
        Ok(Self { plan: Plan::new(schema, shape, limits)? })
    }

    /// Decodes a body of explicit rows: one tensor a model input, in signature order.
    ///
    /// # Errors
    /// [`Rejection::Unparsable`] for bytes that FastAPI does not get to validate,
    /// [`Rejection::Invalid`] with everything that is wrong otherwise; values that are left to
    /// be looked up are wrong here.
    pub fn decode(&self, body: &[u8]) -> Result<Batch, Rejection> {
        match self.decode_rows(body) {
            Ok(decoded) if decoded.lookups.is_empty() => Ok(decoded.batch),
            Ok(decoded) => self.explicit(decoded),
            Err(rejection) => Err(rejection),
        }
    }

    /// Decodes a body: its rows, and what they leave to be looked up.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), but for what is left to be looked up.
    #[inline]
    pub fn decode_rows(&self, body: &[u8]) -> Result<Decoded, Rejection> {
        match fast::decode(&self.plan, body) {
            Some(decoded) => Ok(decoded),
            None => self.decode_rows_fully(body),
        }
    }

    fn explicit(&self, decoded: Decoded) -> Result<Batch, Rejection> {
        if decoded.lookups.is_empty() {
            return Ok(decoded.batch);
        }
        let unknown = || Err(Absent { kind: "missing", msg: "Field required".into() });
        let found = decoded.lookups.wanted.iter().map(|_| unknown()).collect();
        self.fill(decoded, found)
    }

    /// What [`decode`](Self::decode) does when the good path gives up. Public for the
    /// property that the two agree, and for benchmarks.
    ///
    /// # Errors
    /// As `decode`.
    #[doc(hidden)]
    pub fn decode_fully(&self, body: &[u8]) -> Result<Batch, Rejection> {
        self.explicit(self.decode_rows_fully(body)?)
    }

    /// [`decode_fully`](Self::decode_fully) for rows that leave values to be looked up.
    ///
    /// # Errors
    /// As `decode_rows`.
    #[doc(hidden)]
    pub fn decode_rows_fully(&self, body: &[u8]) -> Result<Decoded, Rejection> {
        full::decode(&self.plan, body)
    }

    /// The good path alone; `None` where it gives up.
    #[doc(hidden)]
    pub fn decode_fast(&self, body: &[u8]) -> Option<Batch> {
        fast::decode(&self.plan, body).map(|decoded| decoded.batch)
    }

    /// [`decode_fast`](Self::decode_fast) for rows that leave values to be looked up.
    #[doc(hidden)]
    pub fn decode_rows_fast(&self, body: &[u8]) -> Option<Decoded> {
        fast::decode(&self.plan, body)
    }

    /// The answer to a body whose `Content-Type` is not JSON: FastAPI validates the raw text
    /// then, which is no object (`model_attributes_type`), or `missing` if it is empty.
    pub fn reject_media_type(&self, body: &[u8]) -> Rejection {
        full::reject_media_type(&self.plan, body)
    }

    /// How rows lie in the body.
    pub fn shape(&self) -> &BodyShape {
        &self.plan.shape
    }

    /// The schema it decodes by.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.plan.schema
    }
}
