//! `clientgrant scan`: finds shared credentials, in manifests without a cluster or in a cluster as far as the
//! caller may read it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::source::{Source, warn};
use crate::clock;
use crate::sharing::catalogue::{self, Rule};
use crate::sharing::role::Appointed;
use crate::sharing::{self, Severity, State, output, sarif};

/// What is scanned, and how it is shown.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where.
    #[command(flatten)]
    pub source: Source,
    /// How findings are shown.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The least severity of an open finding that makes the exit code 1.
    #[arg(long, value_enum, default_value_t = Severity::Medium)]
    pub fail_on: Severity,
    /// A rule that looks only where it is asked for, such as SC-206; may be repeated.
    #[arg(long, value_name = "RULE", value_parser = catalogue::named)]
    pub also: Vec<&'static Rule>,
    /// Somebody whose job it is to have credentials of others: issuer, verifier, broker or platform, and a
    /// ServiceAccount (NAMESPACE/NAME) or a workload (NAMESPACE/KIND/NAME). May be repeated.
    #[arg(long, value_name = "ROLE=WHO")]
    pub role: Vec<Appointed>,
    /// Exit with 0 although something could not be read.
    #[arg(long)]
    pub ignore_unread: bool,
}

/// How findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// SARIF 2.1.0, for code hosts.
    Sarif,
}

/// Scans, prints, and says how it went: 0 clean, 1 found, 2 not everything was read.
///
/// # Errors
///
/// A path that was named is not there, there is no cluster to ask, or nothing can be printed.
pub fn main(args: &Args) -> Result<ExitCode, String> {
    let reader = args.source.read()?;
    let (now, first) = (clock::now(), reader.first().to_owned());
    let mut input = reader.finish(now);
    input.roles = args.role.iter().cloned().collect();
    input.also = args.also.iter().map(|rule| rule.id).collect();
    let complete = warn(&input.unread);
    let evaluation = sharing::evaluate(input, now);
    let text = match args.output {
        Output::Table => output::table(&evaluation),
        Output::Json => output::json(&evaluation),
        Output::Sarif => sarif::log(&evaluation, &first),
    };
    print(&text)?;
    let found = evaluation.findings.iter().any(|f| f.state == State::Open && f.severity >= args.fail_on);
    Ok(match (found, complete || args.ignore_unread) {
        (true, _) => ExitCode::from(1),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(2),
    })
}

/// Prints to standard output; a reader that has gone away, such as `head`, is no failure.
///
/// # Errors
///
/// Whatever else the output says.
pub fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}
