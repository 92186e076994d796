//! The proxy in front of an identity provider.

use std::ops::Deref;

use anyhow::Result;

use crate::Proxy;

/// A [`Proxy`] in front of the admin API of an identity provider, or of anything else that speaks
/// plain HTTP.
pub struct Iproxy(Proxy);

impl Iproxy {
    /// Starts a proxy on a free port in front of `upstream` (no slash at the end).
    pub fn start(upstream: &str) -> Result<Self> {
        Ok(Self(Proxy::start("iproxy", upstream, None)?))
    }
}

impl Deref for Iproxy {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.0
    }
}
