//! What callers of the crate rely on.

// clippy's own exception for tests covers only the test functions, not their helpers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod agree;
mod bounds;
mod corpus;
mod decode;
mod differences;
mod lookups;
mod oracle;
mod records;
mod schemas;
mod values;
