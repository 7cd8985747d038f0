//! `[s3]` of weir.toml.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The object store that `s3://bucket/key` means: Amazon S3, or what speaks its protocol (MinIO,
/// SeaweedFS, Ceph).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Its address, such as `http://minio:9000`; without it, Amazon's of `region`.
    pub endpoint: Option<String>,
    /// The region that requests are signed for; stores other than Amazon's mostly ignore it.
    pub region: String,
    /// Whether the bucket stands in the path (`http://host/bucket/key`) or before the host's name
    /// (`http://bucket.host/key`). Without it: in the path where there is an `endpoint`.
    pub path_style: Option<bool>,
    /// File that holds the access key's id. Without the files, the environment variables
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. The files are read again for
    /// each download, so that keys may be exchanged.
    pub access_key_file: Option<PathBuf>,
    /// File that holds the secret key.
    pub secret_key_file: Option<PathBuf>,
    /// File that holds the token of temporary keys.
    pub session_token_file: Option<PathBuf>,
    /// Whether requests are not signed at all, for public buckets.
    pub anonymous: bool,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: None,
            access_key_file: None,
            secret_key_file: None,
            session_token_file: None,
            anonymous: false,
        }
    }
}

impl S3Config {
    /// The files that it names, each with its key, to resolve relative ones.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let files = [
            ("access_key_file", &mut self.access_key_file),
            ("secret_key_file", &mut self.secret_key_file),
            ("session_token_file", &mut self.session_token_file),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file.as_mut()?)))
    }
}
