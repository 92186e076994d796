//! `clientgrant explain`: the catalogue of rules about shared credentials.

use crate::sharing::catalogue;

/// What is to be explained.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A rule, such as SC-202.
    #[arg(required_unless_present = "all")]
    pub rule: Option<String>,
    /// Every rule, as the document docs/sharing.md.
    #[arg(long, conflicts_with = "rule")]
    pub all: bool,
}

/// The text to print.
///
/// # Errors
///
/// There is no such rule; the message names the one whose id is nearest.
pub fn text(args: &Args) -> Result<String, String> {
    let Some(id) = args.rule.as_ref().filter(|_| !args.all) else { return Ok(catalogue::document()) };
    Ok(catalogue::named(id)?.page())
}
