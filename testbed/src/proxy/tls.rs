//! TLS towards the senders.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::certs::Pair;

/// Makes the proxy speak TLS on both sides.
pub(crate) struct Tls {
    /// What it shows to senders.
    pub(crate) server: Pair,
    /// Whom it trusts upstream, in PEM.
    pub(crate) authority: String,
}

impl Tls {
    /// Accepts HTTP/1.1 over TLS, and no certificate of a client: it could not be passed on.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let chain = CertificateDer::from_pem_slice(self.server.cert.as_bytes()).context("no certificate")?;
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes()).context("no key")?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .context("no version of TLS")?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .context("the proxy's certificate is not usable")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
