//! Flags of `clientgrant run`. Each is also an environment variable, `CLIENTGRANT_…`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::api;
use crate::sharing::role::Appointed;

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
    /// A PEM file with the certificate of the decision endpoints and what it is signed by, the own one first.
    /// With it and its key they are served over HTTPS on any address. Read again when it changes.
    #[arg(long, env = "CLIENTGRANT_DECISION_TLS_CERT")]
    pub decision_tls_cert: Option<PathBuf>,
    /// A PEM file with the private key of `--decision-tls-cert`, not encrypted.
    #[arg(long, env = "CLIENTGRANT_DECISION_TLS_KEY")]
    pub decision_tls_key: Option<PathBuf>,
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
    /// See these namespaces only, and need no right beyond them. Grants, identities and providers of others do
    /// not exist then, nor do cluster providers and quarantines, which belong to no namespace. Default: the
    /// whole cluster.
    #[arg(long, env = "CLIENTGRANT_WATCH_NAMESPACES", value_delimiter = ',', requires = "cluster_id", value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// Of several replicas let one write. Without election this process takes itself for the only one.
    #[arg(long, env = "CLIENTGRANT_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// The name of this replica in the Lease: the name of its pod, or anything that no other replica has.
    /// Default: a random one, and then a restarted process waits until its own lease has run out.
    #[arg(long, env = "CLIENTGRANT_IDENTITY", value_parser = identity)]
    pub identity: Option<String>,
    /// How long a replica that died keeps the lease. Example: `10s`, the default; at least `2s`.
    #[arg(long, env = "CLIENTGRANT_LEASE_DURATION", default_value = "10s", value_parser = duration)]
    pub lease_duration: Duration,
    /// Decision points refuse when the API server has not answered for this long. Example: `5m`.
    #[arg(long, env = "CLIENTGRANT_MAX_STALENESS", default_value = "5m", value_parser = duration)]
    pub max_staleness: Duration,
    /// What nobody declares any more is removed when all sweeps of this time agree. Example: `10m`.
    #[arg(long, env = "CLIENTGRANT_SWEEP_AGREEMENT", default_value = "10m", value_parser = duration)]
    pub sweep_agreement: Duration,
    /// Consents under a grant that the provider's rules do not allow any more are removed after this time,
    /// in which this process has seen it so. Example: `24h`.
    #[arg(long, env = "CLIENTGRANT_UNADMITTED_GRACE", default_value = "24h", value_parser = duration)]
    pub unadmitted_grace: Duration,
    /// A deleted grant whose revocation cannot be done stays for this long; then a PendingRevocation in the
    /// operator's namespace keeps the duty, and the grant goes. Example: `5m`.
    #[arg(long, env = "CLIENTGRANT_HANDOVER_AFTER", default_value = "5m", value_parser = duration)]
    pub handover_after: Duration,
    /// Watch ServiceAccounts and workloads, and say of clients that a ClientIdentity speaks about whether
    /// something else can act as them. No Secret is read.
    #[arg(long, env = "CLIENTGRANT_DETECT_SHARING", default_value_t = true, action = clap::ArgAction::Set)]
    pub detect_sharing: bool,
    /// What is absent for this long counts as a finding: a grant that nobody uses, a credential without a holder or
    /// without a grant. Before, it may only be late. Example: `10m`.
    #[arg(long, env = "CLIENTGRANT_SHARING_GRACE", default_value = "10m", value_parser = duration)]
    pub sharing_grace: Duration,
    /// Look also at who may read the Secrets of clients, mint their tokens or change their workloads by RBAC
    /// (SC-204, SC-205). Needs the right to list roles and their bindings.
    #[arg(long, env = "CLIENTGRANT_SHARING_RBAC", default_value_t = false, action = clap::ArgAction::Set)]
    pub sharing_rbac: bool,
    /// Look also at what workloads receive from ConfigMaps: ids and credentials of clients there (SC-401). No value is
    /// kept. Needs the right to list ConfigMaps.
    #[arg(long, env = "CLIENTGRANT_SHARING_CONFIGMAPS", default_value_t = false, action = clap::ArgAction::Set)]
    pub sharing_configmaps: bool,
    /// Who has credentials of others by its job: issuer, verifier, broker or platform, and a ServiceAccount
    /// (NAMESPACE/NAME) or a workload (NAMESPACE/KIND/NAME). Example: `issuer=auth/Deployment/dex`. May be repeated.
    #[arg(long, env = "CLIENTGRANT_SHARING_ROLE", value_name = "ROLE=WHO", value_delimiter = ',')]
    pub sharing_role: Vec<Appointed>,
    /// As which objects findings of shared credentials are reported: Reports of `openreports.io`, PolicyReports of
    /// `wgpolicyk8s.io`, whichever of them the cluster has in this order, or none.
    #[arg(long = "report-api", env = "CLIENTGRANT_REPORT_API", value_enum, default_value = "auto")]
    pub report_api: ReportApi,
    /// How many clients are worked on at once.
    #[arg(long, env = "CLIENTGRANT_WORKERS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Log lines as text or as JSON.
    #[arg(long, env = "CLIENTGRANT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

fn duration(text: &str) -> Result<Duration, String> {
    api::duration::parse(text).ok_or_else(|| "use the form 30s, 5m, 2h or 1d".to_owned())
}

fn namespace(text: &str) -> Result<String, String> {
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=63).contains(&text.len()) && text.bytes().all(label);
    fits.then(|| text.to_owned()).ok_or_else(|| "use names of namespaces, separated by commas".to_owned())
}

fn identity(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic() && !b"()\\".contains(&b));
    fits.then(|| text.to_owned()).ok_or_else(|| "use 1 to 253 visible ASCII characters without parentheses".to_owned())
}

/// As which objects findings are reported.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportApi {
    /// The first of the two that the cluster has, looked at for ever.
    Auto,
    /// `openreports.io/v1alpha1`.
    #[value(name = "openreports")]
    OpenReports,
    /// `wgpolicyk8s.io/v1alpha2`.
    #[value(name = "wgpolicy")]
    WgPolicy,
    /// Nothing is reported.
    None,
}

/// How log lines look.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
