//! Who asks, as far as a fair share goes.

use std::net::{IpAddr, Ipv6Addr};

use weir_types::Principal;

/// Whose share of a model a job counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Caller {
    /// Nobody in particular: all of them are one.
    #[default]
    Unknown,
    /// The machine at the other end of the connection.
    Peer(IpAddr),
    /// Somebody with credentials.
    Named(Principal),
}

impl Caller {
    /// Who was granted access, where that tells callers apart, else the peer. Of an IPv6
    /// address the network counts: one machine has all addresses of its /64.
    pub fn new(principal: &Principal, peer: Option<IpAddr>) -> Self {
        match peer {
            _ if principal.is_named() => Self::Named(principal.clone()),
            Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                Self::Peer(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)))
            }
            Some(address) => Self::Peer(address),
            None => Self::Unknown,
        }
    }

    /// Whose answers and sequences it sees: those with credentials have their own alone, all
    /// others share theirs.
    pub(crate) fn tenant(&self) -> Option<&Principal> {
        match self {
            Self::Named(principal) => Some(principal),
            Self::Unknown | Self::Peer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_more_than_an_address_and_a_network_is_one_caller() {
        let peer = |text: &str| Caller::new(&Principal::LOCAL, Some(text.parse().unwrap()));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8::1"));
        assert_ne!(peer("127.0.0.1"), peer("127.0.0.2"));
        assert_ne!(peer("::ffff:127.0.0.1"), peer("::ffff:127.0.0.2"));
        let named = Caller::new(&Principal::new("a"), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(named, Caller::Named(Principal::new("a")));
        assert_eq!(Caller::new(&Principal::LOCAL, None), Caller::Unknown);
    }
}
