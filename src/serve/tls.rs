//! HTTPS with a certificate and a key from files, which are read again when they change.
//!
//! A mounted Secret changes by the swap of a symbolic link, and any other way of writing may be seen
//! half done: so the content is what counts, and what is wrong is wrong only if it is read twice.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::config::Config;

/// A handshake that is not done by then ends.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// So many handshakes go on at once; one more ends the oldest, which is the likeliest to be idle.
const HANDSHAKES: usize = 1024;
/// Connections that wait to be served.
const WAITING: usize = 64;
/// How often the files are read.
const AGAIN: Duration = Duration::from_secs(2);

/// Where the certificate (the chain, the server's own first) and its key lie, both as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `--decision-tls-cert`.
    pub cert: PathBuf,
    /// `--decision-tls-key`: PKCS#8, PKCS#1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// What the files hold.
struct Content {
    cert: Vec<u8>,
    key: SecretSlice<u8>,
}

/// Tells contents apart: SHA-256 of the certificate and of the key.
type Mark = [[u8; 32]; 2];

impl Files {
    /// The files that the flags name; none where there is to be no TLS.
    ///
    /// # Errors
    /// One is named and the other is not.
    pub fn of(config: &Config) -> Result<Option<Self>, String> {
        match (&config.decision_tls_cert, &config.decision_tls_key) {
            (Some(cert), Some(key)) => Ok(Some(Self { cert: cert.clone(), key: key.clone() })),
            (None, None) => Ok(None),
            (Some(_), None) => Err("--decision-tls-cert needs --decision-tls-key beside it".into()),
            (None, Some(_)) => Err("--decision-tls-key needs --decision-tls-cert beside it".into()),
        }
    }

    /// Reads both and keeps them up to date from now on, as long as the process lives. Wants a runtime.
    ///
    /// # Errors
    /// They cannot be used; the message names the file and never what is in the key.
    pub async fn load(self) -> Result<Pair, String> {
        let content = self.read().await?;
        let pair = Pair::new(self.config(&content)?, &content);
        let watch = Watch { files: self, pair: pair.clone(), served: content.mark(), seen: None, told: None };
        tokio::spawn(watch.run());
        Ok(pair)
    }

    async fn read(&self) -> Result<Content, String> {
        let files = self.clone();
        // A disk may hang, and decisions must not hang with it.
        let read = tokio::task::spawn_blocking(move || {
            let cert = read(&files.cert)?;
            let key = SecretSlice::from(read(&files.key)?);
            Ok(Content { cert, key })
        });
        read.await.map_err(|error| format!("the certificate and its key were not read: {error}"))?
    }

    fn config(&self, content: &Content) -> Result<Arc<ServerConfig>, String> {
        let (cert, key) = (self.cert.display(), self.key.display());
        // What the parsers say may quote a line of the file: these words are ours.
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&content.cert)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("{cert} is not PEM"))?;
        if chain.is_empty() {
            return Err(format!("{cert} holds no certificate"));
        }
        let private = PrivateKeyDer::from_pem_slice(content.key.expose_secret())
            .map_err(|_| format!("{key} holds no private key as PEM (PKCS#8, PKCS#1 or SEC 1, not encrypted)"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_no_client_auth()
            .with_single_cert(chain, private);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => format!("{key} is not the key of the certificate in {cert}"),
            rustls::Error::InvalidCertificate(_) => format!("{cert} holds a certificate that cannot be read"),
            _ => {
                format!("{key} is no key that can be used: RSA of 2048 bits or more, ECDSA on P-256 or P-384, Ed25519")
            }
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

impl Content {
    /// When the server's own certificate, which comes first, runs out.
    fn ends(&self) -> Option<i64> {
        not_after(&CertificateDer::pem_slice_iter(&self.cert).next()?.ok()?)
    }

    fn mark(&self) -> Mark {
        [&self.cert, self.key.expose_secret()].map(|bytes| {
            let mut mark = [0; 32];
            mark.copy_from_slice(::ring::digest::digest(&::ring::digest::SHA256, bytes).as_ref());
            mark
        })
    }
}

/// The certificate and key that handshakes use now.
#[derive(Clone, Debug)]
pub struct Pair(Arc<RwLock<(Arc<ServerConfig>, Option<i64>)>>);

impl Pair {
    fn new(config: Arc<ServerConfig>, content: &Content) -> Self {
        Self(Arc::new(RwLock::new((config, content.ends()))))
    }

    fn current(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// When the certificate runs out, in seconds since 1970.
    #[must_use]
    pub fn ends(&self) -> Option<i64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1
    }

    fn replace(&self, config: Arc<ServerConfig>, content: &Content) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (config, content.ends());
    }
}

/// `notAfter` of a certificate (RFC 5280, section 4.1.2.5), in seconds since 1970.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let ends = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    i64::try_from(ends.as_secs()).ok()
}

