//! One module a command.

pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod man;
pub(crate) mod package;
pub(crate) mod predict;
pub(crate) mod serve;
mod start;
pub(crate) mod top;
pub(crate) mod tune;
