//! What status, kstatus and Argo CD say in each situation: the contract with every tool that judges health.
//!
//! Each situation has an object as the API server returned it, in the folders that Argo CD reads its tests from.
//! `tests/real/rows.rs` brings the situations about and writes or compares them; `tests/gitops` judges them.
#![allow(dead_code, reason = "each of the two test programs uses a part of it")]

use std::path::{Path, PathBuf};

use serde_json::Value;

/// `True` and `False` of Active are what was last known; with `=` it says so for the reason of Ready.
const GRANTS: &str = "
situation                       Ready                         Active Reconciling Stalled Drifted kstatus     Argo
never-reconciled                -                             -      -           -       -       InProgress  Progressing
new-generation                  True/Granted                  =True  -           -       -       InProgress  Progressing
progressing                     Unknown/Progressing           -      True        -       -       InProgress  Progressing
provider-unavailable            Unknown/ProviderUnavailable   -      True        -       -       InProgress  Progressing
provider-unavailable-in-force   Unknown/ProviderUnavailable   True   True        -       -       InProgress  Progressing
granted                         True/Granted                  =True  -           -       -       Current     Healthy
awaiting-consent                True/AwaitingConsent          =False -           -       -       Current     Healthy
consent-removed                 True/ConsentRemoved           =False -           -       -       Current     Healthy
not-yet-valid                   True/NotYetValid              =False -           -       -       Current     Healthy
expired                         True/Expired                  =False -           -       -       Current     Healthy
suspended                       True/Suspended                =False -           -       -       Current     Healthy
quarantined                     True/Quarantined              =False -           -       -       Current     Healthy
registration-changed            True/RegistrationChanged      =False -           -       -       Current     Healthy
observed                        True/Observed                 =False -           -       -       Current     Healthy
observed-in-force               True/Observed                 =True  -           -       -       Current     Healthy
observed-drifted                True/Observed                 =True  -           -       True    Current     Degraded
drift-repairing                 Unknown/Progressing           True   True        -       True    InProgress  Progressing
hook-not-proved                 False/HookNotProved           -      True        -       -       InProgress  Progressing
hook-not-proved-in-force        False/HookNotProved           True   True        -       -       InProgress  Progressing
adoption-needed                 False/AdoptionNeeded          =False -           True    -       Failed      Degraded
client-replaced                 False/ClientReplaced          =False -           True    -       Failed      Degraded
conflict                        False/Conflict                =False True        -       -       InProgress  Progressing
conflict-stalled                False/Conflict                =False -           True    -       Failed      Degraded
not-allowed                     False/NotAllowed              =False True        -       -       InProgress  Progressing
not-allowed-stalled             False/NotAllowed              =False -           True    -       Failed      Degraded
not-supported                   False/NotSupported            =False True        -       -       InProgress  Progressing
not-supported-stalled           False/NotSupported            =False -           True    -       Failed      Degraded
subject-client-collision         False/SubjectClientCollision  =False True        -       -       InProgress  Progressing
subject-client-collision-stalled False/SubjectClientCollision  =False -           True    -       Failed      Degraded
foreign-client                  False/ForeignClient           =False True        -       -       InProgress  Progressing
foreign-client-stalled          False/ForeignClient           =False -           True    -       Failed      Degraded
provider-not-found              False/ProviderNotFound        =False True        -       -       InProgress  Progressing
provider-not-found-stalled      False/ProviderNotFound        =False -           True    -       Failed      Degraded
unknown-client                  False/UnknownClient           =False True        -       -       InProgress  Progressing
unknown-client-stalled          False/UnknownClient           =False -           True    -       Failed      Degraded
provider-denied                 False/ProviderDenied          -      -           True    -       Failed      Degraded
provider-denied-in-force        False/ProviderDenied          True   -           True    -       Failed      Degraded
invalid-spec                    False/InvalidSpec             =False -           True    -       Failed      Degraded
revocation-overdue              False/RevocationOverdue       =True  True        -       -       InProgress  Degraded
revoking                        False/Revoking                True   True        -       -       Terminating Progressing
revocation-blocked              False/RevocationBlocked       True   True        -       -       Terminating Progressing
";

