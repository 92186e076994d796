//! The operator under test, as a process.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::net::{free_port, http, wait_http};
use crate::{Process, RunDir, canary};

/// What to run and how.
#[derive(Clone, Debug, Default)]
pub struct OperatorOptions {
    /// The program.
    pub binary: PathBuf,
    /// Arguments after `run --health-address … --decision-address …`.
    pub args: Vec<String>,
    /// Environment, beyond what this process has.
    pub env: Vec<(String, String)>,
    /// The kubeconfig, handed on as `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    /// The port of the decision endpoint, where something must know it beforehand.
    pub decision_port: Option<u16>,
}

/// A running operator; it is killed when this is dropped.
#[derive(Debug)]
pub struct Operator {
    process: Arc<Process>,
    options: OperatorOptions,
    health: u16,
    decision: u16,
    client: reqwest::Client,
    /// Where in the log the next search starts.
    mark: AtomicU64,
    dir: RunDir,
}

impl Operator {
    /// Starts it and does not wait; see [`Operator::ready`].
    pub fn start(options: OperatorOptions) -> Result<Self> {
        let dir = RunDir::new("operator")?;
        let health = free_port()?;
        let decision = match options.decision_port {
            Some(port) => port,
            None => free_port()?,
        };
        let process = Arc::new(spawn(&dir, &options, health, decision)?);
        let client = http().build().context("cannot build an HTTP client")?;
        let mark = AtomicU64::new(0);
        Ok(Self { process, options, health, decision, client, mark, dir })
    }

    /// Base of `/livez`, `/readyz` and `/metrics`.
    pub fn health_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.health)
    }

    /// Base of the decision endpoints.
    pub fn decision_url(&self) -> String {
        let tls = self.options.args.iter().any(|arg| arg.starts_with("--decision-tls-cert"));
        format!("{}://127.0.0.1:{}", if tls { "https" } else { "http" }, self.decision)
    }

    /// The process, for a callback that kills it at an exact moment. After a restart it is
    /// another one.
    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process)
    }

    /// What it was started with, or will be next.
    pub fn options(&self) -> &OperatorOptions {
        &self.options
    }

    /// Arguments and environment of the next [`Operator::restart`].
    pub fn options_mut(&mut self) -> &mut OperatorOptions {
        &mut self.options
    }

    /// Where its log lies.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Freezes it (SIGSTOP), as a machine that hangs does: its connections stay open.
    pub fn pause(&self) -> Result<()> {
        self.process.stop()
    }

    /// Ends [`Operator::pause`].
    pub fn resume(&self) -> Result<()> {
        self.process.cont()
    }

    /// Kills it if it runs and starts it on the same ports; the log goes on in the same file.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.mark_log();
        let process = spawn(&self.dir, &self.options, self.health, self.decision)?;
        self.process = Arc::new(process);
        Ok(())
    }

    /// Waits until `/livez` answers 200: it listens, whether it has read everything or not.
    pub async fn listens(&self, timeout: Duration) -> Result<()> {
        let url = format!("{}/livez", self.health_url());
        wait_http(&self.client, &url, &self.process, timeout).await
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self, timeout: Duration) -> Result<()> {
        let url = format!("{}/readyz", self.health_url());
        wait_http(&self.client, &url, &self.process, timeout).await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.health_url());
        let answer = self.client.get(&url).send().await.and_then(|a| a.error_for_status());
        let answer = answer.with_context(|| format!("{url} does not answer"))?;
        answer.text().await.context("the metrics are not complete")
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        self.process.rss_kib()
    }

    /// The most that it has been since the last start.
    pub fn peak_rss_kib(&self) -> Result<u64> {
        self.process.peak_rss_kib()
    }

    /// The whole log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.process.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes [`Operator::wait_log`] look only at what is written from now on.
    pub fn mark_log(&self) {
        let length = fs::metadata(self.process.log()).map_or(0, |m| m.len());
        self.mark.store(length, Ordering::Relaxed);
    }

    /// Waits for a complete line that contains `text`, written after the last mark or start.
    pub async fn wait_log(&self, text: &str, timeout: Duration) -> Result<String> {
        let end = Instant::now() + timeout;
        let from = usize::try_from(self.mark.load(Ordering::Relaxed))?;
        loop {
            let ended = self.process.exit_status();
            let bytes = fs::read(self.process.log()).unwrap_or_default();
            let fresh = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default());
            let line = fresh.split_inclusive('\n').find(|l| l.ends_with('\n') && l.contains(text));
            if let Some(line) = line {
                return Ok(line.trim_end().to_owned());
            }
            let tail = || self.process.log_tail(30);
            if let Some(status) = ended {
                bail!("the operator ended ({status}) without a line {text:?}; {}", tail());
            }
            if Instant::now() >= end {
                bail!("no line {text:?} in the operator's log after {timeout:?}; {}", tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // A callback may still hold the process.
        self.kill();
        canary::untold("the operator's log", &self.log());
    }
}

fn spawn(dir: &RunDir, options: &OperatorOptions, health: u16, decision: u16) -> Result<Process> {
    let mut command = Command::new(&options.binary);
    command
        .arg("run")
        .arg(format!("--health-address=127.0.0.1:{health}"))
        .arg(format!("--decision-address=127.0.0.1:{decision}"))
        .args(&options.args)
        .envs(options.env.iter().map(|(name, value)| (name, value)));
    if let Some(path) = &options.kubeconfig {
        command.env("KUBECONFIG", path);
    }
    Process::spawn(dir, "operator", command)
}
