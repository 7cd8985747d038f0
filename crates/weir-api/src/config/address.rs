//! Addresses to listen on.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de::Error};

/// Reads an address to listen on: an IP address and a port. `localhost` is 127.0.0.1, which it
/// is everywhere (RFC 6761 section 6.3); other names are not looked up, since a name can have
/// several addresses and one of them would be listened on without anybody having chosen it.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    match (host, port.parse()) {
        ("localhost", Ok(port)) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        (_, Ok(port)) => Err(format!(
            "{text:?} is no address to listen on: write an IP address and a port, \
             `0.0.0.0:{port}` for all addresses of this machine or `127.0.0.1:{port}` for this machine alone"
        )),
        (_, Err(_)) => Err(format!(
            "{text:?} is no address to listen on: write an IP address and a port, \
             for example `127.0.0.1:8000` or `[::1]:8000`"
        )),
    }
}

/// Reads an address.
pub(super) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads an address that need not be there.
pub(super) fn maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text).map_err(D::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_the_fix_is_told() {
        for (text, want) in
            [("127.0.0.1:8000", "127.0.0.1:8000"), ("[::1]:0", "[::1]:0"), ("localhost:80", "127.0.0.1:80")]
        {
            assert_eq!(parse(text), Ok(want.parse().unwrap()));
        }
        for (text, told) in [
            ("weir.example:8000", "0.0.0.0:8000"),
            ("*:8000", "0.0.0.0:8000"),
            (":8000", "0.0.0.0:8000"),
            ("8000", "127.0.0.1:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("localhost:", "127.0.0.1:8000"),
            ("localhost:99999", "127.0.0.1:8000"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told) && error.contains(text), "{error}");
        }
    }
}
