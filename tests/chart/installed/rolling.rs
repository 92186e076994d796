//! Upgrades of a release that works: pods are replaced one after the other and definitions change, while Hydra
//! goes on asking.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clientgrant_testbed::canary::client_secret;
use clientgrant_testbed::helm::chart;
use clientgrant_testbed::{ClientAuth, OAuthClient};
use serde_json::json;

use super::{GROUP, Installed, NAMESPACE, path};

const DEFINITION: &str = "files/crds/clientgrant.dev_clientgrants.yaml";
/// A line of the definition, and what is put before it.
const BEFORE: &str = "\n              clientID:\n";
const ADDED: &str = "\n              ticket:\n                description: Where it was asked for.\n                maxLength: 64\n                type: string";

/// A copy of the chart with another definition of ClientGrant.
fn changed(all: &Installed, name: &str, change: impl FnOnce(String) -> String) -> String {
    let to = all.dir.path().join(name);
    copy(&chart(), &to);
    let file = to.join(DEFINITION);
    let before = fs::read_to_string(&file).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after);
    fs::write(file, after).unwrap();
    path(to)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() { copy(&from, &to) } else { _ = fs::copy(&from, &to).unwrap() }
    }
}

/// Takes one field of the spec out of the definition.
fn without(field: &str) -> impl FnOnce(String) -> String {
    move |text| {
        let begin = text.find(&format!("\n              {field}:\n")).unwrap();
        let deeper = |line: &&str| line.starts_with("               ");
        let length: usize = text[begin + 1..].lines().skip(1).take_while(deeper).map(|line| line.len() + 1).sum();
        let head = text[begin + 1..].find('\n').unwrap() + 1;
        format!("{}{}", &text[..begin + 1], &text[begin + 1 + head + length..])
    }
}

/// Who holds the lease now.
async fn leader(all: &Installed) -> Option<String> {
    let path = format!("apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/clientgrant");
    let seen = all.read(&path).await?;
    seen["spec"]["holderIdentity"].as_str().filter(|h| !h.is_empty()).map(str::to_owned)
}

/// Helm returns when two new pods are ready; those of before may still be on their way out.
async fn replaced(all: &Installed, before: &[String]) -> Vec<String> {
    let is_new = |pod: &&String| !before.contains(pod);
    let ready = all.ready_pods();
    assert_eq!(ready.iter().filter(is_new).count(), 2, "{before:?} {ready:?}");
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let ready = all.ready_pods();
        if ready.iter().all(|pod| is_new(&pod)) {
            return ready;
        }
        assert!(Instant::now() < end, "{before:?} {ready:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Helm returns when the new pods are ready; the leader of before may then still be on its way out.
async fn led_by_one_of(all: &Installed, pods: &[String]) {
    let end = Instant::now() + Duration::from_secs(15);
    while !leader(all).await.is_some_and(|holder| pods.contains(&holder)) {
        assert!(Instant::now() < end, "none of {pods:?} leads: {:?}", leader(all).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn definitions_and_pods_change_under_load(all: &Installed) {
    let newer = changed(all, "newer", |text| text.replacen(BEFORE, &format!("{ADDED}{BEFORE}"), 1));
    let older = changed(all, "older", without("suspend"));
    let own = OAuthClient::new(&all.hydra, "batch", client_secret()).unwrap().with_auth(ClientAuth::Post);
    let over = AtomicBool::new(false);
    let load = async {
        let (mut asked, mut failed) = (0_u32, Vec::new());
        while !over.load(Ordering::Relaxed) {
            let token = own.client_credentials("ledger:read", "").await.unwrap();
            // That is no decision: Hydra v2.3.0 says so when two writes met in its database.
            if token.json["error"] == "invalid_client" {
                continue;
            }
            asked += 1;
            if token.access_token().is_none() {
                failed.push(token.json.to_string());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (asked, failed)
    };
    let lease = async {
        let (mut holders, mut since, mut longest) = (Vec::<String>::new(), Instant::now(), Duration::ZERO);
        loop {
            // Looked at once more after the end: the last of them may have come between two looks.
            let last = over.load(Ordering::Relaxed);
            if let Some(holder) = leader(all).await {
                longest = longest.max(since.elapsed());
                since = Instant::now();
                if holders.last() != Some(&holder) {
                    holders.push(holder);
                }
            }
            if last {
                break (holders, longest);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let before = all.ready_pods();
    let upgrades = async {
        all.release("upgrade", &older, &["--reuse-values", "--set", "operator.workers=8"]).await;
        let pods = replaced(all, &before).await;
        led_by_one_of(all, &pods).await;
        // Which fields are dropped without a word by this cluster, its operator says.
        let said = |log: String| log.contains("ClientGrant.spec.suspend") && log.contains("are older than");
        let end = Instant::now() + Duration::from_secs(10);
        while !all.ready_pods().iter().all(|pod| said(all.kubelet.log(NAMESPACE, pod))) {
            assert!(Instant::now() < end, "{}", all.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        all.release("upgrade", &newer, &["--reuse-values", "--set", "podAnnotations.again=yes"]).await;
        let last = replaced(all, &pods).await;
        led_by_one_of(all, &last).await;
        over.store(true, Ordering::Relaxed);
    };
    let (_, (asked, failed), (holders, longest)) = tokio::join!(upgrades, load, lease);
    println!(
        "two upgrades: {asked} tokens, {} refused; leaders {holders:?}, none for {longest:?} at most",
        failed.len()
    );
    assert!(failed.is_empty(), "{} of {asked} failed, the first: {}", failed.len(), failed[0]);
    assert!(asked > 50, "{asked}");
    assert!(holders.len() >= 3, "{holders:?}");
    assert!(longest < Duration::from_secs(4), "{longest:?}");

    // The new field is there, and the operator, which does not know it, goes on.
    let grant = format!("{GROUP}/namespaces/finance/clientgrants/reporting");
    let patch = (json!({"spec": {"ticket": "GOV-7"}}), "application/merge-patch+json");
    let (status, stored) = all.plane.call(reqwest::Method::PATCH, &grant, Some(patch)).await.unwrap();
    assert!(status == 200 && stored["spec"]["ticket"] == "GOV-7", "{status} {stored}");
    all.reason("reporting", "Granted").await;
    // Nothing is missing: `helm test` says so from a pod of its own.
    let said = all.helm_does(&format!("test clientgrant -n {NAMESPACE} --timeout 60s"), &[]).await;
    assert!(said.contains("Phase:          Succeeded"), "{said}");
}