/// What follows the files.
struct Watch {
    files: Files,
    pair: Pair,
    /// What is served.
    served: Mark,
    /// What was wrong when the files were last read.
    seen: Option<Fault>,
    /// What the log says is wrong.
    told: Option<Fault>,
}

/// Something wrong with the files; the content too, if it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    mark: Option<Mark>,
    why: String,
}

impl Watch {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let read = self.files.read().await;
            self.consider(read);
        }
    }

    fn consider(&mut self, read: Result<Content, String>) {
        let mark = read.as_ref().ok().map(Content::mark);
        if mark == Some(self.served) {
            self.seen = None;
            if self.told.take().is_some() {
                tracing::info!("the certificate of the decision endpoints and its key are again those in use");
            }
            return;
        }
        let read = read.and_then(|content| Ok((self.files.config(&content)?, content)));
        match (mark, read) {
            (Some(mark), Ok((config, content))) => {
                self.pair.replace(config, &content);
                (self.served, self.seen, self.told) = (mark, None, None);
                tracing::info!("the decision endpoints have a new certificate");
            }
            (None, Ok(_)) => {}
            (mark, Err(why)) => {
                let fault = Some(Fault { mark, why });
                if self.seen != fault {
                    // It may be half written, or half swapped.
                    self.seen = fault;
                } else if self.told != fault {
                    let why = self.seen.as_ref().map_or("", |fault| &fault.why);
                    tracing::error!(
                        why,
                        "the decision endpoints keep their old certificate: the new one cannot be used"
                    );
                    self.told = fault;
                }
            }
        }
    }
}

/// Connections whose handshake is done.
pub struct Listener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener {
    /// Takes connections from now on. Wants a runtime.
    ///
    /// # Errors
    /// The listener does not know its address.
    pub fn new(plain: TcpListener, pair: Pair) -> std::io::Result<Self> {
        let address = plain.local_addr()?;
        let (send, ready) = mpsc::channel(WAITING);
        tokio::spawn(accept(plain, pair, send));
        Ok(Self { ready, address })
    }
}

