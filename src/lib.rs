//! ClientGrant operator.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod grant;
pub mod idp;
pub mod serve;
pub mod world;

/// Installs the one TLS provider of the process. Calling it again does nothing.
pub fn install_tls() {
    // An error only says that one is installed already.
    _ = rustls::crypto::ring::default_provider().install_default();
}
