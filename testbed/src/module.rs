//! Go modules of which not a program is needed, but what they carry.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Where a module is that `tools/NAME/go.mod` requires. It comes from where Go modules come from, and stays in Go's
/// cache.
pub(crate) fn place(name: &str, module: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    go(&folder, &["mod", "download", module])?;
    Ok(go(&folder, &["list", "-m", "-f", "{{.Dir}}", module])?.trim().into())
}

/// What `go` prints in a folder.
fn go(folder: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("go").current_dir(folder).env("GOWORK", "off").args(args).output();
    let output = output.context("cannot run `go`: install Go 1.26 or newer")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`go {}` failed (Go modules are downloaded): {}", args.join(" "), said.trim_end());
    }
    String::from_utf8(output.stdout).context("what `go` prints is not text")
}
