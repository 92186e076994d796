//! The image as it will run: nothing else in its root, nobody's account, no right to write.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::json;

use super::layout::USER;
use super::{Paths, repository};
use crate::{Authority, RunDir};

/// Mounts the root read-only, of the machine's root: the real account.
const AS_ROOT: &str = r#"root=$1; shift; mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@""#;
/// The same where nobody is root: in name spaces of one's own.
const AS_NOBODY: &str = r#"root=$1; shift; mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
exec unshare --user --map-user="${user%:*}" --map-group="${user#*:}" --root="$root" "$@""#;

/// Runs the image that was written.
pub fn check(paths: &Paths) -> Result<()> {
    let dir = RunDir::new("image")?;
    let cell = Cell::new(&dir, &paths.root)?;
    cell.answers()?;
    cell.is_confined()?;
    cell.trusts()?;
    println!("  as {USER}, in an empty root that is read-only: it runs, writes nothing, and knows whom to trust");
    Ok(())
}

/// A copy of the root, with what a kubelet would mount into it.
struct Cell {
    root: PathBuf,
    privileged: bool,
}

impl Cell {
    fn new(dir: &RunDir, image: &Path) -> Result<Self> {
        let root = dir.path().join("root");
        let copied = Command::new("cp").arg("-a").args([image, &root]).status().context("cannot run cp")?;
        ensure!(copied.success(), "{} cannot be copied", image.display());
        Ok(Self { root, privileged: rustix::process::geteuid().is_root() })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(if self.privileged { &["--mount"][..] } else { &["--map-root-user", "--mount"] });
        command.args(["sh", "-euc", if self.privileged { AS_ROOT } else { AS_NOBODY }, "sh"]);
        command.arg(&self.root).arg("/clientgrant").args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("user", USER);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().context("cannot run unshare (of util-linux)")
    }

    fn answers(&self) -> Result<()> {
        let version = self.run(&["--version"])?;
        let said = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let error = String::from_utf8_lossy(&version.stderr).trim().to_owned();
        ensure!(said == format!("clientgrant {}", env!("CARGO_PKG_VERSION")), "--version says {said:?} {error:?}");
        ensure!(self.run(&["--help"])?.status.success(), "--help fails");
        let crds = String::from_utf8(self.run(&["crds"])?.stdout).context("crds prints no text")?;
        for entry in fs::read_dir(repository().join("crds")).context("cannot read crds/")? {
            let path = entry.context("cannot read crds/")?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(crds.contains(text.trim()), "crds does not print {}", path.display());
        }
        Ok(())
    }

    /// It cannot even make a folder, and the reason is the root and not its account.
    fn is_confined(&self) -> Result<()> {
        let output = self.run(&["crds", "--directory", "/written"])?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && error.contains("Read-only file system"), "it may write: {error}");
        Ok(())
    }

    /// A server signed by nobody that the image knows is refused for that reason, and one that it was told of
    /// is asked: names, roots and TLS work without a file of a distribution.
    fn trusts(&self) -> Result<()> {
        let authority = Authority::new()?;
        let mut server = Server::new(&authority)?;
        let cluster = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://localhost:{}", server.port()?)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "none"}}],
        });
        fs::write(self.root.join("kubeconfig"), cluster.to_string()).context("cannot write a kubeconfig")?;
        fs::write(self.root.join("authority"), authority.pem()).context("cannot write an authority")?;
        fs::create_dir_all(self.root.join("etc")).context("cannot make a folder")?;
        fs::write(self.root.join("etc/hosts"), "127.0.0.1 localhost\n").context("cannot write a hosts file")?;
        let ask = |trusted: &[(&str, &str)]| {
            let mut command = self.command(&["release", "nobody", "--provider", "corp"]);
            command.env("KUBECONFIG", "/kubeconfig").envs(trusted.iter().copied());
            command.spawn().context("cannot run unshare (of util-linux)")
        };
        let mut child = Running(ask(&[])?);
        let refused = server.serve(&mut child)?;
        ensure!(
            matches!(&refused, Met::Refused(why) if why.contains("UnknownCA")),
            "a server that nobody signed: {refused:?}; {}",
            child.end()?
        );
        let mut child = Running(ask(&[("SSL_CERT_FILE", "/authority")])?);
        let asked = server.serve(&mut child)?;
        let Met::Asked { line, account } = &asked else { bail!("a trusted server: {asked:?}; {}", child.end()?) };
        ensure!(line.starts_with("GET /apis/clientgrant.dev/"), "it asks {line:?}");
        if self.privileged {
            let uid = account.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
            ensure!(uid.split_whitespace().skip(1).all(|id| USER.starts_with(id)), "it runs as {uid:?}");
            ensure!(account.contains("CapEff:\t0000000000000000"), "it has capabilities: {account}");
        }
        let said = child.end()?;
        ensure!(said.contains("ClusterIdentityProvider"), "it says {said:?}");
        Ok(())
    }
}

/// A program that is running, killed if nobody waits for its end.
struct Running(Child);

impl Running {
    /// What it said on its way out.
    fn end(&mut self) -> Result<String> {
        let end = Instant::now() + Duration::from_secs(20);
        while self.0.try_wait().context("cannot wait for the program")?.is_none() {
            ensure!(Instant::now() < end, "the program does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut said = String::new();
        self.0.stderr.take().context("no stderr")?.read_to_string(&mut said).context("cannot read stderr")?;
        Ok(said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// How a connection went.
#[derive(Debug)]
enum Met {
    /// It was given up in the handshake.
    Refused(String),
    /// The first line of the question, and what the system says of who asked.
    Asked { line: String, account: String },
}

/// One connection at a time, over TLS; every question is answered with 404.
struct Server {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl Server {
    fn new(authority: &Authority) -> Result<Self> {
        _ = rustls::crypto::ring::default_provider().install_default();
        let pair = authority.server()?;
        let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).context("no certificate")?];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).context("no key")?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).context("no TLS")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port")?;
        listener.set_nonblocking(true).context("cannot listen")?;
        Ok(Self { listener, config: Arc::new(config) })
    }

    fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr().context("no port")?.port())
    }

    fn accept(&self, child: &mut Running) -> Result<TcpStream> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).context("cannot read")?;
                stream.set_read_timeout(Some(Duration::from_secs(10))).context("cannot read")?;
                return Ok(stream);
            }
            if child.0.try_wait().context("cannot wait for the program")?.is_some() || Instant::now() > end {
                bail!("it connects nowhere: {}", child.end()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn serve(&mut self, child: &mut Running) -> Result<Met> {
        let mut socket = self.accept(child)?;
        let mut tls = ServerConnection::new(Arc::clone(&self.config)).context("no TLS")?;
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut question = [0; 4096];
        let read = match stream.read(&mut question) {
            Ok(read) => read,
            Err(error) => return Ok(Met::Refused(error.to_string())),
        };
        let question = String::from_utf8_lossy(&question[..read]).into_owned();
        let account = fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap_or_default();
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).context("cannot answer")?;
        stream.conn.send_close_notify();
        _ = stream.flush();
        Ok(Met::Asked { line: question.lines().next().unwrap_or_default().to_owned(), account })
    }
}
