//! `clientgrant sweep --once`: ends at the identity providers what has passed its end date, and nothing
//! else.
//!
//! For a CronJob under an account of its own, so that ends do not depend on the operator alone: everything
//! is listed anew, no lease is asked for, and nothing is written to the cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::run::{block_on, cluster_id, kubernetes, telemetry};
use crate::clock;
use crate::config::Config;
use crate::controller::{Context, provider, reconcile, watch};
use crate::lease::Leadership;

/// The cluster has this long to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to sweep.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Sweep once and end. There is no other way yet.
    #[arg(long, required = true)]
    once: bool,
    #[command(flatten)]
    config: Config,
}

/// Sweeps once.
///
/// # Errors
/// Something past its end may not have been ended; the message says what.
pub fn main(args: Args) -> Result<(), String> {
    crate::install_tls();
    telemetry(args.config.log_format);
    block_on(sweep(args.config))
}

async fn sweep(config: Config) -> Result<(), String> {
    let kube = kubernetes().await?;
    let late = |_| "the Kubernetes API did not answer within a minute".to_owned();
    let cluster = tokio::time::timeout(PATIENCE, cluster_id(&kube, &config)).await.map_err(late)?;
    let context = Arc::new(Context::new(kube, config, cluster, "sweep".into(), Arc::new(Leadership::ending())));
    let (send, changes) = mpsc::unbounded_channel();
    tokio::spawn(provider::run(context.clone(), changes));
    watch::start(&context, &send);
    tokio::time::timeout(PATIENCE, context.all_read()).await.map_err(late)?;
    let dues = context.world.overdue(clock::now());
    let all: usize = dues.iter().map(|due| due.grants.len()).sum();
    let looks = dues.into_iter().map(|due| reconcile::end(&context, due));
    let ended: usize = futures::future::join_all(looks).await.iter().map(std::collections::BTreeSet::len).sum();
    println!("{ended} of {all} grants that were past their end and not confirmed are ended");
    if ended == all { Ok(()) } else { Err(format!("{} could not be ended; the log says why", all - ended)) }
}
