//! Models that are made of others.
//!
//! ```text
//! Candidate ─ read_graph ─▶ GraphDraft ─ resolve ─▶ ModelSpec with its GraphPlan
//! ```
//!
//! A draft is what is written. It is resolved against the models that serve: names, types
//! and shapes are settled then, and again whenever one of these models changes. Nothing here
//! runs a graph.

mod drawing;
mod inputs;
mod names;
mod nodes;
mod operations;
mod plan;
mod read;
mod resolve;
mod scopes;
mod spec;
mod table;
mod types;

pub use plan::{Branch, GraphPlan, Member, Operation, PlannedStep, Selector, Source, Test};
pub use read::{GraphDraft, Lookup, Wanted, read_graph};
pub use table::{CaseTable, GraphTable, StepKind, StepTable};
