//! The `clientgrant` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    clientgrant::cli::main()
}
