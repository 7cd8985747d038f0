//! gRPC over real sockets.

mod cache;
mod calls;
mod client;
mod control;
mod health;
mod infer;
mod keys;
mod life;
mod lookups;
mod parity;
mod settings;
mod stream;
mod tensors;
