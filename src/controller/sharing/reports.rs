//! Writing policy reports, where the cluster has a kind for them.
//!
//! A task of its own, so that nothing waits for it. It knows what it wrote, and writes differences only; it reads
//! what is there when it begins to lead, and now and then. What others made has no label of ours and is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams, Preconditions};
use serde_json::json;
use tokio::sync::watch as watch_channel;

use super::Known;
use crate::config::ReportApi;
use crate::controller::Context;
use crate::controller::publish::{self, MANAGER};
use crate::discovery;
use crate::grant::GrantName;
use crate::sharing::facts::resource;
use crate::sharing::finding::{Evaluation, Object};
use crate::sharing::report::{self, LABELS, Name, Report, Reports, SOURCE, View};

/// It is looked this often for which kinds the cluster has, and what failed is tried again.
const LOOK: Duration = Duration::from_secs(20);
/// What is there is read this often.
const READ: Duration = Duration::from_secs(600);
/// For one answer of the API server.
const DEADLINE: Duration = Duration::from_secs(10);
/// Objects in one answer.
const PAGE: u32 = 100;
/// After so many failures in a row it is tried again later.
const FAILURES: usize = 20;

/// What should be reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// There is a `ClientIdentity`. Without one the cluster is not asked for anything.
    anybody: bool,
    /// `None`: that is not known.
    reports: Option<Arc<Reports>>,
}

/// Where the evaluation leaves what should be reported.
#[derive(Debug)]
pub(super) struct Desk {
    wanted: watch_channel::Sender<Wanted>,
    /// The cluster has a kind for it.
    served: AtomicBool,
}

impl Default for Desk {
    fn default() -> Self {
        Self { wanted: watch_channel::Sender::new(Wanted::default()), served: AtomicBool::new(false) }
    }
}

/// Leaves what was found; `None`: what was reported stays.
pub(super) fn want(context: &Context, known: &[Known], found: Option<&Evaluation>, leads: bool) {
    let desk = &context.sharing.reports;
    let anybody = !known.is_empty();
    let reports = match found {
        _ if !leads || !desk.served.load(Ordering::Relaxed) => None,
        None => return,
        Some(found) => Some(Arc::new(reports(context, known, found))),
    };
    let new = Wanted { anybody, reports };
    desk.wanted.send_if_modified(|old| {
        let news = *old != new;
        *old = new;
        news
    });
}

fn reports(context: &Context, known: &[Known], found: &Evaluation) -> Reports {
    let neighbours = super::neighbours(known);
    let mut uids = BTreeMap::<Object, String>::new();
    for one in known {
        uids.extend(one.object.metadata.uid.clone().map(|uid| (one.declared.object.clone(), uid)));
    }
    for Object { kind, namespace, name } in
        found.findings.iter().map(|f| &f.subject).filter(|s| s.kind == "ClientGrant")
    {
        let grant = context.world.entry(&GrantName { namespace: namespace.to_string(), name: name.to_string() });
        let object = Object::new(kind.clone(), namespace.clone(), name.clone());
        uids.extend(grant.map(|entry| (object, entry.grant.uid.to_string())));
    }
    let picture = context.sharing.picture();
    let subjects = found.findings.iter().map(|f| &f.subject);
    uids.extend(subjects.filter_map(|of| Some((of.clone(), picture.uid(of)?.to_owned()))));
    drop(picture);
    let view = View { neighbours: &neighbours, namespaces: &context.config.watch_namespaces };
    report::reports(&found.findings, view, |object| uids.get(object).cloned())
}

/// One of the two kinds of report that clusters have. Their fields are the same, as far as they are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    OpenReports,
    WgPolicy,
}

impl Dialect {
    /// The better one first.
    fn all(of: ReportApi) -> &'static [Self] {
        match of {
            ReportApi::Auto => &[Self::OpenReports, Self::WgPolicy],
            ReportApi::OpenReports => &[Self::OpenReports],
            ReportApi::WgPolicy => &[Self::WgPolicy],
            ReportApi::None => &[],
        }
    }

    fn resource(self, scope: Scope) -> ApiResource {
        let (group, version, kind, plural) = match (self, scope) {
            (Self::OpenReports, Scope::Namespace) => ("openreports.io", "v1alpha1", "Report", "reports"),
            (Self::OpenReports, Scope::Cluster) => ("openreports.io", "v1alpha1", "ClusterReport", "clusterreports"),
            (Self::WgPolicy, Scope::Namespace) => ("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"),
            (Self::WgPolicy, Scope::Cluster) => {
                ("wgpolicyk8s.io", "v1alpha2", "ClusterPolicyReport", "clusterpolicyreports")
            }
        };
        resource(group, version, kind, plural)
    }
}

/// Where a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Namespace,
    Cluster,
}

impl Scope {
    fn of(name: &Name) -> Self {
        if name.0.is_empty() { Self::Cluster } else { Self::Namespace }
    }
}

/// A report that is there.
#[derive(Debug)]
struct Stored {
    says: u64,
    uid: Option<String>,
    version: Option<String>,
}

