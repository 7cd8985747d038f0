//! What a person points Weir at, and what comes of it.

mod demo;
