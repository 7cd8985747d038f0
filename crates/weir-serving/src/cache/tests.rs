//! The cache as a whole, over executors that do as they are told.

mod corpus;
mod double;
mod flights;
mod leases;
mod modes;
mod purges;
mod replicas;
mod rows;
