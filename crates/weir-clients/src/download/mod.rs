//! Downloads: files of any size over HTTP(S) and from object stores, taken up again where they
//! broke off.

mod config;

pub use config::S3Config;