impl Stored {
    fn of(object: &DynamicObject) -> Self {
        let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
        let says = serde_json::from_value::<Report>(object.data.clone()).map_or(0, |report| says(&report, owners));
        Self { says, uid: object.metadata.uid.clone(), version: object.metadata.resource_version.clone() }
    }
}

/// What is compared, as a number.
fn says(report: &Report, owners: &[OwnerReference]) -> u64 {
    let mut hasher = DefaultHasher::new();
    report.hash(&mut hasher);
    for owner in owners {
        (&owner.api_version, &owner.kind, &owner.name, &owner.uid).hash(&mut hasher);
    }
    hasher.finish()
}

fn owners(report: &Report) -> Vec<OwnerReference> {
    let owner = report.owner().map(|of| OwnerReference {
        api_version: of.api_version.clone(),
        kind: of.kind.clone(),
        name: of.name.clone(),
        uid: of.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    });
    owner.into_iter().collect()
}

/// What is there in one kind, as it was read or written last.
#[derive(Debug)]
struct Shelf {
    read: Instant,
    stored: BTreeMap<Name, Stored>,
}

struct Reporter {
    context: Arc<Context>,
    /// Kinds that the cluster has.
    served: BTreeSet<(Dialect, Scope)>,
    looked: Option<Instant>,
    shelves: BTreeMap<(Dialect, Scope), Shelf>,
    /// What was complained of already since all went well.
    complained: BTreeSet<String>,
}

