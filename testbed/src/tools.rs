//! The real servers and tools: built once by the Go toolchain from the modules under `tools/`, then cached.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::module;

/// Paths of the built servers.
#[derive(Clone, Debug)]
pub struct Tools {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// Helm 4.
    pub helm: PathBuf,
    /// Helm 3.
    pub helm3: PathBuf,
    /// Ory Hydra.
    pub hydra: PathBuf,
    /// Reads workflows for faults.
    pub actionlint: PathBuf,
    /// promtool, which reads and tries alert rules.
    pub promtool: PathBuf,
    /// Says what kstatus makes of objects.
    pub kstatus: PathBuf,
}

/// How one binary is built.
struct Recipe {
    /// The folder under `tools/` that holds go.mod and go.sum, and what is ours of the program.
    module: &'static str,
    binary: &'static str,
    version: &'static str,
    package: &'static str,
    tags: &'static str,
    ldflags: &'static str,
    cgo: bool,
    estimate: &'static str,
}

const KUBE_LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";

const ETCD: Recipe = Recipe {
    module: "etcd",
    binary: "etcd",
    version: "3.6.16",
    package: "go.etcd.io/etcd/server/v3",
    tags: "",
    ldflags: "-s -w",
    cgo: false,
    estimate: "1 minute",
};
const KUBE_APISERVER: Recipe = kube("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "4 minutes");
const KUBE_CONTROLLER_MANAGER: Recipe =
    kube("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "1 minute");
const KUBECTL: Recipe = kube("kubectl", "k8s.io/kubernetes/cmd/kubectl", "half a minute");
const HELM: Recipe = Recipe {
    module: "helm",
    binary: "helm",
    version: "4.3.1",
    package: "helm.sh/helm/v4/cmd/helm",
    tags: "",
    ldflags: "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
    cgo: false,
    estimate: "2 minutes",
};
/// Many still have it, and what it renders has to be the same.
const HELM3: Recipe = Recipe {
    module: "helm3",
    binary: "helm",
    version: "3.22.0",
    package: "helm.sh/helm/v3/cmd/helm",
    tags: "",
    ldflags: "-s -w -X helm.sh/helm/v3/internal/version.version=v3.22.0",
    cgo: false,
    estimate: "1 minute",
};
const HYDRA: Recipe = Recipe {
    module: "hydra",
    binary: "hydra",
    version: "2.3.0",
    package: "github.com/ory/hydra/v2",
    tags: "sqlite,sqlite_omit_load_extension",
    ldflags: "-s -w -X github.com/ory/hydra/v2/driver/config.Version=v2.3.0",
    cgo: true,
    estimate: "1 minute",
};

const ACTIONLINT: Recipe = Recipe {
    module: "actionlint",
    binary: "actionlint",
    version: "1.7.12",
    package: "github.com/rhysd/actionlint/cmd/actionlint",
    tags: "",
    ldflags: "-s -w",
    cgo: false,
    estimate: "half a minute",
};

/// The library with which Flux and Helm wait, and a program of ours around it.
const KSTATUS: Recipe = Recipe {
    module: "kstatus",
    binary: "kstatus",
    version: "1.2.2",
    package: "clientgrant.dev/testbed/tools/kstatus",
    tags: "",
    ldflags: "-s -w",
    cgo: false,
    estimate: "half a minute",
};

const PROMTOOL: Recipe = Recipe {
    module: "promtool",
    binary: "promtool",
    version: "3.15.1",
    package: "github.com/prometheus/prometheus/cmd/promtool",
    // It discovers nothing here.
    tags: "remove_all_sd",
    ldflags: "-s -w -X github.com/prometheus/common/version.Version=3.15.1",
    cgo: false,
    estimate: "2 minutes",
};

/// Only the benchmark compares with it.
const MAESTER: Recipe = Recipe {
    module: "maester",
    binary: "hydra-maester",
    version: "0.0.42",
    package: MAESTER_MODULE,
    tags: "",
    ldflags: "-s -w",
    cgo: false,
    estimate: "1 minute",
};
const MAESTER_MODULE: &str = "github.com/ory/hydra-maester";

const fn kube(binary: &'static str, package: &'static str, estimate: &'static str) -> Recipe {
    Recipe { module: "kube", binary, version: "1.36.3", package, tags: "", ldflags: KUBE_LDFLAGS, cgo: false, estimate }
}

/// hydra-maester, which the benchmark compares with; no part of [`Tools`].
#[derive(Clone, Debug)]
pub struct Maester {
    /// The program.
    pub binary: PathBuf,
    /// Its module's `config` folder, with `crd/bases` and `rbac/role.yaml`.
    pub config: PathBuf,
}

impl Maester {
    /// Finds it, or builds it.
    pub fn ensure() -> Result<Self> {
        let binary = MAESTER.path()?;
        if !binary.is_file() {
            MAESTER.build(&binary)?;
        }
        // The binary may be cached where the module's sources are not any more.
        let config = module::place(MAESTER.module, MAESTER_MODULE)?.join("config");
        Ok(Self { binary, config })
    }
}

impl Tools {
    /// Finds every tool and builds those that are missing, with a line of progress for each.
    pub fn ensure() -> Result<Self> {
        Self::each(|recipe| {
            let path = recipe.path()?;
            if !path.is_file() {
                recipe.build(&path)?;
            }
            Ok(path)
        })
    }

    /// Finds every tool; an error if one has not been built.
    pub fn find() -> Result<Self> {
        Self::each(|recipe| {
            let path = recipe.path()?;
            if !path.is_file() {
                bail!(
                    "{} {} is not built ({} is missing): run `make tools`",
                    recipe.binary,
                    recipe.version,
                    path.display()
                );
            }
            Ok(path)
        })
    }

    /// All of them.
    pub fn paths(&self) -> [&Path; 10] {
        let Self { etcd, kube_apiserver, kube_controller_manager, kubectl, .. } = self;
        let Self { helm, helm3, hydra, actionlint, promtool, kstatus, .. } = self;
        [etcd, kube_apiserver, kube_controller_manager, kubectl, helm, helm3, hydra, actionlint, promtool, kstatus]
            .map(PathBuf::as_path)
    }

    fn each(locate: impl Fn(&Recipe) -> Result<PathBuf>) -> Result<Self> {
        Ok(Self {
            etcd: locate(&ETCD)?,
            hydra: locate(&HYDRA)?,
            actionlint: locate(&ACTIONLINT)?,
            helm: locate(&HELM)?,
            helm3: locate(&HELM3)?,
            promtool: locate(&PROMTOOL)?,
            kstatus: locate(&KSTATUS)?,
            kubectl: locate(&KUBECTL)?,
            kube_controller_manager: locate(&KUBE_CONTROLLER_MANAGER)?,
            kube_apiserver: locate(&KUBE_APISERVER)?,
        })
    }
}

/// Where everything that outlives a run is kept.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::home_dir()
            .context("neither XDG_CACHE_HOME nor HOME is set: set one to find the built tools")?
            .join(".cache"),
    };
    Ok(base.join("clientgrant-testbed"))
}

