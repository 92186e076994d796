//! Decisions over HTTPS: Hydra and a consent app ask that way, and certificates change under way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{CALLBACK, condition};
use clientgrant_testbed::canary::{consent_key, hook_key};
use clientgrant_testbed::net::http;
use clientgrant_testbed::{AuthRequest, Authority, ConsentApp, Pair, RunDir, Stall, Storage, TokenHook, free_port};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Real, active, bed_with, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const HOOK: &str = "hydra/token-hook/corp";

/// A Secret as it is mounted into a pod: the files are links through one link, which is swapped.
struct Mount {
    dir: RunDir,
    swaps: u32,
}

impl Mount {
    fn new(pair: &Pair) -> Self {
        let mut mount = Self { dir: RunDir::new("mount").unwrap(), swaps: 0 };
        mount.swap(&pair.cert, &pair.key);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), mount.path(name)).unwrap();
        }
        mount
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn swap(&mut self, cert: &str, key: &str) {
        self.swaps += 1;
        let content = format!("..{}", self.swaps);
        fs::create_dir(self.path(&content)).unwrap();
        fs::write(self.path(&content).join("tls.crt"), cert).unwrap();
        fs::write(self.path(&content).join("tls.key"), key).unwrap();
        symlink(content, self.path("..data_new")).unwrap();
        fs::rename(self.path("..data_new"), self.path("..data")).unwrap();
    }

    fn flags(&self) -> [String; 2] {
        [("cert", "tls.crt"), ("key", "tls.key")]
            .map(|(flag, name)| format!("--decision-tls-{flag}={}", self.path(name).display()))
    }
}

fn client(authority: &Authority) -> reqwest::ClientBuilder {
    http().tls_certs_only([reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()])
}

/// The certificate that a new connection is shown.
async fn shown(url: &str, authority: &Authority) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let address = url.strip_prefix("https://").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn shows(url: &str, authority: &Authority, pair: &Pair) {
    let wanted = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while shown(url, authority).await != wanted {
        assert!(Instant::now() < end, "the old certificate is still shown");
        pause(50).await;
    }
}

/// A bed whose decisions come over HTTPS, a client that acts for itself, and what Hydra asks about it.
async fn bed_over_tls(mount: &Mount, authority: &Authority) -> (Real, String) {
    let mut bed = bed_with(|options| {
        options.storage = Storage::Sqlite;
        options.provider["driftCheckInterval"] = json!("1s");
    })
    .await;
    let batch = json!({"grant_types": ["client_credentials"], "scope": "ledger:read"});
    let batch = bed.client("batch", batch).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "batch", own).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    bed.hooks.clear();
    batch.client_credentials("ledger:read", "").await.unwrap().access_token().expect("a token");
    let question = bed.hook_calls().remove(0).body;

    bed.operator.options_mut().args.extend(mount.flags());
    bed.operator.restart().unwrap();
    let trust = mount.dir.write("authority.pem", authority.pem()).unwrap();
    let url = format!("{}/{HOOK}", bed.operator.decision_url());
    assert!(url.starts_with("https://"));
    let options = bed.hydra.options_mut();
    options.token_hook = Some(TokenHook { url, api_key: hook_key().into() });
    options.trust = Some(trust);
    bed.hydra.restart().await.unwrap();
    bed.ready().await.unwrap();
    (bed, question)
}

