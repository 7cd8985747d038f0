//! `[fetch]` and `[[archive]]` of weir.toml.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{ByteSize, HumanDuration};

/// One archive that `weir package` made, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Where it is: `https://…`, `http://…`, `s3://bucket/key` (needs `[s3]`) or `file:/path`.
    pub url: String,
    /// SHA-256 of the archive, 64 hexadecimal digits, as `weir package` and `sha256sum` print it.
    /// Required: what has another one is never unpacked.
    pub sha256: String,
    /// File with a token that is sent as `Authorization: Bearer …` to the host of `url`, and to no
    /// other that it redirects to.
    pub token_file: Option<PathBuf>,
}

/// How archives are fetched, and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// Folder for what was fetched, one folder an archive, named by its SHA-256; several servers may
    /// share it. Default: `weir/models` in `$XDG_CACHE_HOME` or `~/.cache`, without a home
    /// `/var/lib/weir/models`. Relative to this file.
    pub cache: Option<PathBuf>,
    /// Bytes kept there of archives that no running server uses any more, so that a way back needs
    /// no network; beyond it, the one that was not used for longest goes first.
    pub keep: ByteSize,
    /// Largest archive.
    pub max_archive: ByteSize,
    /// Most bytes that one archive may unpack to.
    pub max_unpacked: ByteSize,
    /// Longest that making a connection may take, TLS included.
    pub connect_timeout: HumanDuration,
    /// Longest pause before an answer begins, and between two parts of it.
    pub stall_timeout: HumanDuration,
    /// Fewest bytes a second that come on average, measured over each `stall_timeout`; a download that
    /// is slower breaks off. 0: any.
    pub min_rate: ByteSize,
    /// Longest that a reload waits for its archives; after that it fails, and what served still does.
    pub reload_timeout: HumanDuration,
    /// How often one download is taken up again where it broke off, before it counts as failed. At
    /// start one that may still come is begun again for as long as the server runs.
    pub retries: u32,
    /// The wait before the first repeat is up to this, before each further one up to double.
    pub backoff: HumanDuration,
    /// The wait is never longer.
    pub max_backoff: HumanDuration,
    /// PEM file of authorities that are trusted beside those of the machine.
    pub ca_file: Option<PathBuf>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            cache: None,
            keep: ByteSize(2 * GIB),
            max_archive: ByteSize(4 * GIB),
            max_unpacked: ByteSize(16 * GIB),
            connect_timeout: HumanDuration::from_secs(10),
            stall_timeout: HumanDuration::from_secs(30),
            min_rate: ByteSize(1 << 10),
            reload_timeout: HumanDuration::from_secs(600),
            retries: 5,
            backoff: HumanDuration::from_millis(500),
            max_backoff: HumanDuration::from_secs(30),
            ca_file: None,
        }
    }
}
