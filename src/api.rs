//! The custom resources of `clientgrant.dev/v1alpha1`, as they are stored in the cluster.
//!
//! The types here are the wire format and nothing more: a field holds what somebody typed, checked
//! by the schema and its CEL rules, not yet by us. Strict types are made from them where a decision
//! is taken. Unknown fields are tolerated, so an older operator can read a newer object.
//!
//! This module must not decide anything and must not talk to anybody.

#![allow(clippy::duplicated_attributes, reason = "each column of a resource repeats its keys")]

pub mod bounds;
pub mod client_grant;
pub mod client_identity;
pub mod client_quarantine;
pub mod condition;
pub mod duration;
pub mod instant;
pub mod pending_revocation;
pub mod provider;
pub mod schema;

pub use client_grant::{
    Basis, ClientGrant, ClientGrantSpec, ClientGrantStatus, Drift, Effective, Enforcement, GrantType, Observed, Owner,
    ProviderKind, ProviderRef, Purpose, Revocation, RevocationCause, SharingCounts, Subject, SubjectKind, Summary,
};
pub use client_identity::{
    BlastRadius, ClientIdentity, ClientIdentitySpec, ClientIdentityStatus, Counterpart, Credential, CredentialKey,
    Federated, OnRegistrationChange, Pin, Registration, SharedFinding, Sharing, SharingException, WorkloadRef,
};
pub use client_quarantine::{ClientQuarantine, ClientQuarantineSpec, ClientQuarantineStatus};
pub use condition::Condition;
pub use pending_revocation::{Origin, PendingRevocation, PendingRevocationSpec, PendingRevocationStatus};
pub use provider::{
    Adoption, AllowRule, ClusterIdentityProvider, ClusterIdentityProviderSpec, Connection, ConsentApp, GrantCounts,
    Guarantee, HydraSpec, IdentityProvider, IdentityProviderSpec, IdentityProviderStatus, LabelOperator,
    LabelRequirement, Limits, MemoryClient, MemoryConsent, MemorySpec, Mode, NamespaceSelector,
    NamespacedIdentityProviderSpec, SecretKeyRef, TokenHook, Undeclared, UndeclaredConsents, UnmanagedClients,
};

/// API group of every kind in this module.
pub const GROUP: &str = "clientgrant.dev";

/// The one version that is served and stored.
pub const VERSION: &str = "v1alpha1";
