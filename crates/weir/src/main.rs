//! Weir: a trained model becomes a production API.

fn main() {}
