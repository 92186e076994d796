//! `clientgrant run`: the operator.

use std::error::Error as _;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::config::{InferConfigError, KubeconfigError};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::ClientGrant;
use crate::clock;
use crate::config::{Config, LogFormat};
use crate::controller::{Context, provider, quarantine, reconcile, record, served, sharing, watch};
use crate::hex;
use crate::lease::{self, Leadership, Timing};
use crate::serve;

/// How often the API server is asked whether it answers.
const LISTEN_AGAIN: Duration = Duration::from_secs(15);
/// The same while it does not.
const LISTEN_SOON: Duration = Duration::from_secs(2);

/// Runs until the process is asked to stop.
///
/// # Errors
/// It cannot start; the message says what to change.
pub fn main(config: Config) -> Result<(), String> {
    crate::install_tls();
    telemetry(config.log_format);
    block_on(run(config))
}

/// Runs a subcommand to its end.
pub(super) fn block_on(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime could not be started: {error}"))?;
    runtime.block_on(work)
}

pub(super) fn telemetry(format: LogFormat) {
    match format {
        LogFormat::Text => tracing_subscriber::fmt()
            .with_env_filter(filter())
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(false)
            .init(),
        LogFormat::Json => json(std::io::stderr).init(),
    }
}

fn filter() -> EnvFilter {
    // Whatever is asked for: one level more and the lines of a kubeconfig would be repeated.
    let silent = Directive::from_str("kube_client::config=debug").into_iter();
    let asked = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    silent.fold(asked, EnvFilter::add_directive)
}

/// One JSON object a line. Of the spans the current one says what a line belongs to.
pub(crate) fn json<W>(writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(writer)
        .with_target(false)
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .finish()
}

/// The client of the Kubernetes API.
pub(super) async fn kubernetes() -> Result<Client, String> {
    let mut settings = kube::Config::infer().await.map_err(|error| {
        let why = unreadable(&error).unwrap_or_else(|| error.to_string());
        format!("no Kubernetes configuration ({why}); set KUBECONFIG or run in a cluster")
    })?;
    // A watch that died silently is found by its reads; nothing is retried behind our back.
    settings.read_timeout = Some(Duration::from_secs(u64::from(watch::WATCH_TIMEOUT) + 5));
    settings.connect_timeout = Some(Duration::from_secs(5));
    settings.default_retry = false;
    Client::try_from(settings).map_err(|error| format!("the Kubernetes client cannot be made: {error}"))
}

/// What is wrong with a kubeconfig that cannot be read, without its lines: they have credentials in them, and the
/// library repeats them.
fn unreadable(error: &InferConfigError) -> Option<String> {
    match error.source()?.downcast_ref()? {
        KubeconfigError::Parse(wrong) => {
            let line = wrong.location().map(|at| format!(", line {}", at.line())).unwrap_or_default();
            Some(format!("the kubeconfig is not one, or no YAML{line}"))
        }
        _ => None,
    }
}

async fn run(config: Config) -> Result<(), String> {
    let certificate = match serve::tls::Files::of(&config)? {
        Some(files) => Some(files.load().await?),
        None => None,
    };
    let kube = kubernetes().await?;
    let cluster = cluster_id(&kube, &config).await;
    let leadership = Arc::new(match config.leader_election {
        true => Leadership::elected(Timing::new(config.lease_duration)),
        false => Leadership::alone(),
    });
    let identity = config.identity.clone().map_or_else(random_name, Ok)?;
    let context = Arc::new(Context::new(kube, config, cluster, identity.clone(), leadership.clone()));
    let config = &context.config;
    let router = serve::health::router(context.clone(), certificate.clone());
    let health = serve::listen(config.health_address, "health", router, None).await?;
    tracing::info!(address = %health, "serving /livez and /readyz");
    serve_decisions(&context, certificate).await?;

    let (send, changes) = mpsc::unbounded_channel();
    tokio::spawn(provider::run(context.clone(), changes));
    watch::start(&context, &send);
    tokio::spawn(listen_to_the_api_server(context.clone()));
    tokio::spawn(served::watch(context.clone()));
    tokio::spawn(quarantine::run(context.clone()));
    tokio::spawn(sharing::run(context.clone()));
    tokio::spawn(lead(context.clone()));
    let leases = Api::<Lease>::namespaced(context.kube.clone(), &config.operator_namespace);
    let election =
        config.leader_election.then(|| tokio::spawn(lease::run(leases.clone(), identity.clone(), leadership.clone())));
    for _ in 0..context.config.workers {
        tokio::spawn(reconcile::worker(context.clone()));
    }
    stopped().await;
    tracing::info!("stopping");
    if let Some(election) = election {
        election.abort();
        lease::release(&leases, &identity, &leadership).await;
    }
    Ok(())
}

