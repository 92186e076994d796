//! Flags of `clientgrant run`. Each is also an environment variable, `CLIENTGRANT_…`.

use std::net::SocketAddr;

use clap::Args;

/// How the operator runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where the operator lives: its record of managed clients and the Secrets of cluster providers.
    #[arg(long, env = "CLIENTGRANT_OPERATOR_NAMESPACE", default_value = "clientgrant-system")]
    pub operator_namespace: String,
    /// Where /livez and /readyz are served.
    #[arg(long, env = "CLIENTGRANT_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
    /// Where the token hook and the consent decision are served. Without TLS only on loopback.
    #[arg(long, env = "CLIENTGRANT_DECISION_ADDRESS", default_value = "0.0.0.0:8443")]
    pub decision_address: SocketAddr,
    /// URLs that a namespaced provider may name, as they are sent however they are spelt: exact, or a prefix
    /// ending in `*`. None: no namespaced provider may connect anywhere.
    #[arg(long = "allow-provider-url", env = "CLIENTGRANT_ALLOW_PROVIDER_URL", value_delimiter = ',')]
    pub allow_provider_url: Vec<String>,
    /// Let a provider with `insecureHTTP: true` use plain HTTP elsewhere than on loopback.
    #[arg(long, env = "CLIENTGRANT_ALLOW_INSECURE_HTTP")]
    pub allow_insecure_http: bool,
    /// This cluster's mark at identity providers. Default: the UID of the namespace kube-system. Set it
    /// where clusters are copied: copies share that UID.
    #[arg(long, env = "CLIENTGRANT_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// How many clients are worked on at once.
    #[arg(long, env = "CLIENTGRANT_WORKERS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Log lines as text or as JSON.
    #[arg(long, env = "CLIENTGRANT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
