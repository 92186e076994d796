//! `clientgrant scan`: finds shared credentials, in manifests without a cluster or in a cluster as far as the
//! caller may read it.

mod cluster;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::clock;
use crate::sharing::catalogue::{self, Rule};
use crate::sharing::index::Unread;
use crate::sharing::read::{LARGEST, Reader};
use crate::sharing::{self, Severity, State, output, sarif};

/// What is scanned, and how it is shown.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A file or directory with manifests, or - for standard input. Of directories every .yaml, .yml and .json is
    /// read, except in those whose name begins with a dot. Default: the cluster that KUBECONFIG names.
    #[arg(short = 'f', long = "filename", num_args = 1.., value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Read this namespace of the cluster only. What others hold is not compared with it then.
    #[arg(short, long, conflicts_with = "paths")]
    pub namespace: Option<String>,
    /// How findings are shown.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The least severity of an open finding that makes the exit code 1.
    #[arg(long, value_enum, default_value_t = Severity::Medium)]
    pub fail_on: Severity,
    /// A rule that looks only where it is asked for, such as SC-206; may be repeated.
    #[arg(long, value_name = "RULE", value_parser = catalogue::named)]
    pub also: Vec<&'static Rule>,
    /// A ServiceAccount that reads Secrets or runs workloads by its job; what RBAC lets it do is info. May be repeated.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = account)]
    pub platform: Vec<(String, String)>,
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
    let reader = read(&args.paths, args.namespace.clone())?;
    let now = clock::now();
    let mut input = reader.finish(now);
    input.platform = args.platform.iter().cloned().collect();
    input.also = args.also.iter().map(|rule| rule.id).collect();
    let complete = warn(&input.unread);
    let evaluation = sharing::evaluate(input, now);
    let text = match args.output {
        Output::Table => output::table(&evaluation),
        Output::Json => output::json(&evaluation),
        Output::Sarif => sarif::log(&evaluation),
    };
    print(&text)?;
    let found = evaluation.findings.iter().any(|f| f.state == State::Open && f.severity >= args.fail_on);
    Ok(match (found, complete || args.ignore_unread) {
        (true, _) => ExitCode::from(1),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(2),
    })
}

/// Reads what was named, or the cluster.
///
/// # Errors
///
/// A path that was named is not there, or there is no cluster to ask.
pub fn read(paths: &[PathBuf], namespace: Option<String>) -> Result<Reader, String> {
    let mut reader = Reader::default();
    let mut seen = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            bounded(io::stdin(), &mut bytes).map_err(|error| format!("cannot read standard input: {error}"))?;
            reader.add("-", &bytes);
        } else {
            let meta = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if meta.is_dir() { directory(path, &mut seen, &mut reader) } else { file(path, &mut reader) }
        }
    }
    if paths.is_empty() {
        reader = cluster::read(namespace)?;
    }
    Ok(reader)
}

/// Says what could not be read. True: everything was.
#[must_use]
pub fn warn(unread: &[Unread]) -> bool {
    for failure in unread {
        let text = format!("{}: not read: {}", failure.place, failure.why);
        eprintln!("clientgrant: {}", output::visible(&text));
    }
    unread.is_empty()
}

/// The namespace and the name of a ServiceAccount.
fn account(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("say NAMESPACE/NAME, such as cert-manager/cert-manager".to_owned()),
    }
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

/// Reads one byte more than may be read at most, which shows that there is too much.
fn bounded(from: impl Read, into: &mut Vec<u8>) -> io::Result<usize> {
    from.take(u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(into)
}

fn file(path: &Path, reader: &mut Reader) {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| bounded(file, &mut bytes)) {
        Ok(_) => reader.add(&name, &bytes),
        Err(error) => reader.unread(&name, 1, error.to_string()),
    }
}

/// Reads a directory in the order of its names, each real directory once, so that links cannot go in circles.
fn directory(root: &Path, seen: &mut BTreeSet<PathBuf>, reader: &mut Reader) {
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let real = match fs::canonicalize(&path).and_then(|real| Ok((fs::metadata(&real)?, real))) {
            Ok((meta, real)) if meta.is_dir() => real,
            // Of what lies in a directory only plain files are read: a pipe would wait for ever.
            Ok((meta, _)) if meta.is_file() => {
                file(&path, reader);
                continue;
            }
            Ok(_) => continue,
            Err(error) => {
                reader.unread(&path.display().to_string(), 1, error.to_string());
                continue;
            }
        };
        if !seen.insert(real) {
            continue;
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => {
                reader.unread(&path.display().to_string(), 1, error.to_string());
                continue;
            }
        };
        let mut inside: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| wanted(p)).collect();
        // The last is taken first.
        inside.sort_by(|a, b| b.cmp(a));
        open.extend(inside);
    }
}

/// Whether something in a directory is looked at.
fn wanted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = name.starts_with('.');
    let manifest =
        path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e.eq_ignore_ascii_case(known)));
    !hidden && (manifest || path.is_dir())
}