/// Each handshake is a task of its own: whoever is slow keeps nobody waiting.
async fn accept(mut plain: TcpListener, pair: Pair, send: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let mut going: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        // Errors are seen to there.
        let (stream, peer) = axum::serve::Listener::accept(&mut plain).await;
        if going.len() >= HANDSHAKES {
            going.retain(|task| !task.is_finished());
        }
        if going.len() >= HANDSHAKES
            && let Some(oldest) = going.pop_front()
        {
            oldest.abort();
        }
        // The last packet of an answer must not wait for the receipt of the one before it.
        _ = stream.set_nodelay(true);
        let handshake = TlsAcceptor::from(pair.current()).accept(stream);
        let send = send.clone();
        let task = tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, handshake).await {
                Ok(Ok(stream)) => _ = send.send((stream, peer)).await,
                // Anybody can cause it, at any rate: not a line each.
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
        going.push_back(task.abort_handle());
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task that sends has panicked, which it does not.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clientgrant_testbed::{Authority, RunDir};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    /// Two files in a directory of their own, and a watch of them.
    fn files(cert: &str, key: &str) -> (RunDir, Files) {
        let dir = RunDir::new("tls").unwrap();
        let files = Files { cert: dir.write("tls.crt", cert).unwrap(), key: dir.write("tls.key", key).unwrap() };
        (dir, files)
    }

    fn now(files: &Files) -> Result<Content, String> {
        Ok(Content { cert: read(&files.cert)?, key: SecretSlice::from(read(&files.key)?) })
    }

    fn parsed(cert: &str, key: &str) -> Result<Arc<ServerConfig>, String> {
        let (_dir, files) = files(cert, key);
        files.config(&now(&files)?)
    }

    #[test]
    fn what_cannot_be_served_is_said_without_a_word_of_the_key() {
        let authority = Authority::new().unwrap();
        let (one, other) = (authority.server().unwrap(), authority.server().unwrap());
        parsed(&one.cert, &one.key).unwrap();
        parsed(&format!("{}{}", one.cert, authority.pem()), &one.key).unwrap();

        let secret = "CANARYCANARYCANARYCANARY";
        let on_one_line = format!("-----BEGIN {secret}");
        let no_end = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n");
        let no_base64 = format!("-----BEGIN PRIVATE KEY-----\n{secret}?\n-----END PRIVATE KEY-----\n");
        let no_key = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
        let encrypted =
            format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{secret}\n-----END ENCRYPTED PRIVATE KEY-----\n");
        let no_der = format!("-----BEGIN CERTIFICATE-----\n{secret}\n-----END CERTIFICATE-----\n");
        for (cert, key, said) in [
            ("", &*one.key, "tls.crt holds no certificate"),
            ("hello", &*one.key, "tls.crt holds no certificate"),
            (&*no_base64.replace("PRIVATE KEY", "CERTIFICATE"), &*one.key, "tls.crt is not PEM"),
            (&*no_der, &*one.key, "tls.crt holds a certificate that cannot be read"),
            (&*one.key, &*one.cert, "tls.crt holds no certificate"),
            (&*one.cert, "", "tls.key holds no private key"),
            (&*one.cert, &*on_one_line, "tls.key holds no private key"),
            (&*one.cert, &*no_end, "tls.key holds no private key"),
            (&*one.cert, &*no_base64, "tls.key holds no private key"),
            (&*one.cert, &*encrypted, "tls.key holds no private key"),
            (&*one.cert, &*no_key, "tls.key is no key that can be used"),
            (&*one.cert, &*other.key, "tls.key is not the key of the certificate in"),
        ] {
            let message = parsed(cert, key).unwrap_err();
            assert!(message.contains(said), "{said}: {message}");
            assert!(!message.contains("CANARY") && message.lines().count() == 1, "{message}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_it() {
        let pair = Authority::new().unwrap().server().unwrap();
        let (_dir, files) = files(&pair.cert, &pair.key);
        let ends = "4096-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second();
        assert_eq!(now(&files).unwrap().ends(), Some(ends), "rcgen's default");

        let whole = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).next().unwrap().unwrap();
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "cut at {length}");
        }
    }

    /// A watch of `files` that has not read them again yet.
    fn watch(files: &Files) -> Watch {
        let content = now(files).unwrap();
        let pair = Pair::new(files.config(&content).unwrap(), &content);
        Watch { files: files.clone(), pair, served: content.mark(), seen: None, told: None }
    }

    #[test]
    fn a_fault_is_told_when_it_is_seen_twice_and_then_never_again() {
        let authority = Authority::new().unwrap();
        let (one, other) = (authority.server().unwrap(), authority.server().unwrap());
        let (_dir, files) = files(&one.cert, &one.key);
        let mut watch = watch(&files);
        let mut read_again = |expected: (bool, bool)| {
            let before = watch.pair.current();
            watch.consider(now(&watch.files));
            let said = (!Arc::ptr_eq(&before, &watch.pair.current()), watch.told.is_some());
            assert_eq!(said, expected, "replaced, told: {:?} {:?}", watch.seen, watch.told);
        };
        read_again((false, false));
        // Half of a change, then all of it.
        fs::write(&files.cert, &other.cert).unwrap();
        read_again((false, false));
        fs::write(&files.key, &other.key).unwrap();
        read_again((true, false));
        read_again((false, false));
        // A key of another certificate, for good; then none at all.
        fs::write(&files.key, &one.key).unwrap();
        read_again((false, false));
        read_again((false, true));
        read_again((false, true));
        fs::remove_file(&files.key).unwrap();
        read_again((false, true));
        read_again((false, true));
        // What is in use comes back, and later something new.
        fs::write(&files.key, &other.key).unwrap();
        read_again((false, false));
        fs::write(&files.key, "nothing").unwrap();
        read_again((false, false));
        read_again((false, true));
        fs::write(&files.key, &one.key).unwrap();
        fs::write(&files.cert, &one.cert).unwrap();
        read_again((true, false));
    }
}
