//! Archives of models: what `weir package` writes and a server that fetches models unpacks.
//!
//! ```text
//! weir-package.json      SHA-256 and size of every file, models with their serving digests
//! housing/               the model's folder, under its own name
//! housing/model.onnx
//! housing/model.toml
//! ```
//!
//! A tar of regular files and folders in the `ustar` form (POSIX.1-1988), plain or inside gzip. Reading and
//! writing are ours and not a library's: what may stand in an archive is so little that refusing the rest is
//! shorter than configuring it away, and every known hole in unpackers (links, devices, `..`, two readings
//! of one size) is in the part that is not here. ADR 0017 has the reasons.

mod entry;
mod error;
mod manifest;
mod members;
mod oci;
mod sums;
mod unpack;
mod write;

pub use error::ArchiveError;
pub use manifest::{PACKAGE_FILE, PackageManifest, PackagedFile, PackagedModel};
pub use members::{Member, members};
pub use oci::{ImageSums, OCI_LAYER_TAR, OCI_LAYER_TAR_GZIP, write_image};
pub use unpack::{ArchiveLimits, unpack, verify};
pub use write::{Compression, Packed, pack};
