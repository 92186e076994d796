//! From the name of an IdP's host to addresses, and never to one that no provider may name.
//!
//! Who may name a host may also say what its name resolves to, and say another thing at each question: so
//! what counts is the address that is connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Answers what the system answers, reserved addresses left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver(pub(super) fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>);

impl Default for Resolver {
    fn default() -> Self {
        // The port is the URL's.
        Self(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(usable(found.await?)?.into_iter()) as Addrs) })
    }
}

/// A host has no address that may be connected to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of the identity provider's host resolves to link-local or metadata addresses only")]
pub(super) struct Reserved;

fn usable(mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Reserved> {
    let none = found.is_empty();
    found.retain(|address| !reserved(address.ip().to_canonical()));
    if found.is_empty() && !none { Err(Reserved) } else { Ok(found) }
}

/// Whether an address is one that no provider may name: link-local, a metadata service, nobody's.
#[must_use]
pub(crate) fn reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // Beside link-local: the metadata services of Alibaba, Oracle and Azure.
            matches!(v4.octets(), [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16])
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = segments {
                // An IPv4 address behind a translator (RFC 6052).
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                return reserved(IpAddr::from([a, b, c, d]));
            }
            (segments[0] & 0xffc0) == 0xfe80
                // Those of AWS and Google.
                || matches!(segments[..2], [0xfd00, 0x0ec2] | [0xfd20, 0x00ce])
                || v6.is_unspecified()
                || v6.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_addresses_are_left_out_however_they_are_written() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let all = |texts: &[&str]| usable(texts.iter().map(|text| at(text)).collect());
        for bad in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "::",
        ] {
            assert_eq!(all(&[bad]), Err(Reserved), "{bad}");
            assert_eq!(all(&[bad, "10.0.0.1"]), Ok(vec![at("10.0.0.1")]), "{bad}");
        }
        for good in ["10.0.0.1", "127.0.0.1", "::1", "203.0.113.7", "2001:db8::1", "fd00::1"] {
            assert_eq!(all(&[good]), Ok(vec![at(good)]));
        }
        assert_eq!(all(&[]), Ok(Vec::new()), "that is another error");
    }
}
