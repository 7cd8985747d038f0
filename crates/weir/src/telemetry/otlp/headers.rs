//! Headers that messages have besides their own: keys that a receiver wants.

use std::{fmt, path::Path};

use anyhow::{anyhow, bail};
use http::{HeaderName, HeaderValue};
use weir_config::files;

use super::messages::decoded;

/// Names and values.
pub(crate) type Headers = Vec<(HeaderName, HeaderValue)>;

/// What the transport says itself: a second word of it would break the message.
const OURS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What is wrong with a header or its file, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Where, and what is there.
    pub(crate) found: String,
    /// What to do about it.
    pub(crate) fix: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found, self.fix)
    }
}

/// Headers of the file and of the environment; where both name one, the environment wins.
///
/// # Errors
/// See [`of_file`] and [`of_environment`].
pub(super) fn headers(file: Option<&Path>, environment: Option<&str>) -> anyhow::Result<Headers> {
    let mut all = Headers::new();
    match file.map(of_file).transpose() {
        Ok(headers) => all.extend(headers.into_iter().flatten()),
        Err(wrong) => {
            let lines: Vec<_> = wrong.iter().map(|one| format!("`telemetry.headers_file`: {one}")).collect();
            bail!(lines.join("\n"));
        }
    }
    let said = of_environment(environment.unwrap_or_default())?;
    all.retain(|(name, _)| said.iter().all(|(other, _)| other != name));
    all.extend(said);
    Ok(all)
}

/// One `name: value` a line.
///
/// # Errors
/// A file that cannot be read; every line that is no header.
pub(crate) fn of_file(file: &Path) -> Result<Headers, Vec<Wrong>> {
    let (mut headers, mut wrong) = (Headers::new(), Vec::new());
    let text = files::text(file, files::SECRET_BYTES).map_err(|found| {
        let fix = "mount a file of headers, and let this user (or its group: fsGroup in Kubernetes) read it";
        vec![Wrong { found, fix }]
    })?;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", file.display(), number + 1);
        let pair = line.split_once(':').and_then(|(name, value)| one(name, value.trim()));
        let malformed = || Wrong {
            found: format!("{place}: this is no header"),
            fix: "write one `name: value` a line, the name in letters, digits and dashes",
        };
        match pair.ok_or_else(malformed).and_then(|pair| not_ours(pair, &place)) {
            Ok(pair) => headers.push(pair),
            Err(one) => wrong.push(one),
        }
    }
    if wrong.is_empty() { Ok(headers) } else { Err(wrong) }
}

/// `name=value` with commas between, values percent-encoded, as the specification has
/// OTEL_EXPORTER_OTLP_HEADERS (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>): W3C
/// Baggage without metadata.
///
/// # Errors
/// Pairs that are no headers, without what they hold.
pub(crate) fn of_environment(said: &str) -> anyhow::Result<Headers> {
    const PLACE: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let header = |pair: &str| {
        let pair = pair.split_once('=').and_then(|(name, value)| one(name, &decoded(value.trim())));
        let pair = pair.ok_or_else(|| {
            anyhow!("{PLACE}: headers are `name=value` with commas between, values percent-encoded")
        });
        not_ours(pair?, PLACE).map_err(|wrong| anyhow!(wrong.to_string()))
    };
    said.split(',').filter(|pair| !pair.trim().is_empty()).map(header).collect()
}

fn not_ours(header: (HeaderName, HeaderValue), place: &str) -> Result<(HeaderName, HeaderValue), Wrong> {
    match OURS.contains(&header.0.as_str()) {
        true => Err(Wrong {
            found: format!("{place}: `{}` is the transport's own", header.0),
            fix: "leave it out",
        }),
        false => Ok(header),
    }
}

fn one(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = name.trim().to_ascii_lowercase().parse().ok()?;
    let mut value = HeaderValue::from_str(value).ok()?;
    // Kept out of what is logged.
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, environment: &str) -> anyhow::Result<Vec<(String, String)>> {
        let place = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(place.path(), file).unwrap();
        let headers = headers(Some(place.path()), Some(environment))?;
        Ok(headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn headers_come_from_a_file_and_the_environment() {
        let all = read("Authorization: Bearer abc:def\n\nx-scope: 7\n", "a=1,b=2=3").unwrap();
        let expected =
            [pair("authorization", "Bearer abc:def"), pair("x-scope", "7"), pair("a", "1"), pair("b", "2=3")];
        assert_eq!(all, expected);
        let error = read("x: 1\nsecret\n\nalso secret: 1\nhost: secret\n", "").unwrap_err().to_string();
        assert!(
            [":2: this is no", ":4: this is no", ":5: `host`"].iter().all(|part| error.contains(part)),
            "{error}"
        );
        assert!(!error.contains("secret") && error.lines().count() == 3, "{error}");
        assert!(headers(None, Some("nothing")).is_err());
        for (bad, why) in
            [("/nowhere", "cannot be read"), ("/dev/zero", "no regular file"), ("/tmp", "no regular file")]
        {
            let error = headers(Some(Path::new(bad)), None).unwrap_err().to_string();
            assert!(error.contains("`telemetry.headers_file`: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_environments_values_are_percent_encoded() {
        let all = read("", "authorization=Basic%20YWI%3D, x = a+b&c%2Cd ").unwrap();
        assert_eq!(all, [pair("authorization", "Basic YWI="), pair("x", "a+b&c,d")]);
        assert!(read("", "x=a%0Ab").is_err(), "one header must not become two");
        assert_eq!(read("x: a%20b", "").unwrap(), [pair("x", "a%20b")], "a file's are as they stand");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let all = read("Authorization: old\nx-scope: 7\n", "authorization=new").unwrap();
        assert_eq!(all, [pair("x-scope", "7"), pair("authorization", "new")]);
    }

    #[test]
    fn what_the_transport_says_is_refused() {
        for name in ["Content-Type", "content-length", "Host", "te"] {
            let error = read(&format!("{name}: secret\n"), "").unwrap_err().to_string();
            assert!(error.contains(":1:") && error.contains("leave it out"), "{error}");
            assert!(!error.contains("secret"), "{error}");
            assert!(of_environment(&format!("{name}=1")).is_err());
        }
    }
}
