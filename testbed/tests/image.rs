//! The image: the layout by the rules of OCI, the same bits twice, and what is said to be in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clientgrant_testbed::RunDir;
use clientgrant_testbed::image::layout::{File, Image, Title, USER};
use clientgrant_testbed::image::sbom::{Crates, document};
use clientgrant_testbed::image::{NAME, TARGET};
use serde_json::Value;

const TITLE: Title<'_> =
    Title { name: NAME, title: "ClientGrant", description: "A test", version: "1.2.3", licences: "Apache-2.0" };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files() -> Vec<File> {
    vec![
        File::new("etc/ssl/certs/ca-certificates.crt", 0o644, "authorities"),
        File::new("clientgrant", 0o755, vec![7; 100_000]),
        File::new("etc/a", 0o644, "a"),
    ]
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A blob, by its descriptor, as somebody reads it who believes nothing.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let content = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
    assert_eq!(sha256(&content), hex);
    assert_eq!(descriptor["size"], content.len());
    content
}

#[test]
fn a_layout_is_read_by_the_rules_of_oci() {
    let dir = RunDir::new("layout").unwrap();
    let to = dir.path().join("image");
    let image = Image::new(files(), &TITLE, 0).unwrap();
    image.write(&to).unwrap();

    assert_eq!(json(&fs::read(to.join("oci-layout")).unwrap())["imageLayoutVersion"], "1.0.0");
    let index = json(&fs::read(to.join("index.json")).unwrap());
    let [entry] = &index["manifests"].as_array().unwrap()[..] else { panic!("{index}") };
    assert_eq!(entry["digest"], image.digest());
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost/clientgrant:1.2.3");
    let manifest = json(&blob(&to, entry));
    let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("{manifest}") };
    let config = json(&blob(&to, &manifest["config"]));
    assert_eq!(config["config"]["User"], USER);
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/clientgrant"]));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert!(config["config"]["Labels"]["org.opencontainers.image.source"].is_null());

    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&blob(&to, layer)[..]).read_to_end(&mut tar).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([format!("sha256:{}", sha256(&tar))]));
    let mut seen = Vec::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        seen.push(format!("{:o} {}", header.mode().unwrap(), entry.path().unwrap().display()));
    }
    let expected = [
        "755 clientgrant",
        "755 etc/",
        "644 etc/a",
        "755 etc/ssl/",
        "755 etc/ssl/certs/",
        "644 etc/ssl/certs/ca-certificates.crt",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn written_twice_it_is_the_same_and_another_byte_is_another_image() {
    let dir = RunDir::new("twice").unwrap();
    let mut reversed = files();
    reversed.reverse();
    let (one, other) = (Image::new(files(), &TITLE, 0).unwrap(), Image::new(reversed, &TITLE, 0).unwrap());
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.archive().unwrap(), other.archive().unwrap());
    let mut changed = files();
    changed[2] = File::new("etc/a", 0o644, "b");
    assert_ne!(one.digest(), Image::new(changed, &TITLE, 0).unwrap().digest());
    assert_ne!(one.digest(), Image::new(files(), &TITLE, 1).unwrap().digest());

    // An older one is replaced, and nothing else is.
    let to = dir.path().join("image");
    one.write(&to).unwrap();
    fs::write(to.join("stale"), "").unwrap();
    other.write(&to).unwrap();
    assert!(!to.join("stale").exists());
    let mine = dir.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("kept"), "").unwrap();
    assert!(one.write(&mine).unwrap_err().to_string().contains("remove it"));
    assert!(mine.join("kept").exists());
}

#[test]
fn the_list_of_parts_is_whole_and_has_nothing_of_the_tests() {
    let crates = Crates::read(&root(), TARGET).unwrap();
    let names: BTreeSet<&str> = crates.all.values().map(|part| &*part.name).collect();
    for there in ["clientgrant", "kube", "ring", "rustls", "tokio", "webpki-root-certs"] {
        assert!(names.contains(there), "{there}");
    }
    for not in ["proptest", "rcgen", "tar", "clientgrant-testbed", "kube-cel", "windows-sys", "cc"] {
        assert!(!names.contains(not), "{not}");
    }
    assert!(crates.all.values().any(|part| part.name == "serde_derive" && part.compiles));
    assert!(crates.all.values().any(|part| part.name == "serde" && !part.compiles));
    for part in crates.all.values().filter(|part| part.name != "clientgrant") {
        assert!(part.checksum.as_ref().is_some_and(|sum| sum.len() == 64), "{}", part.name);
    }
    let licences = crates.licences().unwrap();
    for part in crates.all.values().filter(|part| part.checksum.is_some() && !part.compiles) {
        assert!(licences.contains(&format!("== {}@{} (", part.name, part.version)), "{}", part.name);
    }

    let bill = document(&crates, &[("clientgrant", b"program"), ("etc/authorities", b"pem")], 0).unwrap();
    assert_eq!(bill, document(&crates, &[("clientgrant", b"program"), ("etc/authorities", b"pem")], 0).unwrap());
    let bill = json(&bill);
    let list = |name: &str| bill[name].as_array().unwrap().clone();
    let mut ids = BTreeMap::from([("SPDXRef-DOCUMENT".to_owned(), 0)]);
    for element in list("packages").into_iter().chain(list("files")) {
        *ids.entry(element["SPDXID"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(ids.values().all(|times| *times <= 1), "{ids:?}");
    let mut reached: BTreeSet<String> = BTreeSet::from(["SPDXRef-DOCUMENT".to_owned()]);
    let relations = list("relationships");
    loop {
        let before = reached.len();
        for relation in &relations {
            let end = |name: &str| relation[name].as_str().unwrap().to_owned();
            let (mut from, mut to) = (end("spdxElementId"), end("relatedSpdxElement"));
            assert!(ids.contains_key(&from) && ids.contains_key(&to), "{relation}");
            if relation["relationshipType"] == "BUILD_DEPENDENCY_OF" {
                (from, to) = (to, from);
            }
            if reached.contains(&from) {
                reached.insert(to);
            }
        }
        if reached.len() == before {
            break;
        }
    }
    assert_eq!(reached, ids.into_keys().collect(), "nothing hangs in the air");
    let program = &list("files")[0];
    assert_eq!(program["checksums"][1]["checksumValue"], sha256(b"program"));
}

/// Whoever builds with a container engine gets the same root, user and program to run.
#[test]
fn the_containerfile_makes_the_same_image() {
    let text = fs::read_to_string(root().join("Containerfile")).unwrap();
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("ARG RUST={channel}\n")), "the toolchain is {channel}");
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    let lines: Vec<&str> = last.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let labels = lines.iter().filter(|line| line.starts_with("LABEL ")).count();
    assert!(labels >= 1);
    let rest: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with("LABEL ")).collect();
    let user = format!("USER {USER}");
    assert_eq!(
        rest,
        ["scratch", "COPY --from=build /src/target/image-root/ /", &user, r#"ENTRYPOINT ["/clientgrant"]"#]
    );
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "target") && ignored.lines().any(|line| line == ".git"));
}
