//! Real servers for tests: started on free ports in folders of their own, stopped, continued,
//! killed and started again at will, and gone when they are dropped.
//!
//! Only tests depend on this crate. A server that cannot be started fails the test, and the message says
//! what to install: a test that quietly does nothing shows nothing.

// Only tests use it, and what goes wrong here has to fail them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod cluster;
mod process;
mod redis_server;
mod sentinel;

pub use certificates::Certificates;
pub use cluster::RedisCluster;
pub use redis_server::{RedisOptions, RedisServer};
pub use sentinel::RedisSentinel;
pub use tokio_rustls::TlsAcceptor;