async fn ask(client: &reqwest::Client, bed: &Real, question: &str) -> Result<u16, reqwest::Error> {
    let url = format!("{}/{HOOK}", bed.operator.decision_url());
    let answer = client.post(url).header("x-api-key", hook_key()).body(question.to_owned()).send().await?;
    Ok(answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn hydra_and_a_consent_app_ask_over_https() {
    let authority = Authority::new().unwrap();
    let mount = Mount::new(&authority.server().unwrap());
    let (bed, question) = bed_over_tls(&mount, &authority).await;
    // The probe came through: it is the operator's proof that Hydra asks it.
    let called = |o: &serde_json::Value| condition(o, "TokenHook")["reason"] == "Called";
    bed.wait("clusteridentityproviders/corp", "called", Duration::from_secs(20), called).await.unwrap();
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let app = ConsentApp::honest_over_tls(&bed.consent_url(), consent_key(), &authority.pem());
    let request = AuthRequest::new(users.id(), CALLBACK, SCOPE, "ann");
    let outcome = bed.browser().unwrap().authorize(&request, &app).await.unwrap();
    let token = users.exchange_code(outcome.code().expect("a code"), CALLBACK).await.unwrap();
    assert!(active(&bed, token.access_token().expect("a token")).await);

    // Both versions, and nothing to who trusts somebody else or speaks plainly.
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let only = client(&authority).tls_version_min(version).tls_version_max(version).build().unwrap();
        assert_eq!(ask(&only, &bed, &question).await.unwrap(), 204, "{version:?}");
    }
    let stranger = client(&Authority::new().unwrap()).build().unwrap();
    assert!(ask(&stranger, &bed, &question).await.unwrap_err().is_connect());
    let plain = bed.operator.decision_url().replace("https", "http");
    assert!(http().build().unwrap().post(format!("{plain}/{HOOK}")).body(question).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_a_broken_one_keeps_the_old() {
    let authority = Authority::new().unwrap();
    let mut pair = authority.server().unwrap();
    let mut mount = Mount::new(&pair);
    let (bed, question) = bed_over_tls(&mount, &authority).await;
    let url = bed.operator.decision_url();
    shows(&url, &authority, &pair).await;

    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = async |kept: bool| {
        let connections = if kept { 1 } else { 0 };
        let client = client(&authority).pool_max_idle_per_host(connections).build().unwrap();
        let mut failed = Vec::new();
        while !over.load(Ordering::Relaxed) {
            match ask(&client, &bed, &question).await {
                Ok(204) => {}
                other => failed.push(format!("{other:?}")),
            }
            asked.fetch_add(1, Ordering::Relaxed);
        }
        failed
    };
    let batch = bed.oauth("batch").unwrap();
    let tokens = async {
        let mut failed = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let token = batch.client_credentials("ledger:read", "").await.unwrap();
            if token.access_token().is_none() {
                failed.push(token.json.to_string());
            }
            pause(20).await;
        }
        failed
    };
    const CANARY: &str = "CANARYCANARYCANARYCANARY";
    let changes = async {
        for _ in 0..5 {
            pair = authority.server().unwrap();
            mount.swap(&pair.cert, &pair.key);
            shows(&url, &authority, &pair).await;
        }
        let garbage = format!("-----BEGIN PRIVATE KEY-----{CANARY}");
        let other = authority.server().unwrap();
        for (cert, key) in [(&other.cert, &garbage), (&other.cert, &pair.key)] {
            bed.operator.mark_log();
            mount.swap(cert, key);
            bed.operator.wait_log("keep their old certificate", Duration::from_secs(10)).await.unwrap();
            shows(&url, &authority, &pair).await;
        }
        // It is said once, however often the files are read.
        pause(5_000).await;
        pair = authority.server().unwrap();
        mount.swap(&pair.cert, &pair.key);
        shows(&url, &authority, &pair).await;
        over.store(true, Ordering::Relaxed);
    };
    let begun = Instant::now();
    let (_, anew, anew_too, kept, tokens) = tokio::join!(changes, load(false), load(false), load(true), tokens);
    let failed = [anew, anew_too, kept, tokens].concat();
    println!("{} decisions in {:?}, 6 changes of certificate", asked.load(Ordering::Relaxed), begun.elapsed());
    assert!(failed.is_empty(), "{} failed, the first: {:?}", failed.len(), failed.first());
    assert!(asked.load(Ordering::Relaxed) > 500);
    let log = bed.operator.log();
    assert_eq!(log.matches("keep their old certificate").count(), 2, "one line for each of two faults");
    assert!(log.contains("is not the key of the certificate in") && log.contains("holds no private key"));
    assert!(!log.contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_keeps_nobody_waiting() {
    let authority = Authority::new().unwrap();
    let mount = Mount::new(&authority.server().unwrap());
    let (bed, question) = bed_over_tls(&mount, &authority).await;
    let url = bed.operator.decision_url();
    let client = client(&authority).pool_max_idle_per_host(0).build().unwrap();
    let (begun, stall) = (Instant::now(), Stall::watch());
    let mut silent = Vec::new();
    // More than may be in a handshake at once.
    for _ in 0..1_500 {
        silent.push(TcpStream::connect(url.strip_prefix("https://").unwrap()).await.unwrap());
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(ask(&client, &bed, &question).await.unwrap(), 204);
        slowest = slowest.max(begun.elapsed());
    }
    println!("1,500 silent connections: the slowest of 20 decisions took {slowest:?}");
    assert!(slowest < Duration::from_secs(1) + stall.lost(), "{slowest:?}");
    // They are hung up on.
    for mut stream in silent {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// A process on an address of every interface, ended when this is dropped.
struct Elsewhere(std::process::Child);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_every_address_is_served_and_without_one_loopback_only() {
    let authority = Authority::new().unwrap();
    let mount = Mount::new(&authority.server().unwrap());
    let bed = bed_with(|_| {}).await;
    let https = client(&authority).build().unwrap();
    for tls in [true, false] {
        let (decision, health) = (free_port().unwrap(), free_port().unwrap());
        let log = mount.path(if tls { "with.log" } else { "without.log" });
        let mut command = Command::new(env!("CARGO_BIN_EXE_clientgrant"));
        command
            .args(["run", "--identity=elsewhere"])
            .args([format!("--decision-address=0.0.0.0:{decision}"), format!("--health-address=127.0.0.1:{health}")])
            .env("KUBECONFIG", bed.operator.options().kubeconfig.as_ref().unwrap())
            .stderr(fs::File::create(&log).unwrap());
        if tls {
            command
                .env("CLIENTGRANT_DECISION_TLS_CERT", mount.path("tls.crt"))
                .env("CLIENTGRANT_DECISION_TLS_KEY", mount.path("tls.key"));
        }
        let _process = Elsewhere(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        let ready = format!("http://127.0.0.1:{health}/readyz");
        while !https.get(&ready).send().await.is_ok_and(|a| a.status().is_success()) {
            assert!(Instant::now() < end, "{}", fs::read_to_string(&log).unwrap());
            pause(50).await;
        }
        let text = fs::read_to_string(&log).unwrap();
        let answer = https.post(format!("https://127.0.0.1:{decision}/{HOOK}")).body("").send().await;
        if tls {
            assert_eq!(answer.unwrap().status().as_u16(), 403, "no key");
            assert!(text.contains("over HTTPS address=0.0.0.0:"), "{text}");
        } else {
            assert!(answer.is_err());
            assert!(text.contains("are off: plain HTTP is served on loopback only"), "{text}");
            assert!(TcpStream::connect(("127.0.0.1", decision)).await.is_err());
        }
    }
}

#[test]
fn a_pair_that_cannot_be_served_is_one_line_and_exit_code_2() {
    let authority = Authority::new().unwrap();
    let (one, other) = (authority.server().unwrap(), authority.server().unwrap());
    let dir = RunDir::new("flags").unwrap();
    let cert = dir.write("tls.crt", &one.cert).unwrap();
    let key = dir.write("tls.key", &one.key).unwrap();
    let wrong = dir.write("other.key", &other.key).unwrap();
    let broken = dir.write("broken.key", "-----BEGIN CANARYCANARY").unwrap();
    let missing = dir.path().join("missing");
    for (cert, key, said) in [
        (Some(&cert), None, "--decision-tls-cert needs --decision-tls-key"),
        (None, Some(&key), "--decision-tls-key needs --decision-tls-cert"),
        (Some(&missing), Some(&key), "missing cannot be read: "),
        (Some(&cert), Some(&missing), "missing cannot be read: "),
        (Some(&key), Some(&key), "tls.key holds no certificate"),
        (Some(&cert), Some(&broken), "broken.key holds no private key"),
        (Some(&cert), Some(&wrong), "other.key is not the key of the certificate in"),
        // Nothing is wrong with these, and the next thing is missed.
        (Some(&cert), Some(&key), "no Kubernetes configuration"),
    ] {
        for as_flags in [true, false] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_clientgrant"));
            command.arg("run").env("KUBECONFIG", &missing).env_remove("KUBERNETES_SERVICE_HOST");
            for (name, path) in [("cert", cert), ("key", key)] {
                let Some(path) = path else { continue };
                if as_flags {
                    command.arg(format!("--decision-tls-{name}")).arg(path);
                } else {
                    command.env(format!("CLIENTGRANT_DECISION_TLS_{}", name.to_uppercase()), path);
                }
            }
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.starts_with("clientgrant: ") && text.contains(said), "{said}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains("CANARY"), "{text}");
        }
    }
}
