//! The real kubectl against a [`ControlPlane`].

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;

use crate::ControlPlane;

/// What a run of kubectl left.
#[derive(Clone, Debug)]
pub struct KubectlOutput {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its exit code, if it was not ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl ControlPlane {
    /// Runs kubectl as administrator; an error unless it succeeds.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.kubectl_with_input(args, "").await?;
        if !output.success {
            bail!("`kubectl {}` failed: {}", args.join(" "), output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// Runs kubectl as administrator with `stdin` as its input, and reports how it went.
    ///
    /// A later `--kubeconfig=…` among `args` makes it another user.
    pub async fn kubectl_with_input(&self, args: &[&str], stdin: &str) -> Result<KubectlOutput> {
        let mut child = tokio::process::Command::new(self.kubectl_path())
            .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
            .args(args)
            // Its discovery cache would otherwise mix control planes that reuse a port.
            .env("KUBECACHEDIR", self.dir().path().join("kubectl-cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl")?;
        let mut input = child.stdin.take().context("kubectl has no standard input")?;
        let stdin = stdin.to_owned();
        // Written beside the reading, since kubectl may answer before it has read everything.
        let write = tokio::spawn(async move {
            let _ = input.write_all(stdin.as_bytes()).await;
        });
        let output = child.wait_with_output().await.context("cannot wait for kubectl")?;
        let _ = write.await;
        Ok(KubectlOutput {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Applies manifests (`kubectl apply -f -`); an error that carries kubectl's words if refused.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<String> {
        let output = self.kubectl_with_input(&["apply", "-f", "-"], yaml).await?;
        if !output.success {
            bail!("`kubectl apply` failed: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}
