//! The JSON schema of SARIF 2.1.0, out of a Go module that carries it.

use anyhow::{Context as _, Result};

use crate::module;

const MODULE: &str = "github.com/owenrumney/go-sarif/v3";

/// The schema, as the standard has it.
pub fn schema() -> Result<String> {
    let file = module::place("sarif", MODULE)?.join("pkg/report/v210/sarif/schema.go");
    let source = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // It is one literal of Go.
    let text = source.split('`').nth(1).with_context(|| format!("{} has no literal", file.display()))?;
    Ok(text.to_owned())
}
