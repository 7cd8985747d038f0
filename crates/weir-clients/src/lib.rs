//! How Weir talks to others. Today: HTTP to another Weir, for the command line.
//!
//! Redis, object stores and brokers join it with the features that need them.

mod http;

pub use http::{Client, ClientError, Reply};
