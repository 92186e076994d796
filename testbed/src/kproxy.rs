//! The proxy in front of kube-apiserver.

use std::ops::Deref;
use std::path::PathBuf;

use anyhow::Result;

use crate::{ControlPlane, Proxy};

/// A [`Proxy`] in front of the API server of a [`ControlPlane`], with TLS on both sides.
///
/// It speaks HTTP/1.1, as kube-rs does, and shows a certificate of the control plane's authority.
/// Tokens pass through it. A client certificate does not: who has nothing else is anonymous.
pub struct Kproxy(Proxy);

impl Kproxy {
    /// Starts a proxy on a free port.
    pub fn start(plane: &ControlPlane) -> Result<Self> {
        Ok(Self(Proxy::start("kproxy", &plane.url(), Some(&plane.tls()?))?))
    }

    /// A kubeconfig that leads through the proxy, with a token of an existing ServiceAccount that is
    /// good for a day.
    pub async fn kubeconfig(&self, plane: &ControlPlane, ns: &str, name: &str) -> Result<PathBuf> {
        plane.kubeconfig_for_service_account_at(self.url(), ns, name).await
    }
}

impl Deref for Kproxy {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.0
    }
}
