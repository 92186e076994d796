//! Child processes that never outlive this one, not even if it is killed by SIGKILL.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::RunDir;

/// A child in a process group of its own; the group is killed when this is dropped.
///
/// A small shell watches the other end of a pipe: when this process ends, however it ends, the
/// shell kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    group: Pid,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// Present as long as the child has not been reaped.
    watchdog: Option<Child>,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output appended to `<name>.log` in `dir`.
    pub fn spawn(dir: &RunDir, name: &str, mut command: Command) -> Result<Self> {
        let log = dir.log(name);
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let err = out.try_clone().context("cannot duplicate the log file")?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let watchdog = match watchdog(child.id()) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let group = Pid::from_child(&child);
        let state = State { child, watchdog: Some(watchdog), exit: None };
        Ok(Self { name: name.to_owned(), group, log, state: Mutex::new(state) })
    }

    /// The name given at start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, which is also the id of its group.
    pub fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills the group with SIGKILL and waits until the child is gone.
    pub fn kill(&self) {
        let mut state = self.lock();
        if state.exit.is_none() {
            let _ = kill_process_group(self.group, Signal::KILL);
            if let Ok(status) = state.child.wait() {
                state.reaped(status);
            }
        }
    }

    /// Asks the child to end (SIGTERM) and does not wait.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Freezes the group (SIGSTOP) and waits until the child has stopped, since of two pending
    /// signals the kernel delivers the lower one first, and a SIGTERM would overtake this one.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let path = format!("/proc/{}/status", self.id());
        for _ in 0..10_000 {
            let status = fs::read_to_string(&path).unwrap_or_default();
            if status.lines().any(|line| line.starts_with("State:\tT")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("{} has not stopped ten seconds after SIGSTOP", self.name)
    }

    /// Lets a frozen group go on (SIGCONT).
    pub fn cont(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Whether the child still runs; a frozen one counts as running.
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How the child ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut state = self.lock();
        if state.exit.is_none()
            && let Ok(Some(status)) = state.child.try_wait()
        {
            // Whatever the child itself had started belongs to the group and ends with it.
            let _ = kill_process_group(self.group, Signal::KILL);
            state.reaped(status);
        }
        state.exit
    }

    /// Waits until the child has ended by itself.
    pub async fn wait_exit(&self, timeout: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {timeout:?}; {}", self.name, self.log_tail(20));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Resident memory in KiB, from `/proc`.
    pub fn rss_kib(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that [`Process::rss_kib`] has been since the start.
    pub fn peak_rss_kib(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, line: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.id());
        let status =
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has {} ended?", self.name))?;
        status
            .lines()
            .find_map(|l| l.strip_prefix(line))
            .and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok())
            .with_context(|| format!("{path} has no line {line}"))
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines of the log, with the path of the file, for an error message.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        let tail = all[all.len().saturating_sub(lines)..].join("\n");
        format!("end of {}:\n{tail}", self.log.display())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if self.exit_status().is_some() {
            bail!("cannot signal {}: it has ended; {}", self.name, self.log_tail(20));
        }
        kill_process_group(self.group, signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl State {
    /// The watchdog ends with the child, so that it can never kill a group that reuses the id.
    fn reaped(&mut self, status: ExitStatus) {
        self.exit = Some(status);
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }
}

/// Starts the shell that kills `group` at end of file. No other child holds the writing end: the
/// standard library opens pipes with close-on-exec.
fn watchdog(group: u32) -> Result<Child> {
    Command::new("sh")
        .args(["-c", r#"read -r _; kill -s KILL -- "-$1""#, "testbed-watchdog"])
        .arg(group.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start `sh`, which ends the servers if this process is killed")
}
