//! The durable record of managed clients: ConfigMaps in the operator's namespace.
//!
//! A mark at the IdP can be wiped by the client itself where dynamic registration is open, so what we
//! manage is written down here before the first write there. One key per client; each write touches
//! only its own key. Every replica watches the record, because a client that is not in it counts as one
//! that nobody manages. A line that vanishes or is scribbled over while it is known is written again:
//! only a line that says so is released.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{Context, publish};
use crate::grant::Managed;
use crate::grant::observed::ObservedClient;
use crate::grant::record::{self, Line, Previous, Told};

/// The label that every ConfigMap of the record carries.
pub const LABEL: &str = "clientgrant.dev/record";
const DEADLINE: Duration = Duration::from_secs(5);
/// Lines that could not be written again are tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// The record as it was last read or written: by ConfigMap, by key.
#[derive(Debug, Default)]
pub struct Book {
    pages: Mutex<BTreeMap<String, Page>>,
    /// Somebody writes lost lines again.
    restoring: AtomicBool,
}

#[derive(Debug, Default)]
struct Page {
    lines: BTreeMap<String, Line>,
    damaged: Vec<String>,
    lost: Vec<Line>,
    /// The resourceVersion of our last write: an older event does not know of it.
    version: u64,
    /// The resourceVersion of the last event: it knows of every older write.
    seen: u64,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<String, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, issuer: &str, client: &str) -> Option<Line> {
        self.pages().get(&record::shard(issuer, client))?.lines.get(&record::key(issuer, client)).cloned()
    }

    /// A line was written. Returns false if an event already said what became of it since.
    fn wrote(&self, line: &Line, version: Option<&str>) -> bool {
        let mut pages = self.pages();
        let page = pages.entry(record::shard(&line.issuer, &line.client_id)).or_default();
        let version = number(version);
        if version < page.seen {
            return false;
        }
        page.lines.insert(line.key(), line.clone());
        page.damaged.retain(|key| *key != line.key());
        page.lost.retain(|lost| lost.key() != line.key());
        page.version = page.version.max(version);
        true
    }

    /// One ConfigMap is this now; without a version: it is gone. Returns what it says, unless that is older than what
    /// we wrote.
    fn seen(&self, name: &str, version: Option<&str>, data: &BTreeMap<String, String>) -> Option<Told> {
        let mut pages = self.pages();
        let page = pages.entry(name.to_owned()).or_default();
        if version.is_some() && number(version) < page.version {
            return None;
        }
        // Of a deletion the version is not told.
        page.seen = version.map_or(page.seen, |version| number(Some(version)));
        let told = record::told(data, &page.lines);
        page.lines.extend(told.lines.iter().map(|line| (line.key(), line.clone())));
        page.damaged.clone_from(&told.damaged);
        page.lost.clone_from(&told.lost);
        Some(told)
    }

    /// The history of the cluster went back: the versions of before say nothing. What was written down since
    /// the copy is still known, and is written again.
    pub(super) fn rewind(&self) {
        self.pages().values_mut().for_each(|page| (page.version, page.seen) = (0, 0));
    }

    fn is_lost(&self, line: &Line) -> bool {
        self.pages().values().any(|page| page.lost.contains(line))
    }

    fn lost(&self) -> Vec<Line> {
        self.pages().values().flat_map(|page| page.lost.clone()).collect()
    }
}

fn number(version: Option<&str>) -> u64 {
    version.and_then(|v| v.parse().ok()).unwrap_or_default()
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.kube.clone(), &context.config.operator_namespace)
}

/// One ConfigMap of the record is this now; without data: it is gone.
pub fn seen(context: &Arc<Context>, name: &str, version: Option<&str>, data: &BTreeMap<String, String>) {
    let Some(Told { lines, lost, .. }) = context.book.seen(name, version, data) else { return };
    lines.iter().for_each(|line| tell(context, line));
    let damaged: BTreeSet<String> = context.book.pages().values().flat_map(|page| page.damaged.clone()).collect();
    if !damaged.is_empty() {
        tracing::error!(
            lines = damaged.len(),
            "lines of the record of managed clients cannot be read: these clients count as managed"
        );
    }
    context.world.set_damaged(damaged);
    if !lost.is_empty() {
        tokio::spawn(restore(context.clone()));
    }
}

