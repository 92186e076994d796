//! `clientgrant run`: the operator.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::clock;
use crate::config::{Config, LogFormat};
use crate::controller::{Context, provider, reconcile, record, watch};
use crate::serve;

/// Runs until the process is asked to stop.
///
/// # Errors
/// It cannot start; the message says what to change.
pub fn main(config: Config) -> Result<(), String> {
    crate::install_tls();
    telemetry(config.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime could not be started: {error}"))?;
    runtime.block_on(run(config))
}

fn telemetry(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

async fn run(config: Config) -> Result<(), String> {
    let mut settings = kube::Config::infer()
        .await
        .map_err(|error| format!("no Kubernetes configuration ({error}); set KUBECONFIG or run in a cluster"))?;
    // A watch that died silently is found by its reads; nothing is retried behind our back.
    settings.read_timeout = Some(Duration::from_secs(u64::from(watch::WATCH_TIMEOUT) + 5));
    settings.connect_timeout = Some(Duration::from_secs(5));
    settings.default_retry = false;
    let kube = Client::try_from(settings).map_err(|error| format!("the Kubernetes client cannot be made: {error}"))?;

    let cluster = cluster_id(&kube, &config).await;
    let context = Arc::new(Context::new(kube, config, cluster));
    let config = &context.config;
    let health = serve::listen(config.health_address, "health", serve::health::router(context.clone())).await?;
    tracing::info!(address = %health, "serving /livez and /readyz");
    let decisions = config.decision_address;
    if decisions.ip().is_loopback() {
        let bound = serve::listen(decisions, "decisions", serve::decisions(context.clone())).await?;
        tracing::info!(address = %bound, "serving the token hook and the consent decision over plain HTTP (loopback)");
    } else {
        tracing::warn!(address = %decisions, "the token hook and the consent decision are off: plain HTTP is served on loopback only");
    }

    let (send, changes) = mpsc::unbounded_channel();
    tokio::spawn(provider::run(context.clone(), changes));
    tokio::spawn(load_record(context.clone()));
    watch::start(&context, &send);
    tokio::spawn(begin(context.clone()));
    for _ in 0..context.config.workers {
        tokio::spawn(reconcile::worker(context.clone()));
    }
    stopped().await;
    tracing::info!("stopping");
    Ok(())
}

/// Everything has been read: what is overdue is ended first.
async fn begin(context: Arc<Context>) {
    while !context.world.complete() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = clock::now();
    for (key, part, at, lane) in context.world.looks(now) {
        context.queue.at(&key, part, at, lane);
    }
    let dues = context.world.unsettled(None, now);
    let overdue = dues.iter().filter(|d| d.lane == crate::world::Lane::End).count();
    tracing::info!(due = dues.len(), overdue, "everything has been read");
    context.queue.begin(dues);
}

async fn load_record(context: Arc<Context>) {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), record::load(&context)).await {
            Ok(Ok(clients)) => {
                tracing::info!(clients, "the record of managed clients has been read");
                return;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the record of managed clients could not be read"),
            Err(_) => tracing::warn!("the record of managed clients could not be read in time"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// This cluster's mark: `--cluster-id`, or the UID of `kube-system`. Waits until it is known: without
/// it nothing may be written anywhere.
async fn cluster_id(kube: &Client, config: &Config) -> String {
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
