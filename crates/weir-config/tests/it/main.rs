//! What an operator is told about a file, word for word.

mod golden;
mod overrides;
mod shape;
mod template;
