//! An OCI image layout (image-spec 1.1) of one layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// Who the program runs as: nobody that a machine knows.
pub const USER: &str = "65532:65532";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A file of the image's root.
#[derive(Clone, Debug)]
pub struct File {
    path: String,
    mode: u32,
    content: Vec<u8>,
}

impl File {
    /// `path` is relative to the root.
    pub fn new(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, content: content.into() }
    }

    /// Relative to the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// All of it.
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}

/// What the image says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Title<'a> {
    /// With a registry and without a tag.
    pub name: &'a str,
    /// For people.
    pub title: &'a str,
    /// In one line.
    pub description: &'a str,
    /// Also the tag.
    pub version: &'a str,
    /// An SPDX expression.
    pub licences: &'a str,
}

/// An image, in memory.
#[derive(Debug)]
pub struct Image {
    files: Vec<File>,
    blobs: BTreeMap<String, Vec<u8>>,
    index: Vec<u8>,
    /// What Docker asks for instead of the index.
    legacy: Vec<u8>,
    digest: String,
    layer_size: usize,
    created: u64,
}

impl Image {
    /// Of these files, whatever their order; the first that is executable by its path in `/` is what runs.
    pub fn new(mut files: Vec<File>, title: &Title<'_>, created: u64) -> Result<Self> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let entry = files.iter().find(|file| !file.path.contains('/') && file.mode & 0o100 != 0);
        let entry = format!("/{}", entry.context("no file in the root can be run")?.path);
        let tar = layer(&files, created)?;
        let packed = pack(&tar)?;
        let when = jiff::Timestamp::from_second(i64::try_from(created)?).context("a time out of range")?.to_string();
        let labels = json!({
            "org.opencontainers.image.title": title.title,
            "org.opencontainers.image.description": title.description,
            "org.opencontainers.image.version": title.version,
            "org.opencontainers.image.licenses": title.licences,
        });
        let config = bytes(json!({
            "created": when,
            "architecture": "amd64",
            "os": "linux",
            "config": {"User": USER, "Entrypoint": [entry], "WorkingDir": "/", "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
            "history": [{"created": when, "created_by": "testbed image"}],
        }))?;
        let manifest = bytes(json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
            "annotations": labels,
        }))?;
        let name = format!("{}:{}", title.name, title.version);
        let mut entry = descriptor(MANIFEST, &manifest);
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
        // The tag by itself for whoever reads layouts; the whole name for containerd, and so for kind and k3s.
        entry["annotations"] =
            json!({"org.opencontainers.image.ref.name": title.version, "io.containerd.image.name": name});
        let index = bytes(json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        }))?;
        let blob = |content: &[u8]| format!("blobs/sha256/{}", hex(content));
        let legacy = bytes(json!([{"Config": blob(&config), "RepoTags": [name], "Layers": [blob(&packed)]}]))?;
        let (digest, layer_size) = (digest(&manifest), packed.len());
        let blobs = [config, packed, manifest].map(|content| (hex(&content), content)).into();
        Ok(Self { files, blobs, index, legacy, digest, layer_size, created })
    }

    /// The digest of the manifest: what a registry and a cluster know the image by.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its files, by path.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Bytes of the layer as it is sent.
    pub fn layer_size(&self) -> usize {
        self.layer_size
    }

    /// Every file of the layout, by path.
    fn layout(&self) -> BTreeMap<String, &[u8]> {
        let mut all: BTreeMap<String, &[u8]> =
            self.blobs.iter().map(|(hex, content)| (format!("blobs/sha256/{hex}"), &**content)).collect();
        all.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#);
        all.insert("index.json".into(), &self.index);
        all
    }

    /// Writes the layout, instead of an older one.
    pub fn write(&self, to: &Path) -> Result<()> {
        replace(to, "oci-layout", self.layout().into_iter().map(|(path, content)| (path, 0o644, content)))
    }

    /// Writes the root, instead of an older one.
    pub fn unpack(&self, to: &Path) -> Result<()> {
        replace(to, "clientgrant", self.files.iter().map(|file| (file.path.clone(), file.mode, &*file.content)))
    }

    /// The layout as one file. Docker loads it too, by `manifest.json`.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut all = self.layout();
        all.insert("manifest.json".into(), &self.legacy);
        let files = all.into_iter().map(|(path, content)| File::new(&path, 0o644, content));
        layer(&files.collect::<Vec<_>>(), self.created)
    }
}

/// Writes files below `to`. What is there goes, if it is what was written there before.
fn replace<'a>(to: &Path, known: &str, files: impl Iterator<Item = (String, u32, &'a [u8])>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if to.exists() {
        if !to.join(known).is_file() {
            bail!("{} is there already and was not written by this command: remove it", to.display());
        }
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    for (path, mode, content) in files {
        let path = to.join(path);
        let parent = path.parent().context("a file without a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    }
    Ok(())
}

/// A tar with every folder before what is in it, in the order of paths, of root's and of one time.
fn layer(files: &[File], at: u64) -> Result<Vec<u8>> {
    let mut folders = BTreeSet::new();
    for file in files {
        folders.extend(file.path.match_indices('/').map(|(end, _)| format!("{}/", &file.path[..end])));
    }
    let folders = folders.into_iter().map(|path| (path, EntryType::Directory, 0o755, &[][..]));
    let files = files.iter().map(|file| (file.path.clone(), EntryType::Regular, file.mode, &*file.content));
    let mut entries: Vec<_> = folders.chain(files).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut tar = Builder::new(Vec::new());
    for (path, kind, mode, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(&path).with_context(|| format!("{path} does not fit into a layer"))?;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(at);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, Cursor::new(content)).context("cannot write a layer")?;
    }
    tar.into_inner().context("cannot write a layer")
}

fn pack(tar: &[u8]) -> Result<Vec<u8>> {
    // Without a name and a time in the header.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(tar).context("cannot compress the layer")?;
    gzip.finish().context("cannot compress the layer")
}

/// The same bytes, whatever order of keys a build of the JSON library keeps.
pub(super) fn bytes(mut value: Value) -> Result<Vec<u8>> {
    value.sort_all_objects();
    serde_json::to_vec(&value).context("cannot write JSON")
}

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(content), "size": content.len()})
}

/// `sha256:` and the hash.
fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(content))
}

fn hex(content: &[u8]) -> String {
    hash(&ring::digest::SHA256, content)
}

/// A hash in hexadecimal digits.
pub(super) fn hash(algorithm: &'static ring::digest::Algorithm, content: &[u8]) -> String {
    ring::digest::digest(algorithm, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
