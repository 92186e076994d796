//! The real Helm, and the chart of this repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

use crate::{ControlPlane, KubectlOutput, RunDir, Tools};

/// Where the chart lies.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/clientgrant")
}

/// Helm with a home of its own, so that nothing of the user's is read or written.
#[derive(Debug)]
pub struct Helm {
    binary: PathBuf,
    home: RunDir,
}

impl Helm {
    /// Helm 4.
    pub fn new(tools: &Tools) -> Result<Self> {
        Ok(Self { binary: tools.helm.clone(), home: RunDir::new("helm")? })
    }

    /// Helm 3.
    pub fn three(tools: &Tools) -> Result<Self> {
        Ok(Self { binary: tools.helm3.clone(), home: RunDir::new("helm3")? })
    }

    /// A call of it, for more arguments. It knows no cluster.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.path().join(name));
        }
        command.env("KUBECONFIG", self.home.path().join("none")).stdin(std::process::Stdio::null());
        command
    }

    /// Runs it without a cluster and reports how it went.
    pub fn run(&self, args: &[&str]) -> Result<KubectlOutput> {
        Ok(report(self.command().args(args).output().context("cannot start helm")?))
    }

    /// Runs it as the administrator of a cluster and reports how it went.
    pub async fn run_on(&self, plane: &ControlPlane, args: &[&str]) -> Result<KubectlOutput> {
        let mut command = tokio::process::Command::from(self.command());
        command.env("KUBECONFIG", plane.kubeconfig()).args(args).kill_on_drop(true);
        Ok(report(command.output().await.context("cannot start helm")?))
    }

    /// What the chart is in YAML, as release `clientgrant` in `clientgrant-system`; an error that carries
    /// Helm's words if it refuses.
    pub fn template(&self, args: &[&str]) -> Result<String> {
        let chart = chart();
        let mut command = self.command();
        command.args(["template", "clientgrant"]).arg(&chart).args(["--namespace", "clientgrant-system"]).args(args);
        let output = report(command.output().context("cannot start helm")?);
        if !output.success {
            bail!("`helm template` failed: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

fn report(output: Output) -> KubectlOutput {
    KubectlOutput {
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
