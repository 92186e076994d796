//! Loopback ports and waiting for HTTP answers.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::Process;
use crate::tools::cache_dir;

/// Below the range from which Linux takes the ports of outgoing connections: a server that stops
/// and starts again must find its port free.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// A loopback TCP port that nobody listens on, reserved until this process ends.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let dir = cache_dir()?.join("ports");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let start = std::process::id().wrapping_mul(37);
    for _ in PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + start.wrapping_add(step) % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).context("port out of range")?;
        // The lock keeps other processes of the test bed away; it ends with this process.
        let path = dir.join(port.to_string());
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().unwrap_or_else(|e| e.into_inner()).push(file);
            return Ok(port);
        }
    }
    bail!("no free loopback port in {PORTS:?}: are servers of earlier runs still there?")
}

/// A builder for HTTP clients that use no proxy and follow no redirect.
pub fn http() -> reqwest::ClientBuilder {
    // A second call finds the provider installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(120))
}

/// Waits until `url` answers 200; fails early if `process` ends before that.
pub async fn wait_http(client: &reqwest::Client, url: &str, process: &Process, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    loop {
        let probe = client.get(url).timeout(Duration::from_secs(2)).send().await;
        let seen = match probe {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                format!("{status} {}", answer.text().await.unwrap_or_default())
            }
            Err(error) => format!("{:#}", anyhow::Error::new(error)),
        };
        if let Some(status) = process.exit_status() {
            bail!("{} ended ({status}) before it was ready; {}", process.name(), process.log_tail(30));
        }
        if Instant::now() >= end {
            bail!("{} is not ready after {timeout:?}: {url} says {seen}; {}", process.name(), process.log_tail(30));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
