//! `clientgrant suggest`: proposes ClientIdentity objects, and applies nothing.

use std::process::ExitCode;

use super::scan;
use super::source::{Source, warn};
use crate::clock;
use crate::sharing::suggest::suggest;

/// Prints the proposals. Exit code 2: not everything was read.
///
/// # Errors
///
/// As `scan`.
pub fn main(source: &Source) -> Result<ExitCode, String> {
    let now = clock::now();
    let input = source.read()?.finish(now);
    let complete = warn(&input.unread);
    scan::print(&suggest(input, now))?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
