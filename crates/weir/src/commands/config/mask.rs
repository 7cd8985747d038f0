//! What addresses may hold that is nobody's to read: names with passwords, and queries that are signatures.

use crate::settings::Settings;

/// What stands where something was taken out.
const HIDDEN: &str = "***";

/// Takes names, passwords and queries out of every address.
pub(super) fn addresses(settings: &mut Settings) {
    let Settings { archive, redis, s3, telemetry, .. } = settings;
    let archives = archive.iter_mut().map(|archive| &mut archive.url);
    let redis = redis.iter_mut().flat_map(|redis| redis.url.iter_mut().chain(&mut redis.nodes));
    let s3 = s3.iter_mut().flat_map(|s3| s3.endpoint.iter_mut());
    for address in archives.chain(redis).chain(s3).chain(&mut telemetry.endpoint) {
        *address = masked(address);
    }
}

fn masked(address: &str) -> String {
    let (place, query) = match address.find(['?', '#']) {
        Some(at) => (&address[..at], format!("{}{HIDDEN}", &address[at..=at])),
        None => (address, String::new()),
    };
    let (scheme, rest) = match place.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), place),
    };
    // The last @ before the path: a password that was not escaped may hold others. A `/` in one would
    // end the host, so that an @ behind it counts too where what is before it has a colon.
    let host = rest.find('/').unwrap_or(rest.len());
    let end = rest[..host].rfind('@').or_else(|| rest.rfind('@').filter(|_| !scheme.starts_with("s3")));
    match end {
        Some(at) => format!("{scheme}{HIDDEN}{}{query}", &rest[at..]),
        None => format!("{scheme}{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_taken_out_of_an_address() {
        for (written, shown) in [
            ("https://a/b.tar.gz?X-Amz-Signature=canary", "https://a/b.tar.gz?***"),
            ("https://a/b#canary", "https://a/b#***"),
            ("redis://u:canary@h:6379/0", "redis://***@h:6379/0"),
            ("redis://:can@ary@h", "redis://***@h"),
            ("redis://u:can/ary@h", "redis://***@h"),
            ("u:canary@h:6379", "***@h:6379"),
            ("redis://h:6379/0", "redis://h:6379/0"),
            ("s3://models/a@b.tar", "s3://models/a@b.tar"),
            ("file:/models/a.tar.gz", "file:/models/a.tar.gz"),
            ("", ""),
        ] {
            assert_eq!(masked(written), shown);
        }
    }
}
