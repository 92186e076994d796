//! What is in the image: an SPDX 2.3 document, and the licences of everything in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde_json::{Value, json};

use super::layout::{bytes, hash};
use super::{cargo, text};

/// A crate of the program.
#[derive(Debug)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression.
    pub licence: String,
    /// Of its archive, as Cargo.lock has it.
    pub checksum: Option<String>,
    /// Runs while the program is compiled, and is not in it.
    pub compiles: bool,
    folder: PathBuf,
}

/// The crates of the program, and who needs whom.
#[derive(Debug)]
pub struct Crates {
    /// By `name@version`.
    pub all: BTreeMap<String, Crate>,
    /// Who needs whom, both by `name@version`.
    pub needs: BTreeSet<(String, String)>,
    /// Whose authorities the image trusts; no part of the program.
    pub authorities: String,
    toolchain: String,
    sysroot: PathBuf,
}

impl Crates {
    /// Those that the operator is built of for a target, without tests and build scripts, and the authorities.
    pub fn read(root: &Path, target: &str) -> Result<Self> {
        let root = fs::canonicalize(root).context("cannot find the repository")?;
        let tree = text(
            cargo(&root)
                .args(["tree", "--locked", "--package", "clientgrant", "--edges", "normal"])
                .args(["--target", target, "--prefix", "depth", "--format", "{p}"]),
        )?;
        let (mut compiles, needs) = walk(&tree)?;
        let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        let checksums = checksums(&lock);
        let authorities = checksums.keys().find(|key| key.starts_with("webpki-root-certs@"));
        let authorities = authorities.context("Cargo.lock names no webpki-root-certs")?.clone();
        compiles.insert(authorities.clone(), false);
        let rustc = |args: &[&str]| text(std::process::Command::new("rustc").current_dir(&root).args(args));
        let about = rustc(&["--version", "--verbose"])?;
        let line = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).context("rustc names no host");
        let (host, toolchain) = (line("host: ")?, line("release: ")?.to_owned());
        // What runs while the program is compiled is of this machine.
        let mut metadata = cargo(&root);
        metadata.args(["metadata", "--locked", "--format-version", "1"]);
        metadata.args(["--filter-platform", target, "--filter-platform", host]);
        let metadata = text(&mut metadata)?;
        let metadata: Value = serde_json::from_str(&metadata).context("what `cargo metadata` prints is no JSON")?;
        let mut all = BTreeMap::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
            let key = format!("{}@{}", field("name"), field("version"));
            let Some(compiles) = compiles.get(&key) else { continue };
            // Before Cargo knew SPDX a slash stood for a choice.
            let licence = field("license").replace('/', " OR ");
            if licence.is_empty() {
                bail!("{key} names no licence");
            }
            let folder = Path::new(&field("manifest_path")).parent().context("a manifest without a folder")?.to_owned();
            let checksum = checksums.get(&key).cloned();
            let (name, version) = (field("name"), field("version"));
            all.insert(key, Crate { name, version, licence, checksum, compiles: *compiles, folder });
        }
        if let Some(missing) = compiles.keys().find(|key| !all.contains_key(*key)) {
            bail!("`cargo metadata` does not know {missing}");
        }
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        Ok(Self { all, needs, authorities, toolchain, sysroot })
    }

    /// Every text that comes with what is in the program; a text that several share stands once.
    pub fn licences(&self) -> Result<String> {
        let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, part) in self.all.iter().filter(|(_, part)| part.checksum.is_some() && !part.compiles) {
            let title = format!("{key} ({})", part.licence);
            let found = licence_files(&part.folder)?;
            if found.is_empty() {
                texts.entry("The package brings no text.".into()).or_default().insert(title.clone());
            }
            for text in found {
                texts.entry(text).or_default().insert(title.clone());
            }
        }
        let notices = [
            ("COPYRIGHT-library.html", format!("the standard library of Rust {}", self.toolchain)),
            ("licenses/MIT.txt", "musl libc, copyright 2005-2020 Rich Felker and others (MIT)".to_owned()),
        ];
        for (name, title) in notices {
            let path = self.sysroot.join("share/doc/rust").join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.entry(text).or_default().insert(title);
        }
        let mut by_first: Vec<_> = texts.iter().collect();
        by_first.sort_by_key(|(text, who)| (who.first(), *text));
        let mut all = String::new();
        for (text, who) in by_first {
            for title in who {
                all += &format!("== {title}\n");
            }
            all += &format!("\n{}\n\n", text.trim());
        }
        Ok(all)
    }
}

/// Who is in the tree, and whether only to compile; who needs whom.
type Tree = (BTreeMap<String, bool>, BTreeSet<(String, String)>);

