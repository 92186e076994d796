//! The JSON schema of SARIF 2.1.0, out of a Go module that carries it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const MODULE: &str = "github.com/owenrumney/go-sarif/v3";

/// The schema, as the standard has it. The module comes from where Go modules come from, and stays in Go's cache.
pub fn schema() -> Result<String> {
    go(&["mod", "download", MODULE])?;
    let module = go(&["list", "-m", "-f", "{{.Dir}}", MODULE])?;
    let file = Path::new(module.trim()).join("pkg/report/v210/sarif/schema.go");
    let source = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // It is one literal of Go.
    let text = source.split('`').nth(1).with_context(|| format!("{} has no literal", file.display()))?;
    Ok(text.to_owned())
}

fn go(args: &[&str]) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/sarif");
    let output = Command::new("go").current_dir(folder).env("GOWORK", "off").args(args).output();
    let output = output.context("cannot run `go`: install Go 1.26 or newer")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`go {}` failed (Go modules are downloaded): {}", args.join(" "), said.trim_end());
    }
    String::from_utf8(output.stdout).context("what `go` prints is not text")
}
