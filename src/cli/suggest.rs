//! `clientgrant suggest`: proposes ClientIdentity objects, and applies nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use super::scan;
use crate::clock;
use crate::sharing::suggest::suggest;

/// What is looked at.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A file or directory with manifests, or - for standard input, as scan reads them. Default: the cluster that
    /// KUBECONFIG names.
    #[arg(short = 'f', long = "filename", num_args = 1.., value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Look at this namespace of the cluster only.
    #[arg(short, long, conflicts_with = "paths")]
    pub namespace: Option<String>,
}

/// Prints the proposals. Exit code 2: not everything was read.
///
/// # Errors
///
/// As `scan`.
pub fn main(args: &Args) -> Result<ExitCode, String> {
    let now = clock::now();
    let input = scan::read(&args.paths, args.namespace.clone())?.finish(now);
    let complete = scan::warn(&input.unread);
    scan::print(&suggest(input, now))?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
