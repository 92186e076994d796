//! Shared credentials: which clients a workload or a ServiceAccount can act as.
//!
//! Everything here is pure: objects as they were read and `now` go in, findings come out. Nothing asks
//! the cluster, and nothing reads a Secret: what matters is which **slot** (namespace, Secret, key) a pod
//! really receives, and which client a `ClientIdentity` says the slot belongs to.
//!
//! ```text
//!  manifests ─▶ facts ─┐
//!  ClientIdentity ─────┼─▶ Index ─▶ rules, one file each ─▶ exceptions ─▶ findings
//!  ClientGrant ────────┘
//! ```
//!
//! There are three answers: found, clean, and *not evaluable* (rule SC-901), which is never taken for clean.
//! What no `ClientIdentity` touches produces nothing, so that ordinary clusters stay quiet.

pub mod catalogue;
pub mod client;
pub mod configmap;
pub mod declared;
pub mod evaluate;
pub mod exceptions;
pub mod facts;
pub mod finding;
mod fold;
pub mod grace;
pub mod index;
pub mod judge;
pub mod live;
pub mod output;
pub mod picture;
pub mod pod;
pub mod rbac;
pub mod reach;
pub mod read;
mod reference;
pub mod registration;
pub mod report;
pub mod role;
pub mod rules;
pub mod sarif;
pub mod suggest;
pub mod told;
pub mod unchanged;
pub mod workload;

/// What is looked up with every event. Tenants choose the names: the hash has a key of this process, as the standard
/// one, and takes half its time.
type Map<K, V> = std::collections::HashMap<K, V, ahash::RandomState>;

pub use evaluate::{Input, evaluate};
pub use finding::{Evaluation, Evidence, Finding, Grade, Object, Severity, State};
