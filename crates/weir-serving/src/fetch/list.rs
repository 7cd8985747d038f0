//! `[[archive]]`, checked.

use std::path::PathBuf;

use weir_clients::Location;

use super::ArchiveConfig;

/// Most archives.
const MAX_ARCHIVES: usize = 256;

/// A mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchProblem {
    /// The key, such as `archive[0].sha256`.
    pub key: String,
    /// What is wrong with it.
    pub text: String,
}

impl FetchProblem {
    /// Every mistake in `list`, where nothing is to be fetched; `has_s3` says whether `s3://` has a meaning.
    pub fn of(list: &[ArchiveConfig], has_s3: bool) -> Vec<Self> {
        check(list, has_s3).err().unwrap_or_default()
    }
}

/// An archive that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) from: Location,
    pub(super) sha256: String,
    pub(super) token_file: Option<PathBuf>,
}

/// Reads `[[archive]]`; `has_s3` says whether `s3://` has a meaning.
pub(super) fn check(list: &[ArchiveConfig], has_s3: bool) -> Result<Vec<Wanted>, Vec<FetchProblem>> {
    let (mut wanted, mut problems): (Vec<Wanted>, Vec<FetchProblem>) = (Vec::new(), Vec::new());
    if list.len() > MAX_ARCHIVES {
        let text = format!("are more than {MAX_ARCHIVES}");
        return Err(vec![FetchProblem { key: "archive".to_owned(), text }]);
    }
    for (index, archive) in list.iter().enumerate() {
        let mut told = |key: &str, text: String| {
            problems.push(FetchProblem { key: format!("archive[{index}].{key}"), text });
        };
        let from = Location::parse(&archive.url).map_err(|text| told("url", text));
        if matches!(from, Ok(Location::S3 { .. })) && !has_s3 {
            told("url", "is in an object store, and there is no [s3] to say where that is".to_owned());
        }
        let sha256 = digest(&archive.sha256).map_err(|text| told("sha256", text));
        if archive.token_file.is_some() && !matches!(from, Ok(Location::Http(_)) | Err(())) {
            told("token_file", "is for `https://` and `http://`; the keys of `s3://` are in [s3]".to_owned());
        }
        let (Ok(from), Ok(sha256)) = (from, sha256) else { continue };
        if wanted.iter().any(|other| other.sha256 == sha256) {
            told("sha256", "is that of an archive above: leave one out".to_owned());
        }
        wanted.push(Wanted { from, sha256, token_file: archive.token_file.clone() });
    }
    if problems.is_empty() { Ok(wanted) } else { Err(problems) }
}

fn digest(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    if hex.is_empty() {
        let text = "is required: without it whoever may write to that address decides what is served; \
                    `weir package` and `sha256sum` print it";
        return Err(text.to_owned());
    }
    let valid = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if valid { Ok(hex) } else { Err("must be 64 hexadecimal digits".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_in_the_list_is_told_at_its_place() {
        let archive = |url: &str, sha256: &str| ArchiveConfig {
            url: url.into(),
            sha256: sha256.into(),
            token_file: Some("t".into()),
        };
        let good = "a".repeat(64);
        let list = [
            archive("https://a/b.tar.gz", ""),
            archive("b.tar.gz", "xyz"),
            archive("s3://models/a", &good),
            archive("https://a/c", &good.to_uppercase()),
        ];
        let keys: Vec<_> = check(&list, true).unwrap_err().into_iter().map(|p| p.key).collect();
        assert_eq!(
            keys,
            [
                "archive[0].sha256",
                "archive[1].url",
                "archive[1].sha256",
                "archive[2].token_file",
                "archive[3].sha256"
            ]
        );
        assert!(check(&[archive("https://a/c", &format!("sha256:{good}"))], false).is_ok());
        let stored = [ArchiveConfig { token_file: None, ..archive("s3://models/a", &good) }];
        assert!(check(&stored, true).is_ok());
        assert_eq!(check(&stored, false).unwrap_err()[0].key, "archive[0].url");
    }
}
