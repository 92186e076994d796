//! The definitions of policy reports, out of the Go modules that carry them.

use anyhow::{Context as _, Result};

use crate::module;

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

fn definitions(module: &str, folder: &str, files: [&str; 2]) -> Result<String> {
    let folder = module::place("reports", module)?.join(folder);
    let mut text = String::new();
    for file in files {
        let file = folder.join(file);
        text += "---\n";
        text += &std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}
