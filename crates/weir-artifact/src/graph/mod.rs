//! Models that are made of others.

mod table;

pub use table::{CaseTable, GraphTable, StepKind, StepTable};
