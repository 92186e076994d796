//! Ory Hydra on loopback.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::net::{free_port, http, wait_http};
use crate::{HydraAdmin, Process, RunDir, Tools, canary};

const START: Duration = Duration::from_secs(60);

/// How Hydra asks before it issues a token.
#[derive(Clone, Debug)]
pub struct TokenHook {
    /// Where it posts.
    pub url: String,
    /// What it sends in the header `X-Api-Key`.
    pub api_key: String,
}

/// Where Hydra keeps its data.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Storage {
    /// Lost at every restart.
    #[default]
    Memory,
    /// A SQLite file that stays over [`Hydra::restart`].
    Sqlite,
}

/// How Hydra is configured.
#[derive(Clone, Debug)]
pub struct HydraOptions {
    /// The token hook; none by default.
    pub token_hook: Option<TokenHook>,
    /// Memory by default.
    pub storage: Storage,
    /// The login page. Nobody listens there: the user agent only reads the redirect.
    pub login_url: String,
    /// The consent page, likewise.
    pub consent_url: String,
    /// Configuration merged over the rest, object by object.
    pub extra: Value,
    /// A PEM file with the authorities that it trusts where it calls; those of the machine by default.
    pub trust: Option<PathBuf>,
}

impl Default for HydraOptions {
    fn default() -> Self {
        Self {
            token_hook: None,
            storage: Storage::Memory,
            login_url: "http://127.0.0.1:1/login".to_owned(),
            consent_url: "http://127.0.0.1:1/consent".to_owned(),
            extra: Value::Null,
            trust: None,
        }
    }
}

/// A running Hydra; it ends when this is dropped.
#[derive(Debug)]
pub struct Hydra {
    // Dropped before the directory.
    process: Option<Process>,
    binary: PathBuf,
    options: HydraOptions,
    public: u16,
    admin: HydraAdmin,
    admin_port: u16,
    client: reqwest::Client,
    dir: RunDir,
}

impl Hydra {
    /// Starts Hydra on two free ports and waits until both answer.
    pub async fn start(tools: &Tools, options: HydraOptions) -> Result<Self> {
        let admin_port = free_port()?;
        let client = http().build().context("cannot build an HTTP client")?;
        let admin = HydraAdmin::new(&format!("http://127.0.0.1:{admin_port}"), client.clone());
        let mut hydra = Self {
            process: None,
            binary: tools.hydra.clone(),
            options,
            public: free_port()?,
            admin,
            admin_port,
            client,
            dir: RunDir::new("hydra")?,
        };
        hydra.boot().await?;
        Ok(hydra)
    }

    /// The admin API, without a slash at the end.
    pub fn admin_url(&self) -> &str {
        self.admin.base()
    }

    /// The public endpoints, without a slash at the end.
    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.public)
    }

    /// The issuer as Hydra writes it, with a slash at the end.
    pub fn issuer(&self) -> String {
        format!("{}/", self.public_url())
    }

    /// Calls of the admin API.
    pub fn admin(&self) -> &HydraAdmin {
        &self.admin
    }

    /// Where its configuration and log lie.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// The process.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("Hydra is stopped: call restart first")
    }

    /// The configuration that the next [`Hydra::restart`] uses.
    pub fn options_mut(&mut self) -> &mut HydraOptions {
        &mut self.options
    }

    /// Kills Hydra; with [`Storage::Memory`] everything in it is lost.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills Hydra if it runs and starts it on the same ports.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        self.boot().await
    }

    async fn boot(&mut self) -> Result<()> {
        let config = format!("{:#}\n", self.config()?);
        let config = self.dir.write("hydra.json", config)?;
        if self.options.storage == Storage::Sqlite {
            self.migrate(&config).await?;
        }
        let mut command = self.command();
        command.args(["serve", "all", "--dev", "-c"]).arg(&config);
        let process = Process::spawn(&self.dir, "hydra", command)?;
        let admin = format!("{}/health/ready", self.admin_url());
        wait_http(&self.client, &admin, &process, START).await?;
        let public = format!("{}/health/ready", self.public_url());
        wait_http(&self.client, &public, &process, START).await?;
        self.process = Some(process);
        Ok(())
    }

    async fn migrate(&self, config: &std::path::Path) -> Result<()> {
        let mut command = self.command();
        command.args(["migrate", "sql", "up", "--yes", "--read-from-env", "-c"]).arg(config);
        command.env("DSN", self.dsn()?);
        let process = Process::spawn(&self.dir, "migrate", command)?;
        let status = process.wait_exit(START).await?;
        if !status.success() {
            bail!("the migration of Hydra's database failed; {}", process.log_tail(20));
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("SQA_OPT_OUT", "true");
        if let Some(path) = &self.options.trust {
            command.env("SSL_CERT_FILE", path);
        }
        command
    }

    fn dsn(&self) -> Result<String> {
        Ok(match self.options.storage {
            Storage::Memory => "memory".to_owned(),
            Storage::Sqlite => {
                let file = self.dir.data("sqlite")?.join("hydra.sqlite");
                format!("sqlite://{}?_fk=true", file.display())
            }
        })
    }

    fn config(&self) -> Result<Value> {
        let mut config = json!({
            "dsn": self.dsn()?,
            "serve": {
                "public": { "host": "127.0.0.1", "port": self.public },
                "admin": { "host": "127.0.0.1", "port": self.admin_port },
            },
            "urls": {
                "self": { "issuer": self.issuer() },
                "login": self.options.login_url,
                "consent": self.options.consent_url,
            },
            "strategies": { "scope": "exact", "access_token": "opaque" },
            "secrets": { "system": [canary::system_secret()] },
            "sqa": { "opt_out": true },
            "log": { "level": "info" },
        });
        if let Some(hook) = &self.options.token_hook {
            let key = json!({ "in": "header", "name": "X-Api-Key", "value": hook.api_key });
            let auth = json!({ "type": "api_key", "config": key });
            config["oauth2"] = json!({ "token_hook": { "url": hook.url, "auth": auth } });
        }
        merge(&mut config, &self.options.extra);
        Ok(config)
    }
}

/// Puts `over` into `base`: objects key by key, anything else whole; null changes nothing.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
