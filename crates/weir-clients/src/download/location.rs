//! Where a file is.

use std::{fmt, path::PathBuf};

use http::Uri;

/// Where a file is. `Display` is for logs: it leaves out a query, which may be a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On a server, by HTTP or HTTPS.
    Http(Uri),
    /// In an object store.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key, without a `/` before it.
        key: String,
    },
    /// On this machine.
    File(PathBuf),
}

impl Location {
    /// Reads `https://…`, `http://…`, `s3://bucket/key` or `file:/path`.
    ///
    /// # Errors
    /// A sentence that says what it should be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("s3://") {
            return s3(rest);
        }
        if let Some(rest) = text.strip_prefix("file:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return match path.starts_with('/') {
                true => Ok(Self::File(path.into())),
                false => Err("is no file: it needs a whole path, `file:/models/housing-1.tar.gz`".to_owned()),
            };
        }
        let uri: Uri = text.parse().map_err(|e| format!("is no address: {e}"))?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || uri.host().is_none_or(str::is_empty) {
            return Err("must begin with `https://`, `http://`, `s3://bucket/` or `file:/`".to_owned());
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("holds a name or a password: put a token into a file and name it with `token_file`"
                .to_owned());
        }
        Ok(Self::Http(uri))
    }

    /// The last part of its path, without what says how it is packed: `housing-2`.
    pub fn stem(&self) -> &str {
        let path = match self {
            Self::Http(uri) => uri.path(),
            Self::S3 { key, .. } => key,
            Self::File(path) => path.to_str().unwrap_or_default(),
        };
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("archive");
        let ends = [".tar.gz", ".tgz", ".tar"];
        ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    }
}

fn s3(rest: &str) -> Result<Location, String> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(plain) {
        return Err(format!("names no bucket: `{}` (3 to 63 of a-z, 0-9, `.`, `-`)", bucket.escape_debug()));
    }
    if key.is_empty() || key.len() > 1_024 {
        return Err("names no object: s3://bucket/key, the key of at most 1024 bytes".to_owned());
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(uri) => {
                let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.authority());
                write!(f, "{scheme}://{}{}", host.map_or("", |host| host.as_str()), uri.path())
            }
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_and_others_refused() {
        for (text, stem) in [
            ("https://models.example/a/housing-2.tar.gz?X-Amz-Signature=secret", "housing-2"),
            ("http://10.0.0.1:9000/x.tgz", "x"),
            ("s3://models/team/housing.tar", "housing"),
            ("file:///models/a.tar.gz", "a"),
            ("file:/models/a.bin", "a.bin"),
        ] {
            let place = Location::parse(text).unwrap();
            assert_eq!(place.stem(), stem);
            assert!(!place.to_string().contains("secret"), "{place}");
        }
        for bad in [
            "",
            "housing.tar.gz",
            "ftp://a/b",
            "https://",
            "https://u:p@a/b",
            "s3://b",
            "s3://models/",
            "s3://Models/a",
            "s3:///a",
            "file:a",
            "file:",
            "https:/a",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad:?}");
        }
    }
}
