//! Integration tests of the engines, one binary.

mod ort;
mod runtimes;
mod support;
