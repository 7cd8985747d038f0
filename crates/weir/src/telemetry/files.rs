//! The files that sending reads, looked at where settings are checked: by `weir config check`, before
//! `weir serve` listens, and by `weir doctor`. Not where settings are only shown, which must work where
//! secrets are not.

use std::path::Path;

use weir_config::{Places, Problem};

use super::{
    TelemetryConfig,
    otlp::{self, Wrong},
};

/// What is wrong with the file of this key; nothing of keys that are not telemetry's or no files.
pub(crate) fn wrong(key: &str, file: &Path) -> Vec<Wrong> {
    match key {
        "telemetry.headers_file" => otlp::of_file(file).err().unwrap_or_default(),
        "telemetry.ca_file" => wrong_authorities(file).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// What is wrong with a file of authorities.
fn wrong_authorities(file: &Path) -> Option<Wrong> {
    let found = weir_clients::Trust::new(Some(file)).err()?;
    Some(Wrong {
        found,
        fix: "name a PEM file with the certificate of the authority, which this user may read",
    })
}

impl TelemetryConfig {
    /// What is wrong with the files that are read before the first message is sent, each with its place.
    pub(crate) fn wrong_files(&self, places: &Places) -> Vec<Problem> {
        let Some(endpoint) = self.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Vec::new();
        };
        let authorities = self.ca_file.as_ref().filter(|_| endpoint.starts_with("https://"));
        let files =
            [("telemetry.headers_file", self.headers_file.as_ref()), ("telemetry.ca_file", authorities)];
        let files = files.into_iter().filter_map(|(key, file)| Some((key, file?)));
        let placed = |(key, file): (&'static str, &std::path::PathBuf)| {
            let problem = move |one: Wrong| places.problem(key, format!("`{key}`: {one}"));
            wrong(key, file).into_iter().map(problem)
        };
        files.flat_map(placed).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    #[test]
    fn files_are_looked_at_where_they_will_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let headers = folder.path().join("headers");
        fs::write(&headers, "authorization: Bearer hush\nhush\n").unwrap();
        let of = |endpoint: Option<&str>| {
            let config = TelemetryConfig {
                endpoint: endpoint.map(str::to_owned),
                headers_file: Some(headers.clone()),
                ca_file: Some(PathBuf::from("/nowhere/ca.pem")),
                ..TelemetryConfig::default()
            };
            let problems = config.wrong_files(&Places::default());
            problems.iter().map(Problem::to_string).collect::<Vec<_>>()
        };
        assert!(of(None).is_empty() && of(Some("")).is_empty(), "nothing is sent");
        let plain = of(Some("http://a:4318"));
        assert!(
            matches!(&plain[..], [one] if one.contains("headers:2:") && one.contains("`name: value`")),
            "{plain:?}"
        );
        let secure = of(Some("https://a:4318"));
        assert!(
            matches!(&secure[..], [_, ca] if ca.contains("`telemetry.ca_file`: /nowhere/ca.pem cannot be read")),
            "{secure:?}"
        );
        assert!(!format!("{plain:?}{secure:?}").contains("hush"));
    }
}