/// Reads what `cargo tree --prefix depth` prints.
fn walk(tree: &str) -> Result<Tree> {
    let (mut compiles, mut needs): Tree = Default::default();
    let mut path: Vec<(String, bool)> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let end = line.find(|c: char| !c.is_ascii_digit()).context("a line without a name")?;
        let depth: usize = line[..end].parse().with_context(|| format!("no depth in {line:?}"))?;
        let mut words = line[end..].split(' ');
        let (name, version) = words.next().zip(words.next()).with_context(|| format!("no version in {line:?}"))?;
        let key = format!("{name}@{}", version.trim_start_matches('v'));
        path.truncate(depth);
        let above = path.last().cloned();
        let within = words.any(|word| word == "(proc-macro)") || above.as_ref().is_some_and(|(_, within)| *within);
        compiles.entry(key.clone()).and_modify(|only| *only &= within).or_insert(within);
        if let Some((above, _)) = above {
            needs.insert((above, key.clone()));
        }
        path.push((key, within));
    }
    Ok((compiles, needs))
}

/// By `name@version`.
fn checksums(lock: &str) -> BTreeMap<String, String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let of = |package: &str| {
        let key = format!("{}@{}", field(package, "name")?, field(package, "version")?);
        Some((key, field(package, "checksum")?))
    };
    lock.split("[[package]]").filter_map(of).collect()
}

/// The texts of licences in a folder, by name.
fn licence_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.context("cannot read a folder")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        let begins = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
        if path.is_file() && begins.iter().any(|begin| name.starts_with(begin)) {
            names.push(path);
        }
    }
    names.sort();
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    // A line of Windows' is no other text.
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned();
    names.iter().map(|path| read(path).map(text)).collect()
}

/// The SPDX document of an image with these files: the program first, then the authorities.
pub fn document(crates: &Crates, files: &[(&str, &[u8]); 2], created: u64) -> Result<Vec<u8>> {
    let mut packages = Vec::new();
    let mut relations = Vec::new();
    let mut relate = |from: &str, how: &str, to: &str| {
        relations.push(json!({"spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to}));
    };
    for (key, part) in &crates.all {
        packages.push(package(key, part));
    }
    let std = id("rust-std");
    packages.push(json!({
        "SPDXID": std,
        "name": "rust-std",
        "versionInfo": crates.toolchain,
        "downloadLocation": "https://www.rust-lang.org/",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "(MIT OR Apache-2.0) AND MIT AND Apache-2.0 WITH LLVM-exception",
        "copyrightText": "NOASSERTION",
        "comment": "With musl (MIT) and the unwinder of LLVM, as they come with the toolchain.",
    }));
    for (above, below) in &crates.needs {
        if crates.all[below].compiles && !crates.all[above].compiles {
            relate(&id(below), "BUILD_DEPENDENCY_OF", &id(above));
        } else {
            relate(&id(above), "DEPENDS_ON", &id(below));
        }
    }
    let (operator, program) = (format!("clientgrant@{}", env!("CARGO_PKG_VERSION")), id("file-program"));
    relate("SPDXRef-DOCUMENT", "DESCRIBES", &program);
    relate("SPDXRef-DOCUMENT", "DESCRIBES", &id("file-authorities"));
    relate(&program, "GENERATED_FROM", &id(&operator));
    relate(&program, "STATIC_LINK", &std);
    relate(&id("file-authorities"), "GENERATED_FROM", &id(&crates.authorities));
    let file = |name: &str, id: &str, kind: &str, content: &[u8]| {
        json!({
            "SPDXID": id,
            "fileName": format!("./{name}"),
            "fileTypes": [kind],
            "checksums": [
                {"algorithm": "SHA1", "checksumValue": hash(&SHA1_FOR_LEGACY_USE_ONLY, content)},
                {"algorithm": "SHA256", "checksumValue": hash(&SHA256, content)},
            ],
            "licenseConcluded": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        })
    };
    let [(name, content), (others, pem)] = files;
    let when = jiff::Timestamp::from_second(i64::try_from(created)?).context("a time out of range")?;
    let mut document = bytes(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("clientgrant-{}", env!("CARGO_PKG_VERSION")),
        "documentNamespace": format!("https://clientgrant.dev/spdx/{}", hash(&SHA256, content)),
        "creationInfo": {
            "created": when.to_string(),
            "creators": [format!("Tool: clientgrant-testbed-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "files": [
            file(name, &program, "BINARY", content),
            file(others, &id("file-authorities"), "TEXT", pem),
        ],
        "relationships": relations,
    }))?;
    document.push(b'\n');
    Ok(document)
}

fn package(key: &str, part: &Crate) -> Value {
    let Crate { name, version, licence, checksum, .. } = part;
    let mut package = json!({
        "SPDXID": id(key),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    });
    if name != "clientgrant" {
        package["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{name}@{version}"),
        }]);
    }
    if let Some(sum) = checksum {
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sum}]);
    }
    package
}

/// An identifier of SPDX: letters, digits, dots and dashes.
fn id(key: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    format!("SPDXRef-{}", key.chars().map(|c| if fits(c) { c } else { '-' }).collect::<String>())
}