/// The other kinds have no table of conditions; what is judged of them is the same.
const OTHERS: &str = "
kind                    situation           kstatus     Argo
ClusterIdentityProvider never-reconciled    InProgress  Progressing
ClusterIdentityProvider new-generation      InProgress  Progressing
ClusterIdentityProvider connected           Current     Healthy
ClusterIdentityProvider unavailable         InProgress  Progressing
ClusterIdentityProvider hook-not-called     Current     Degraded
ClusterIdentityProvider issuer-taken        Failed      Degraded
ClusterIdentityProvider deleting            Terminating Progressing
IdentityProvider        never-reconciled    InProgress  Progressing
IdentityProvider        connected           Current     Healthy
IdentityProvider        secret-not-found    InProgress  Progressing
IdentityProvider        url-not-allowed     Failed      Degraded
ClientIdentity          never-reconciled    InProgress  Progressing
ClientIdentity          accepted            Current     Healthy
ClientIdentity          not-allowed         InProgress  Progressing
ClientQuarantine        never-reconciled    InProgress  Progressing
ClientQuarantine        in-force            Current     Healthy
ClientQuarantine        unknown-issuer      Failed      Degraded
PendingRevocation       never-reconciled    InProgress  Progressing
PendingRevocation       blocked             Current     Progressing
PendingRevocation       credential-lost     Current     Degraded
";

/// The kind whose situations are the contract.
pub const GRANT: &str = "ClientGrant";

/// One situation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub kind: &'static str,
    pub name: &'static str,
    /// Of a ClientGrant: status and reason of Ready, then the others, as in the table.
    pub conditions: Option<Conditions>,
    pub kstatus: &'static str,
    pub argo: &'static str,
}

/// Conditions of a ClientGrant as the table has them; `-` is one that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub ready: &'static str,
    pub active: &'static str,
    pub reconciling: &'static str,
    pub stalled: &'static str,
    pub drifted: &'static str,
}

fn lines<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let rows = table.lines().filter(|line| !line.is_empty()).skip(1);
    rows.map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().expect("a row of the table"))
}

/// Every situation of every kind.
pub fn rows() -> Vec<Row> {
    let grants = lines(GRANTS).map(|[name, ready, active, reconciling, stalled, drifted, kstatus, argo]| Row {
        kind: GRANT,
        name,
        conditions: Some(Conditions { ready, active, reconciling, stalled, drifted }),
        kstatus,
        argo,
    });
    let others = lines(OTHERS).map(|[kind, name, kstatus, argo]| Row { kind, name, conditions: None, kstatus, argo });
    grants.chain(others).collect()
}

impl Row {
    /// Where its object lies.
    pub fn path(&self) -> PathBuf {
        folder().join(self.kind).join("testdata").join(format!("{}.yaml", self.name))
    }
}

/// The folder of the health scripts, in the form of Argo CD's `resource_customizations`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/argocd/clientgrant.dev")
}

/// A condition of an object, or null.
pub fn condition<'o>(object: &'o Value, name: &str) -> &'o Value {
    let list = object["status"]["conditions"].as_array();
    list.and_then(|l| l.iter().find(|c| c["type"] == name)).unwrap_or(&Value::Null)
}

impl Conditions {
    /// What an object says, in the words of the table.
    pub fn differ(&self, object: &Value) -> Option<String> {
        let ready = condition(object, "Ready");
        let word = |c: &Value| c["status"].as_str().unwrap_or("-").to_owned();
        let shown = if ready.is_null() {
            "-".to_owned()
        } else {
            format!("{}/{}", word(ready), ready["reason"].as_str().unwrap_or_default())
        };
        let active = condition(object, "Active");
        let same = !active.is_null() && active["reason"] == ready["reason"];
        let active = format!("{}{}", if same { "=" } else { "" }, word(active));
        let others = ["Reconciling", "Stalled", "Drifted"].map(|name| word(condition(object, name)));
        let seen = [shown, active].into_iter().chain(others).collect::<Vec<_>>();
        let told = [self.ready, self.active, self.reconciling, self.stalled, self.drifted];
        (seen != told).then(|| format!("the table says {told:?}, the object {seen:?}"))
    }
}
