//! `weir doctor`.

use clap::Args;

use super::{Addresses, Sources};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) sources: Sources,
    #[command(flatten)]
    pub(crate) addresses: Addresses,
}
