//! gRPC over real sockets.

mod calls;
mod client;
mod control;
mod health;
mod infer;
mod life;
mod parity;
mod stream;
mod tensors;
