//! The cache as a whole, over executors that do as they are told.

mod corpus;
mod double;
mod flights;
mod modes;
mod replicas;
mod rows;
