//! One temporary directory a run.
//!
//! Every [`RunDir`] lies under one directory of this process. That directory goes when the process
//! ends, however it ends, unless a panic was seen (a failed test) or `TESTBED_KEEP` is set: then
//! its path is printed and the logs stay.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result, anyhow};

/// A directory for the files of one server or one scenario.
///
/// Its `data` folder goes on drop, since a control plane leaves more than 100 MB; its logs stay
/// until the process ends, so that a test which fails later can still show them.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Creates a directory whose name starts with `name`.
    pub fn new(name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = root()?.join(format!("{name}-{number}"));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder for bulky data, removed on drop.
    pub fn data(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join("data").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Where the log of the process `name` goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// Writes a file into the directory and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !std::thread::panicking() && !keep_always() {
            let _ = fs::remove_dir_all(self.path.join("data"));
        }
    }
}

fn keep_always() -> bool {
    std::env::var_os("TESTBED_KEEP").is_some_and(|v| !v.is_empty())
}

/// The directory of this process, made at first use.
fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    ROOT.get_or_init(|| make_root().map_err(|e| format!("{e:#}"))).as_deref().map_err(|e| anyhow!("{e}"))
}

fn make_root() -> Result<PathBuf> {
    let path = tempfile::Builder::new()
        .prefix("clientgrant-testbed-")
        .tempdir()
        .context("cannot create a temporary directory: is TMPDIR writable and not full?")?
        .keep();
    if keep_always() {
        eprintln!("testbed: TESTBED_KEEP is set, files stay in {}", path.display());
        return Ok(path);
    }
    // The janitor outlives this process: end of file on its input means that we are gone. It waits
    // a second, because the servers are killed at the same moment and may still be writing.
    let janitor = Command::new("sh")
        .args(["-c", r#"read -r keep || { sleep 1; rm -rf -- "$1"; }"#, "testbed-janitor"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start `sh`, which removes temporary files at the end")?;
    keep_on_panic(janitor, path.clone());
    Ok(path)
}

fn keep_on_panic(janitor: Child, path: PathBuf) {
    let janitor = Mutex::new(Some(janitor));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let first = janitor.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(mut input) = first.and_then(|mut child| child.stdin.take()) {
            let _ = input.write_all(b"keep\n");
            eprintln!("testbed: logs are kept in {}", path.display());
        }
    }));
}
