//! `clientgrant doctor`: whether an installation is whole. It asks nothing that wants a right of its own, so
//! that `helm test` can run it under any account.

use std::time::{Duration, Instant};

use reqwest::Url;

use super::run::{block_on, kubernetes};
use crate::controller::served;

/// What was installed this moment may still be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to look at.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where the operator answers whether it is ready. Example: `http://clientgrant.clientgrant-system.svc:8080/readyz`.
    #[arg(long)]
    ready_url: Option<Url>,
}

/// Looks, and says what is wrong.
///
/// # Errors
/// Something is wrong; the message says what.
pub fn main(args: Args) -> Result<(), String> {
    crate::install_tls();
    block_on(async {
        let end = Instant::now() + PATIENCE;
        loop {
            match look(&args).await {
                Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_secs(1)).await,
                other => return other,
            }
        }
    })
}

async fn look(args: &Args) -> Result<(), String> {
    let missing = served::missing(&kubernetes().await?).await?;
    if !missing.is_empty() {
        return Err(format!(
            "the custom resource definitions in the cluster are older than this version, or none: {} missing, {}",
            missing.len(),
            missing[0]
        ));
    }
    println!("The API server serves every definition as this version knows it.");
    if let Some(url) = &args.ready_url {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let client = client.map_err(|error| format!("the HTTP client cannot be made: {error}"))?;
        // A password in it is for the server only.
        let mut shown = url.clone();
        _ = shown.set_password(None);
        let answer = client.get(url.clone()).send().await.map_err(|_| format!("{shown} does not answer"))?;
        let status = answer.status();
        let said = answer.text().await.unwrap_or_default();
        if !status.is_success() {
            return Err(format!("{shown} says {status}: {}", said.trim()));
        }
        println!("{shown}: ready.");
    }
    Ok(())
}
