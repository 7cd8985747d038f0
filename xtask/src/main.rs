//! Checks and helpers for developers.

fn main() {}
