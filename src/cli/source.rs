//! Where `scan` and `suggest` read: manifests without a cluster, or a cluster as far as the caller may read it.

mod cluster;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::sharing::index::Unread;
use crate::sharing::output;
use crate::sharing::read::{LARGEST, Reader};

/// What is looked at.
#[derive(clap::Args, Debug)]
pub struct Source {
    /// A file or directory with manifests, or - for standard input. Of directories every .yaml, .yml and .json is
    /// read, except in those whose name begins with a dot. Default: the cluster that KUBECONFIG names.
    #[arg(short = 'f', long = "filename", num_args = 1.., value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Read this namespace of the cluster only: what others hold is not compared with it then. With -f, the namespace
    /// of objects that say none, as of a chart that is rendered.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Read the ConfigMaps of the cluster too: workloads may receive ids and credentials of clients from them. Those
    /// that stand among manifests are always read.
    #[arg(long, conflicts_with = "paths")]
    pub configmaps: bool,
}

impl Source {
    /// Reads what was named, or the cluster.
    ///
    /// # Errors
    ///
    /// A path that was named is not there, or there is no cluster to ask.
    pub fn read(&self) -> Result<Reader, String> {
        let mut reader = Reader::default();
        self.namespace.iter().for_each(|namespace| reader.namespace(namespace));
        let mut seen = BTreeSet::new();
        for path in &self.paths {
            if path.as_os_str() == "-" {
                let mut bytes = Vec::new();
                bounded(io::stdin(), &mut bytes).map_err(|error| format!("cannot read standard input: {error}"))?;
                // Of a command that failed nothing comes, and nothing would look clean.
                if bytes.is_empty() {
                    let why = "nothing came on standard input: look whether what writes to it failed";
                    reader.unread("-", 0, why);
                }
                reader.add("-", &bytes);
            } else {
                let meta = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                if meta.is_dir() { directory(path, &mut seen, &mut reader) } else { file(path, &mut reader) }
            }
        }
        match self.paths.first() {
            None => reader = cluster::read(self.namespace.clone(), self.configmaps)?,
            // A path that is wrong would look clean. What renders to nothing is given as standard input.
            Some(path) if reader.is_empty() && self.paths.iter().all(|path| path.as_os_str() != "-") => {
                let why = "there is no Kubernetes object in anything that was named: look whether the path is right";
                reader.unread(&path.display().to_string(), 0, why);
            }
            Some(_) => {}
        }
        Ok(reader)
    }
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
            Ok(_) => {
                reader.unread(&path.display().to_string(), 0, "it is no plain file");
                continue;
            }
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
