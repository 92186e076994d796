//! The operator's image: a static program on nothing, written without a container engine.
//!
//! The same sources, toolchain and C compiler give the same bits wherever they lie: no path of the machine
//! enters the program, and nothing in the layout has a time, an owner or an order of its own.

mod check;
pub mod layout;
pub mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub use check::check;
use layout::{File, Image, Title};

/// What the program is built for.
pub const TARGET: &str = "x86_64-unknown-linux-musl";
/// What the image is called where it is loaded; the chart's default.
pub const NAME: &str = "localhost/clientgrant";
/// Where the program expects the authorities that it trusts.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
const DOCUMENTS: &str = "usr/share/doc/clientgrant";

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the files of an image lie that was written to `to`: beside it.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The layout's folder.
    pub layout: PathBuf,
    /// The same as one file, for whatever loads images.
    pub archive: PathBuf,
    /// Its root, unpacked.
    pub root: PathBuf,
    /// What is in it.
    pub sbom: PathBuf,
    /// The digest of the manifest.
    pub digest: PathBuf,
}

impl Paths {
    /// Those that belong to a layout.
    pub fn of(layout: &Path) -> Self {
        let beside = |end: &str| {
            let mut name = layout.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            layout: layout.to_owned(),
            archive: beside(".tar"),
            root: beside("-root"),
            sbom: beside(".spdx.json"),
            digest: beside(".digest"),
        }
    }
}

/// Builds the program and writes the image, replacing an older one. Prints what came of it.
pub fn build(paths: &Paths) -> Result<()> {
    let program = fs::read(compile()?).context("cannot read the program that was built")?;
    let created = created()?;
    let version = env!("CARGO_PKG_VERSION");
    let authorities = authorities();
    let crates = sbom::Crates::read(&repository(), TARGET)?;
    let bill = sbom::document(&crates, &[("clientgrant", &program), (AUTHORITIES, authorities.as_bytes())], created)?;
    let licence = fs::read(repository().join("LICENSE")).context("cannot read LICENSE")?;
    let files = vec![
        File::new("clientgrant", 0o755, program),
        File::new(AUTHORITIES, 0o644, authorities),
        File::new(&format!("{DOCUMENTS}/LICENSE"), 0o644, licence),
        File::new(&format!("{DOCUMENTS}/THIRD-PARTY"), 0o644, crates.licences()?),
        File::new(&format!("{DOCUMENTS}/clientgrant.spdx.json"), 0o644, bill.clone()),
    ];
    let title = Title {
        name: NAME,
        title: "ClientGrant",
        description: "Kubernetes operator: per-client consent grants with a purpose, an end date and a reviewer",
        version,
        licences: "Apache-2.0",
    };
    let image = Image::new(files, &title, created)?;
    image.write(&paths.layout)?;
    image.unpack(&paths.root)?;
    write(&paths.archive, image.archive()?)?;
    write(&paths.sbom, bill)?;
    write(&paths.digest, format!("{}\n", image.digest()))?;
    println!("{}", paths.layout.display());
    for file in image.files() {
        println!("  {:>10} bytes  /{}", file.content().len(), file.path());
    }
    println!("  {:>10} bytes  the layer as it is sent", image.layer_size());
    println!("{NAME}:{version} {}", image.digest());
    Ok(())
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// The one time that the image knows: `SOURCE_DATE_EPOCH`, or the beginning of time.
fn created() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map_err(|_| anyhow!("SOURCE_DATE_EPOCH has to be a number of seconds")),
        Err(_) => Ok(0),
    }
}

/// Mozilla's authorities, in PEM: of the crate in Cargo.lock, since every distribution has others.
fn authorities() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem += "-----BEGIN CERTIFICATE-----\n";
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem += "-----END CERTIFICATE-----\n";
    }
    pem
}

/// Builds the static program, and says where it lies.
fn compile() -> Result<PathBuf> {
    let root = fs::canonicalize(repository()).context("cannot find the repository")?;
    ensure_target(&root)?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    // The linker of the toolchain, so that none of the machine's has a part in it.
    let flags = [
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/clientgrant", root.display()),
        "-Clinker=rust-lld".to_owned(),
    ];
    let mut command = cargo(&root);
    command
        .args(["build", "--locked", "--profile", "static", "--package", "clientgrant", "--bin", "clientgrant"])
        .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_INCREMENTAL", "0");
    // ring's C has no use for a C library: the machine's compiler does, if it adds no checks that call one.
    let (compiler, options) = (format!("CC_{TARGET}"), format!("CFLAGS_{TARGET}"));
    if std::env::var_os(&compiler).is_none() {
        command.env(compiler, "cc");
    }
    if std::env::var_os(&options).is_none() {
        command.env(options, "-U_FORTIFY_SOURCE -fno-stack-protector");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the static program was not built");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = executable.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    executable.context("cargo named no program")
}

/// The standard library for the target, by rustup where it is missing.
fn ensure_target(root: &Path) -> Result<()> {
    let sysroot = text(Command::new("rustc").current_dir(root).args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    text(Command::new("rustup").current_dir(root).args(["target", "add", TARGET]))
        .with_context(|| format!("the standard library for {TARGET} is missing: `rustup target add {TARGET}`"))?;
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// What a command prints.
fn text(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("what {name} prints is no text"))
}
