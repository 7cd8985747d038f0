//! Requests made from what a server says about a model.

pub(crate) mod encode;
pub(crate) mod http;
pub(crate) mod rows;
pub(crate) mod schema;
pub(crate) mod tensors;
mod text;
pub(crate) mod wire;