impl Recipe {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.module)
    }

    /// The place of the binary; it names the module's exact content, so a changed dependency or source
    /// leads to a new build and an unchanged one never does.
    fn path(&self) -> Result<PathBuf> {
        let folder = self.folder();
        let mut files = vec![folder.join("go.mod"), folder.join("go.sum")];
        let listed = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut ours: Vec<PathBuf> = listed.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        ours.retain(|path| path.extension().is_some_and(|extension| extension == "go"));
        ours.sort();
        files.append(&mut ours);
        let mut content = Vec::new();
        for file in files {
            content.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, &content);
        let hex: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(cache_dir()?.join(format!("{}-{hex}", self.module)).join(self.binary))
    }

    fn build(&self, path: &Path) -> Result<()> {
        let dir = path.parent().context("a tool's path has no folder")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // One build at a time; whoever waited finds the binary and leaves.
        let lock = File::create(dir.join(format!("{}.lock", self.binary)))
            .context("cannot create the lock file of the build")?;
        lock.lock().context("cannot lock the build")?;
        if path.is_file() {
            return Ok(());
        }
        check_go()?;
        if self.cgo {
            check_c_compiler(self.binary)?;
        }
        let title = format!("{} {}", self.binary, self.version);
        eprint!("building {title} (about {} on 2 cores) … ", self.estimate);
        let start = Instant::now();
        let partial = dir.join(format!(".{}.partial", self.binary));
        let output = self.go_build(&partial).output().context("cannot run `go build`")?;
        if !output.status.success() {
            eprintln!("failed");
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "building {title} failed in {}: check the network (Go modules are downloaded) \
                 and the disk, then run `make tools` again\n{}",
                self.folder().display(),
                stderr.trim_end()
            );
        }
        fs::rename(&partial, path).with_context(|| format!("cannot move the built {title} to {}", path.display()))?;
        eprintln!("done in {} s", start.elapsed().as_secs());
        Ok(())
    }

    fn go_build(&self, output: &Path) -> Command {
        let mut command = Command::new("go");
        command
            .current_dir(self.folder())
            .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
            .env("GOWORK", "off")
            .args(["build", "-trimpath", "-buildvcs=false"]);
        if !self.tags.is_empty() {
            command.args(["-tags", self.tags]);
        }
        command.args(["-ldflags", self.ldflags, "-o"]).arg(output).arg(self.package);
        command
    }
}

fn check_go() -> Result<()> {
    const WANTED: &str = "Go 1.26 or newer is needed to build the test servers: install it from \
                          https://go.dev/dl/ and put `go` on the PATH";
    // Outside any module, so that `go` does not fetch another toolchain for a go.mod.
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .current_dir("/")
        .output()
        .map_err(|error| anyhow!("cannot run `go` ({error}). {WANTED}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // `go1.26.8`, `go1.27rc1`; what follows the two numbers does not matter.
    let mut numbers = text
        .strip_prefix("go")
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    match version {
        Some(version) if version >= (1, 26) => Ok(()),
        Some(_) => bail!("found {text}. {WANTED}"),
        // A development build has no number; let it try.
        None if text.starts_with("devel") => Ok(()),
        None => bail!("`go env GOVERSION` says {text:?}. {WANTED}"),
    }
}

fn check_c_compiler(binary: &str) -> Result<()> {
    let output = Command::new("go").args(["env", "CC"]).current_dir("/").output().context("cannot run `go env CC`")?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let compiler = line.split_whitespace().next().unwrap_or("cc");
    match Command::new(compiler).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => bail!(
            "a C compiler is needed to build {binary} (it links SQLite) and `{compiler}` does not \
             run: install gcc or clang, or set CC"
        ),
    }
}