/// Serves the token hook and the consent decision, unless that would be plain HTTP beyond this machine.
async fn serve_decisions(context: &Arc<Context>, certificate: Option<serve::tls::Pair>) -> Result<(), String> {
    let address = context.config.decision_address;
    let scheme = match certificate {
        Some(_) => "HTTPS",
        None if address.ip().is_loopback() => "plain HTTP (loopback)",
        None => {
            tracing::warn!(%address, "the token hook and the consent decision are off: plain HTTP is served on loopback only; set --decision-tls-cert and --decision-tls-key");
            return Ok(());
        }
    };
    let bound = serve::listen(address, "decisions", serve::decisions(context.clone()), certificate).await?;
    tracing::info!(address = %bound, "serving the token hook and the consent decision over {scheme}");
    Ok(())
}

/// Everything has been read: while this replica leads, clients are looked at, and what is overdue is
/// ended first.
async fn lead(context: Arc<Context>) {
    context.all_read().await;
    tracing::info!("everything has been read");
    for (due, part, at) in context.world.looks(clock::now()) {
        context.queue.at(due, part, at);
    }
    let mut news = context.world.leadership().news();
    loop {
        if *news.borrow_and_update() {
            context.forget();
            let dues = context.world.unsettled(None, clock::now());
            let overdue = dues.iter().filter(|d| d.lane == crate::world::Lane::End).count();
            tracing::info!(due = dues.len(), overdue, "looking at what is due");
            context.queue.begin(dues);
            tokio::spawn(record::restore(context.clone()));
        } else {
            context.queue.pause();
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// A watch that says nothing may be one on which nothing happens, or one that is dead: a list of one
/// object, from the newest there is, tells them apart.
async fn listen_to_the_api_server(context: Arc<Context>) {
    let api: Api<ClientGrant> = match context.config.watch_namespaces.first() {
        Some(namespace) => Api::namespaced(context.kube.clone(), namespace),
        None => Api::all(context.kube.clone()),
    };
    let mut newest = 0;
    loop {
        match tokio::time::timeout(Duration::from_secs(10), api.list_metadata(&ListParams::default().limit(1))).await {
            Ok(Ok(list)) => {
                // Of the whole cluster, and it never goes back while the cluster lives on.
                let version = list.metadata.resource_version.and_then(|v| v.parse::<u64>().ok()).unwrap_or(newest);
                if version < newest {
                    tracing::error!(
                        "the cluster was restored from an older copy: nothing is collected until a person releases it"
                    );
                    // What is known is as old as it was until everything was read anew.
                    context.rewind();
                } else {
                    context.world.heard();
                }
                newest = version;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the API server refuses a list"),
            Err(_) => tracing::warn!("the API server does not answer"),
        }
        tokio::time::sleep(if context.world.fresh(LISTEN_AGAIN * 2) { LISTEN_AGAIN } else { LISTEN_SOON }).await;
    }
}

/// A name that no other replica has.
fn random_name() -> Result<String, String> {
    hex::random::<8>().ok_or_else(|| "the system gives no random numbers; set --identity".to_owned())
}

/// This cluster's mark: `--cluster-id`, or the UID of `kube-system`. Waits until it is known: without
/// it nothing may be written anywhere.
pub(super) async fn cluster_id(kube: &Client, config: &Config) -> String {
    if let Some(id) = &config.cluster_id {
        return id.clone();
    }
    loop {
        let api: Api<Namespace> = Api::all(kube.clone());
        match tokio::time::timeout(Duration::from_secs(10), api.get("kube-system")).await {
            Ok(Ok(namespace)) => {
                if let Some(uid) = namespace.uid() {
                    return uid;
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the namespace kube-system cannot be read; set --cluster-id"),
            Err(_) => tracing::warn!("the API server does not answer"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        },
        Err(_) => _ = interrupt.await,
    }
}