/// Writes for ever.
pub(super) async fn run(context: Arc<Context>) {
    if !context.config.detect_sharing || context.config.report_api == ReportApi::None {
        return;
    }
    let mut wanted = context.sharing.reports.wanted.subscribe();
    let mut news = context.world.leadership().news();
    let mut rewound = context.anew.subscribe();
    let mut reporter = Reporter {
        context: context.clone(),
        served: BTreeSet::new(),
        looked: None,
        shelves: BTreeMap::new(),
        complained: BTreeSet::new(),
    };
    loop {
        tokio::select! {
            Ok(()) = wanted.changed() => {}
            // Another replica may have written since, or history went back.
            Ok(()) = news.changed() => reporter.shelves.clear(),
            Ok(()) = rewound.changed() => reporter.shelves.clear(),
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = wanted.borrow_and_update().clone();
        if context.world.leadership().leads() && (now.anybody || !reporter.shelves.is_empty()) {
            reporter.turn(&now, &wanted).await;
        }
    }
}

impl Reporter {
    async fn turn(&mut self, now: &Wanted, wanted: &watch_channel::Receiver<Wanted>) {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            self.look().await;
        }
        let Some(reports) = &now.reports else { return };
        let first = self.served.first().map(|(dialect, _)| *dialect);
        let (nothing, mut well) = (Reports::new(), true);
        for (dialect, scope) in self.served.clone() {
            // What was written before the better kind came is taken away.
            let reports = if first == Some(dialect) { reports } else { &nothing };
            well &= self.settle(dialect, scope, now.anybody, reports, wanted).await;
        }
        if well {
            self.complained.clear();
        }
        // The last ClientIdentity is gone, and everything with it.
        if !now.anybody && self.shelves.values().all(|shelf| shelf.stored.is_empty()) {
            self.shelves.clear();
        }
    }

    /// Finds out which kinds the cluster has.
    async fn look(&mut self) {
        let whole = self.context.config.watch_namespaces.is_empty();
        for dialect in Dialect::all(self.context.config.report_api) {
            let of = dialect.resource(Scope::Namespace).api_version;
            // Without an answer what was known stays.
            let Ok(names) = answer(discovery::resources(&self.context.kube, &of)).await else { continue };
            for scope in [Scope::Namespace, Scope::Cluster] {
                let wanted = whole || scope == Scope::Namespace;
                let key = (*dialect, scope);
                if wanted && names.contains(&dialect.resource(scope).plural) {
                    self.served.insert(key);
                } else {
                    self.served.remove(&key);
                    self.shelves.remove(&key);
                }
            }
        }
        self.looked = Some(Instant::now());
        let any = !self.served.is_empty();
        if self.context.sharing.reports.served.swap(any, Ordering::Relaxed) != any {
            tracing::info!(kinds = ?self.served, "policy reports: what the cluster has changed");
            self.context.sharing.wake();
        }
    }

    /// Makes what is there what should be there. True if that is so now.
    async fn settle(
        &mut self,
        dialect: Dialect,
        scope: Scope,
        anybody: bool,
        reports: &Reports,
        wanted: &watch_channel::Receiver<Wanted>,
    ) -> bool {
        let key = (dialect, scope);
        let mut shelf = match self.shelves.remove(&key) {
            Some(shelf) if shelf.read.elapsed() < READ || !anybody => shelf,
            // Nobody asks for anything, and nothing is known to be there.
            None if !anybody => return true,
            Some(_) | None => match self.list(dialect, scope).await {
                Ok(stored) => Shelf { read: Instant::now(), stored },
                Err(error) => {
                    self.complain(&error, "the policy reports of the operator cannot be listed");
                    return false;
                }
            },
        };
        let mine = || reports.iter().filter(|(name, _)| Scope::of(name) == scope);
        let gone: Vec<Name> = shelf.stored.keys().filter(|name| !reports.contains_key(*name)).cloned().collect();
        let differs = |(name, report): &(&Name, &Report)| {
            shelf.stored.get(*name).is_none_or(|stored| stored.says != says(report, &owners(report)))
        };
        let changed: Vec<(&Name, &Report)> = mine().filter(differs).collect();
        let work = gone.iter().map(|name| (name, None)).chain(changed.into_iter().map(|(n, r)| (n, Some(r))));
        let (mut failed, mut row, mut stale) = (false, 0, false);
        for (name, report) in work {
            // What was computed since counts more; what was done is done.
            if row >= FAILURES || wanted.has_changed().unwrap_or(true) || !self.context.world.leadership().leads() {
                failed = true;
                break;
            }
            match self.put(dialect, name, report, &mut shelf.stored).await {
                Ok(()) => row = 0,
                Err(error) => {
                    stale |= matches!(&error, kube::Error::Api(status) if status.code == 404 || status.code == 409);
                    self.complain(&error, "a policy report cannot be written, and is tried again");
                    (failed, row) = (true, row + 1);
                }
            }
        }
        // Somebody else wrote: what is there is read again.
        if !stale {
            self.shelves.insert(key, shelf);
        }
        !failed
    }

    fn complain(&mut self, error: &kube::Error, what: &str) {
        let why = match error {
            kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
            other => other.to_string(),
        };
        if self.complained.insert(format!("{what} {why}")) {
            tracing::warn!(%error, "{what}; --report-api=none writes none");
        }
    }

    fn api(&self, dialect: Dialect, namespace: &str) -> Api<DynamicObject> {
        let kube = self.context.kube.clone();
        match namespace {
            "" => Api::all_with(kube, &dialect.resource(Scope::Cluster)),
            namespace => Api::namespaced_with(kube, namespace, &dialect.resource(Scope::Namespace)),
        }
    }

    /// Every report of ours.
    async fn list(&self, dialect: Dialect, scope: Scope) -> Result<BTreeMap<Name, Stored>, kube::Error> {
        let namespaces = &self.context.config.watch_namespaces;
        let apis: Vec<Api<DynamicObject>> = match scope {
            Scope::Namespace if !namespaces.is_empty() => namespaces.iter().map(|n| self.api(dialect, n)).collect(),
            _ => vec![Api::all_with(self.context.kube.clone(), &dialect.resource(scope))],
        };
        let labels = LABELS.map(|(name, value)| format!("{name}={value}")).join(",");
        let mut all = BTreeMap::new();
        for api in apis {
            let mut params = ListParams::default().labels(&labels).limit(PAGE);
            loop {
                let page = answer(api.list(&params)).await?;
                for object in &page.items {
                    let ObjectMeta { name, namespace, .. } = &object.metadata;
                    let name = (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default());
                    all.insert(name, Stored::of(object));
                }
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(all)
    }

    /// Makes one report what it should be; `None`: it should not be there.
    async fn put(
        &self,
        dialect: Dialect,
        name: &Name,
        report: Option<&Report>,
        stored: &mut BTreeMap<Name, Stored>,
    ) -> Result<(), kube::Error> {
        let _place = self.context.writes.enter().await;
        let (api, old) = (self.api(dialect, &name.0), stored.get(name));
        let Some(report) = report else {
            // Not another one that has its name since.
            let uid = old.and_then(|old| old.uid.clone());
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid, resource_version: None }),
                ..DeleteParams::default()
            };
            match answer(api.delete(&name.1, &params)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
            }
            stored.remove(name);
            return Ok(());
        };
        let mut object = DynamicObject::new(&name.1, &dialect.resource(Scope::of(name)));
        object.metadata.namespace = Some(name.0.clone()).filter(|namespace| !namespace.is_empty());
        object.metadata.labels = Some(LABELS.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        object.metadata.owner_references = Some(owners(report)).filter(|owners| !owners.is_empty());
        object.metadata.resource_version = old.and_then(|old| old.version.clone());
        object.data = serde_json::to_value(report).map_err(kube::Error::SerdeError)?;
        if dialect == Dialect::OpenReports {
            object.data["source"] = json!(SOURCE);
        }
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let new = match old {
            None => answer(api.create(&params, &object)).await?,
            Some(_) => answer(api.replace(&name.1, &params, &object)).await?,
        };
        // What was meant, not what is kept of it: or a field that this version of the kind does not have would be
        // written for ever.
        let says = says(report, &owners(report));
        stored.insert(name.clone(), Stored { says, ..Stored::of(&new) });
        Ok(())
    }
}

async fn answer<T>(work: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    publish::within(DEADLINE, work).await
}
