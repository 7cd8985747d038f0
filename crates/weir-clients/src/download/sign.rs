//! AWS Signature Version 4 for requests without a body
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// SHA-256 of nothing.
pub(super) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Keys of an object store. Neither shown nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Keys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// The token of temporary keys.
    pub token: Option<String>,
}

impl std::fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Keys").finish_non_exhaustive()
    }
}

/// What is signed of a `GET` without a query.
pub(super) struct Signed<'a> {
    /// The path, encoded.
    pub(super) path: &'a str,
    /// All headers that are signed, names in lower case and sorted, `host` and `x-amz-date` among them.
    pub(super) headers: &'a [(&'a str, String)],
    /// The time of `x-amz-date`, `20130524T000000Z`.
    pub(super) time: &'a str,
    pub(super) region: &'a str,
}

/// The value of `Authorization`.
pub(super) fn authorization(request: &Signed<'_>, keys: &S3Keys) -> String {
    let Signed { path, headers, time, region } = request;
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("GET\n{path}\n\n{lines}\n{names}\n{EMPTY_SHA256}");
    let day = time.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let first = mac(format!("AWS4{}", keys.secret).as_bytes(), day);
    let key = [*region, "s3", "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", keys.id)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Example: GET Object" of the page that the module names.
    #[test]
    fn amazons_own_example_is_signed_as_it_says() {
        let keys = S3Keys {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let time = "20130524T000000Z";
        let headers = [
            ("host", "examplebucket.s3.amazonaws.com".to_owned()),
            ("range", "bytes=0-9".to_owned()),
            ("x-amz-content-sha256", EMPTY_SHA256.to_owned()),
            ("x-amz-date", time.to_owned()),
        ];
        let request = Signed { path: "/test.txt", headers: &headers, time, region: "us-east-1" };
        assert_eq!(
            authorization(&request, &keys),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert!(!format!("{keys:?}").contains("EXAMPLE"));
    }
}
