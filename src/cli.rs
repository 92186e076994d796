//! The command line: one file per subcommand.

pub mod crds;
pub mod doctor;
pub mod explain;
pub mod release;
pub mod run;
pub mod scan;
pub mod source;
pub mod suggest;
pub mod sweep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Per-client consent as Kubernetes resources.
#[derive(Parser, Debug)]
#[command(name = "clientgrant", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the operator.
    Run(Config),
    /// End what has passed its end date, whether the operator runs or not.
    Sweep(sweep::Args),
    /// Give a client back: the operator does not manage it any more.
    Release(release::Args),
    /// Check an installation: its definitions are served, and the operator is ready.
    Doctor(doctor::Args),
    /// Find shared credentials in a cluster, or in manifests without one. Exit code 0: none, 1: some, 2: it could not be told.
    Scan(scan::Args),
    /// Propose ClientIdentity objects from what manifests or a cluster show, for a person to review.
    Suggest(source::Source),
    /// Explain a rule about shared credentials.
    Explain(explain::Args),
    /// Print the custom resource definitions.
    Crds {
        /// Write each to a file of its own in this directory instead.
        #[arg(long)]
        directory: Option<std::path::PathBuf>,
        /// Write a JSON schema of each kind to this directory instead, for editors and checks without a cluster.
        #[arg(long, conflicts_with = "directory")]
        json_schemas: Option<std::path::PathBuf>,
    },
}

/// Parses the arguments and does what they say. A wrong flag is one clear line and exit code 2.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(config) => run::main(config),
        Command::Sweep(args) => sweep::main(args),
        Command::Release(args) => release::main(args),
        Command::Doctor(args) => doctor::main(args),
        Command::Scan(args) => match scan::main(&args) {
            Ok(code) => return code,
            Err(message) => Err(message),
        },
        Command::Suggest(args) => match suggest::main(&args) {
            Ok(code) => return code,
            Err(message) => Err(message),
        },
        Command::Explain(args) => explain::text(&args).and_then(|text| scan::print(&text)),
        Command::Crds { directory: Some(directory), .. } => {
            crds::write(&directory).map_err(|error| format!("cannot write to {}: {error}", directory.display()))
        }
        Command::Crds { json_schemas: Some(directory), .. } => crds::write_json_schemas(&directory)
            .map_err(|error| format!("cannot write to {}: {error}", directory.display())),
        Command::Crds { .. } => {
            print!("{}", crds::crds());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("clientgrant: {message}");
            ExitCode::from(2)
        }
    }
}
