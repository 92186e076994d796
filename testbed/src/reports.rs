//! The definitions of policy reports, out of the Go modules that carry them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const OPEN: &str = "github.com/openreports/reports-api";
const WG: &str = "sigs.k8s.io/wg-policy-prototypes";

/// Report and ClusterReport of `openreports.io`, as YAML.
pub fn open_reports() -> Result<String> {
    let files = ["openreports.io_reports.yaml", "openreports.io_clusterreports.yaml"];
    definitions(OPEN, "config/crd", files)
}

/// PolicyReport and ClusterPolicyReport of `wgpolicyk8s.io`, as YAML.
pub fn policy_reports() -> Result<String> {
    let files = ["wgpolicyk8s.io_policyreports.yaml", "wgpolicyk8s.io_clusterpolicyreports.yaml"];
    definitions(WG, "policy-report/crd/v1alpha2", files)
}

/// The modules come from where Go modules come from, and stay in Go's cache.
fn definitions(module: &str, folder: &str, files: [&str; 2]) -> Result<String> {
    go(&["mod", "download", module])?;
    let place = go(&["list", "-m", "-f", "{{.Dir}}", module])?;
    let folder = Path::new(place.trim()).join(folder);
    let mut text = String::new();
    for file in files {
        let file = folder.join(file);
        text += "---\n";
        text += &std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}

fn go(args: &[&str]) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/reports");
    let output = Command::new("go").current_dir(folder).env("GOWORK", "off").args(args).output();
    let output = output.context("cannot run `go`: install Go 1.26 or newer")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`go {}` failed (Go modules are downloaded): {}", args.join(" "), said.trim_end());
    }
    String::from_utf8(output.stdout).context("what `go` prints is not text")
}
