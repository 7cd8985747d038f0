//! JSON rows in, typed batches out; every error at once, as Pydantic words it.

mod answer;

pub use answer::{write_answer, write_string};