/// Tells the World what a line says.
fn tell(context: &Context, line: &Line) {
    let managed = line.released.is_none().then_some(Managed { complete: line.complete });
    context.world.set_managed(&line.issuer, &line.client_id, managed);
    let due = context.world.set_released(&line.issuer, &line.client_id, line.given_back());
    context.queue.push_all(due);
}

/// Writes lines again that somebody took away or scribbled over, until none is lost.
pub async fn restore(context: Arc<Context>) {
    // A follower leaves it to the leader, which was told the same.
    while context.world.leadership().is_elected() && !context.book.restoring.swap(true, Ordering::SeqCst) {
        for line in context.book.lost() {
            // Others may have written it since.
            if !context.book.is_lost(&line) {
                continue;
            }
            tracing::warn!(
                client = line.client_id,
                issuer = line.issuer,
                "a line of the record of managed clients was lost, and is written again"
            );
            if let Err(error) = write(&context, &line).await {
                tracing::warn!(%error, "the record of managed clients could not be written");
            }
        }
        // What is lost from here on starts another one.
        context.book.restoring.store(false, Ordering::SeqCst);
        if context.book.lost().is_empty() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Writes one client down, then tells the World: before the first write at the IdP.
///
/// # Errors
/// It is not written; nothing may be done at the IdP.
pub async fn adopt(context: &Context, issuer: &str, client: &str, before: &ObservedClient) -> Result<(), kube::Error> {
    let mut previous = Previous::from(before);
    // A client of ours whose adoption was lost had something else before it was ours.
    if let Some(known) = context.book.line(issuer, client).filter(|l| l.released.is_none()) {
        previous = known.previous;
    }
    write(context, &Line::managed(issuer, client, false, previous)).await
}

/// Notes that tokens from before the adoption are ended.
///
/// # Errors
/// It is not written; the tokens are ended once more after a restart.
pub async fn complete(context: &Context, issuer: &str, client: &str) -> Result<(), kube::Error> {
    let previous = context.book.line(issuer, client).map(|l| l.previous).unwrap_or_default();
    write(context, &Line::managed(issuer, client, true, previous)).await
}

async fn write(context: &Context, line: &Line) -> Result<(), kube::Error> {
    if !context.world.leadership().leads() {
        return Err(kube::Error::Service(Box::new(std::io::Error::other("this replica does not lead"))));
    }
    let stored = publish::within(DEADLINE, put(&api(context), line)).await?;
    if context.book.wrote(line, stored.metadata.resource_version.as_deref()) {
        tell(context, line);
    }
    Ok(())
}

/// Stores one line and leaves the others alone.
///
/// # Errors
/// The API server did not take it.
pub async fn put(api: &Api<ConfigMap>, line: &Line) -> Result<ConfigMap, kube::Error> {
    let name = record::shard(&line.issuer, &line.client_id);
    let text = serde_json::to_string(line).map_err(kube::Error::SerdeError)?;
    let entry = BTreeMap::from([(line.key(), text)]);
    let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: "managed-clients"}}, "data": entry}));
    match api.patch(&name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        other => return other,
    }
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some([(LABEL.to_owned(), "managed-clients".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(entry),
        ..ConfigMap::default()
    };
    match api.create(&PostParams::default(), &map).await {
        // Somebody else was faster: its keys stay, ours is added.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            api.patch(&name, &PatchParams::default(), &patch).await
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_came_before_the_answer_to_a_write_stays() {
        let line = |complete| Line::managed("https://idp", "a", complete, Previous::default());
        let released = Line { released: Some("2026-01-01T00:00:00Z".into()), ..line(true) };
        let (book, name) = (Book::default(), record::shard("https://idp", "a"));
        let page = |line: &Line| BTreeMap::from([(line.key(), serde_json::to_string(line).unwrap())]);
        assert!(book.wrote(&line(false), Some("9")));
        assert!(book.seen(&name, Some("8"), &BTreeMap::new()).is_none(), "older than our write");
        assert!(book.wrote(&line(true), Some("10")) && book.seen(&name, Some("10"), &page(&line(true))).is_some());
        assert!(book.seen(&name, Some("100"), &page(&released)).is_some());
        assert!(!book.wrote(&line(true), Some("11")), "the answer comes late");
        assert_eq!(book.line("https://idp", "a"), Some(released));
        book.rewind();
        assert!(book.wrote(&line(true), Some("12")), "the history of before says nothing");
    }
}
