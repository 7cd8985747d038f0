//! Text in, one vector a text out (tokenizer → encoder → pooling → linear head), or the
//! entities that are in it (tokenizer → encoder → labels of tokens → entities).
//!
//! The encoder is an engine of its own, so that text models run on every runtime; the rest
//! is plain arithmetic, in double precision where it sums.

mod encoder;
mod engine;
mod entities;
mod head;
mod pool;
mod runs;
mod tokenizer;
mod vectors;

pub use engine::{TextEngine, TextLimits};
