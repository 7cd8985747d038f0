//! The predict use case.
