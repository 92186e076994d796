//! The domain, pure: what a grant is, what a client may hold, what is to be done about it.
//!
//! Nothing in this module or below it waits, reads a clock, or talks to anything. Every decision is a
//! total function of values and `now`, so that status, plans and the decision endpoints cannot
//! disagree: they call the same functions. Loose custom resources end at [`parse`]; after it only
//! types that cannot be wrong.

pub mod backoff;
pub mod collect;
pub mod consent;
pub mod decide;
pub mod desired;
pub mod drift;
pub mod fault;
pub mod observed;
pub mod parse;
pub mod pending;
pub mod plan;
pub mod quarantine;
pub mod record;
pub mod rules;
pub mod standing;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crate::api::{Adoption, Basis, GrantType, Mode, RevocationCause, UnmanagedClients};
pub use k8s_openapi::jiff::Timestamp;
use smol_str::SmolStr;

/// The revocation's second pass comes this long after the first: when every answer that a decision
/// point had already given has run out (an answer takes at most 2 s).
pub const PASS_GAP: Duration = Duration::from_secs(2);

/// An end that is not confirmed this long after its instant is overdue.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

macro_rules! names {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(BTreeSet<String>);

        impl $name {
            /// What `self` has and `other` lacks.
            #[must_use]
            pub fn beyond(&self, other: &Self) -> Self {
                Self(self.0.difference(&other.0).cloned().collect())
            }

            /// What is in both.
            #[must_use]
            pub fn common(&self, other: &Self) -> Self {
                Self(self.0.intersection(&other.0).cloned().collect())
            }

            /// True if everything here is also in `other`.
            #[must_use]
            pub fn within(&self, other: &Self) -> bool {
                self.0.is_subset(&other.0)
            }

            /// Adds everything of `other`.
            pub fn add_all(&mut self, other: &Self) {
                self.0.extend(other.0.iter().cloned());
            }

            /// True if nothing is in it.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// In order, each once.
            pub fn iter(&self) -> impl Iterator<Item = &str> {
                self.0.iter().map(String::as_str)
            }

            /// As a list, in order.
            #[must_use]
            pub fn to_vec(&self) -> Vec<String> {
                self.0.iter().cloned().collect()
            }
        }

        impl<S: Into<String>> FromIterator<S> for $name {
            fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
                Self(names.into_iter().map(Into::into).collect())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (i, name) in self.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" ")?;
                    }
                    f.write_str(name)?;
                }
                Ok(())
            }
        }
    };
}

names! {
    /// OAuth 2.0 scopes (RFC 6749, section 3.3), exact: no wildcard, no order, no duplicates.
    Scopes
}
names! {
    /// Audiences a token may carry (RFC 9068, claim `aud`), compared as whole strings.
    Audiences
}

/// What may be had: scopes × audiences × grant types.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authority {
    /// Exact scopes, protocol scopes (`openid`, `offline_access`) included.
    pub scopes: Scopes,
    /// Empty: no audience at all.
    pub audiences: Audiences,
    /// The flows through which it may be had.
    pub grant_types: BTreeSet<GrantType>,
}

impl Authority {
    /// What is in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self {
            scopes: self.scopes.common(&other.scopes),
            audiences: self.audiences.common(&other.audiences),
            grant_types: self.grant_types.intersection(&other.grant_types).copied().collect(),
        }
    }

    /// True if nothing here goes beyond `other`.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.scopes.within(&other.scopes)
            && self.audiences.within(&other.audiences)
            && self.grant_types.is_subset(&other.grant_types)
    }

    /// Adds everything of `other`. For ceilings only: a decision never looks at a union.
    pub fn add_all(&mut self, other: &Self) {
        self.scopes.add_all(&other.scopes);
        self.audiences.add_all(&other.audiences);
        self.grant_types.extend(other.grant_types.iter().copied());
    }
}

/// For whom a client may act. Ordered from specific to wide: a specific grant shadows wider ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One subject, by the IdP's internal id.
    User(String),
    /// Any subject.
    Any,
    /// Nobody: the client acts for itself (`client_credentials`).
    Own,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(id) => write!(f, "User/{id}"),
            Subject::Any => f.write_str("Any"),
            Subject::Own => f.write_str("-"),
        }
    }
}

/// One provider object: `namespace` is empty for the cluster kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderKey {
    /// Empty for a ClusterIdentityProvider.
    pub namespace: SmolStr,
    /// The object's name.
    pub name: SmolStr,
}

impl ProviderKey {
    /// An IdentityProvider; without a namespace a ClusterIdentityProvider.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// A ClusterIdentityProvider.
    pub fn cluster(name: impl Into<SmolStr>) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "ClusterIdentityProvider/{}", self.name)
        } else {
            write!(f, "IdentityProvider/{}/{}", self.namespace, self.name)
        }
    }
}

/// The unit of work: one client at one provider. One provider object speaks for one issuer, so this
/// names (issuer, client_id).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// The provider object that the grants name.
    pub provider: ProviderKey,
    /// OAuth 2.0 `client_id`.
    pub client: Arc<str>,
}

/// One ClientGrant object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantName {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a grant says, after parsing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who decides.
    pub basis: Basis,
    /// What may be had.
    pub authority: Authority,
    /// The first scope as written, for the columns.
    pub first_scope: String,
    /// `purpose.id`.
    pub purpose: String,
    /// Not in force before this instant.
    pub not_before: Option<Timestamp>,
    /// Absolute end.
    pub expires_at: Timestamp,
    /// Withdrawn by hand; the expiry goes on.
    pub suspend: bool,
}

/// What status carries over a restart because nobody else keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// A consent had been seen, made at this instant.
    pub consent_since: Option<Timestamp>,
    /// A revocation that we ourselves asked for.
    pub revocation: Option<Revocation>,
}

/// A revocation of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Why.
    pub cause: RevocationCause,
    /// Written before the first call at the IdP.
    pub requested_at: Timestamp,
    /// Both passes done and read back.
    pub confirmed_at: Option<Timestamp>,
}

/// One grant as the domain sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which object.
    pub name: GrantName,
    /// The object's UID: what a consent's context names.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp`; ties are broken by UID.
    pub created: Timestamp,
    /// `metadata.generation`.
    pub generation: i64,
    /// A deletion timestamp is set.
    pub deleting: bool,
    /// That instant.
    pub deleted_at: Option<Timestamp>,
    /// Our finalizer is on it: there may be something to revoke.
    pub held: bool,
    /// That finalizer is our own writing, or status says that something was in force. Only that makes an end
    /// due for a client of which the grant's namespace may not speak: tenants can write finalizers, too.
    pub gave: bool,
    /// Status says that it is in force, or waits only for its subject: the client had been adopted then.
    pub told: bool,
    /// For whom.
    pub subject: Subject,
    /// What it says, or why that cannot be read.
    pub terms: Result<Terms, String>,
    /// Read back from status.
    pub carried: Carried,
    /// The generation that status speaks of.
    pub observed_generation: Option<i64>,
    /// The spec was made narrower (or changed while nobody looked) since status was written. Only for
    /// `Any` and client-own grants, whose tokens are in no list.
    pub narrowed: bool,
    /// Its end was confirmed, and since then it may have been in force again for a moment that no look
    /// saw. Only for `Any` and client-own grants; what a `User` gave is listed.
    pub reopened: bool,
}

/// What the [`record`] says of a client that we manage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Tokens from before the adoption are ended.
    pub complete: bool,
}

/// What decides about the provider, without its connection.
#[derive(Clone, Debug)]
pub struct ProviderView {
    /// Which object.
    pub key: ProviderKey,
    /// The `iss` of its tokens.
    pub issuer: Arc<str>,
    /// `metadata.generation` of the object: a [`crate::idp::Permit`] names it.
    pub generation: i64,
    /// Whether the operator may act through it.
    pub state: ProviderState,
    /// Whether it writes there, or only looks.
    pub mode: Mode,
    /// A former cluster whose mark counts as ours.
    pub take_over: Option<Arc<str>>,
    /// Whether the IdP asks our token hook.
    pub hook: HookProof,
    /// Tenancy rules.
    pub rules: Vec<rules::Rule>,
    /// How clients that hold more than their grants are treated.
    pub adoption: Adoption,
    /// How decision points treat clients that nobody manages.
    pub unmanaged: UnmanagedClients,
    /// What the IdP can and cannot do.
    pub capabilities: Capabilities,
    /// How often registrations are compared in bulk.
    pub drift_check: Duration,
    /// How often each consent is looked at again.
    pub consent_sweep: Duration,
}

/// Whether the IdP asks our token hook before it issues anything, as a probe has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookProof {
    /// The provider object names no hook: nothing is expected of one.
    NotDeclared,
    /// No probe was made yet.
    #[default]
    Untried,
    /// A probe could not be made.
    Unasked,
    /// The IdP called us, and heeded our no.
    Proved,
    /// A token was issued although we said nothing.
    NotCalled,
    /// The IdP has a hook and cannot reach it: nothing is issued at all.
    Unreachable,
    /// Somebody else's hook refused, or ours was called with another key.
    Elsewhere,
}

impl HookProof {
    /// Authority may be given: the hook is proved, or there is none to rely on.
    #[must_use]
    pub fn suffices(self) -> bool {
        matches!(self, HookProof::NotDeclared | HookProof::Proved)
    }

    /// In one word, as metrics have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            HookProof::NotDeclared => "not_declared",
            HookProof::Untried => "untried",
            HookProof::Unasked => "unasked",
            HookProof::Proved => "proved",
            HookProof::NotCalled => "not_called",
            HookProof::Unreachable => "unreachable",
            HookProof::Elsewhere => "elsewhere",
        }
    }
}

/// Whether the operator may act through a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderState {
    /// Connected; everything may proceed.
    Usable,
    /// Its own Ready condition says why it cannot be used for now.
    Unusable,
    /// Another provider object speaks for the issuer: this one neither reads nor writes.
    IssuerTaken,
}

/// What an IdP can do, as its adapter declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Consents of one subject can be listed.
    pub lists_consents: bool,
    /// A client id with a slash in it can be addressed.
    pub slash_in_client_id: bool,
    /// Enforcement points, as published in `status.enforcement.points`.
    pub points: &'static [&'static str],
    /// Parts that nothing holds, as published in `status.enforcement.notEnforced`.
    pub not_enforced: &'static [&'static str],
    /// The longest overrun after an end, in seconds, when everything of ours is dead; `None`: no bound.
    pub max_residual_seconds: Option<i64>,
}

/// Everything that decides about one client, in one immutable picture.
#[derive(Clone, Debug)]
pub struct ClientView {
    /// Which client.
    pub key: ClientKey,
    /// Absent: no such provider object.
    pub provider: Option<Arc<ProviderView>>,
    /// The issuer of the provider object, or the one that it had when it was there.
    pub issuer: Option<Arc<str>>,
    /// All grants that name the client, by subject, oldest first.
    pub grants: BTreeMap<Subject, Vec<Arc<Grant>>>,
    /// Labels of the namespaces that these grants live in.
    pub namespaces: BTreeMap<String, Arc<BTreeMap<String, String>>>,
    /// Those of them that are being deleted.
    pub terminating: BTreeSet<String>,
    /// A ClientQuarantine names the client.
    pub quarantined: bool,
    /// An admitted ClientIdentity says `adopt: true`.
    pub adopt: bool,
    /// One says `onRegistrationChange: Suspend`, and the registration is not as it was accepted.
    pub suspended: bool,
    /// Since when the client is registered that one pins, as in a fingerprint: one made anew is not taken over.
    pub born: BTreeSet<String>,
    /// Present from adoption until release.
    pub managed: Option<Managed>,
    /// Subjects here that equal a client id with a client-own grant on the same issuer.
    pub collisions: BTreeSet<String>,
    /// What the sweep says may be removed.
    pub collect: collect::Collect,
    /// It was given back; with what it had before, if that is to come back.
    pub released: Option<Option<Authority>>,
}

impl Grant {
    /// Its end is done and read back.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.carried.revocation.is_some_and(|r| r.confirmed_at.is_some())
    }
}

impl ClientView {
    /// The provider is only looked at: nothing is written there, and decision points let everything pass.
    #[must_use]
    pub fn observing(&self) -> bool {
        self.provider.as_ref().is_some_and(|p| p.mode == Mode::Observe)
    }

    /// Whether a grant names a subject here, in whatever state.
    #[must_use]
    pub fn names(&self, subject: &str) -> bool {
        self.grants.contains_key(&Subject::User(subject.to_owned())) || self.grants.contains_key(&Subject::Any)
    }

    /// Leave to take away everything that the client holds: no grant is left, and the sweep says so.
    #[must_use]
    pub fn garbage(&self) -> Option<&collect::SweepProof> {
        self.collect.client.as_ref().filter(|_| self.grants.is_empty())
    }

    /// Whether a mark at the IdP is that of this cluster, or of one that it has taken over.
    #[must_use]
    pub fn ours(&self, mark: &str, cluster: &str) -> bool {
        mark == cluster || self.provider.as_ref().is_some_and(|p| p.take_over.as_deref() == Some(mark))
    }

    /// Every grant, in the order of subjects, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.grants.values().flatten()
    }

    /// The grant with this UID.
    #[must_use]
    pub fn grant(&self, uid: &str) -> Option<&Arc<Grant>> {
        self.all().find(|g| &*g.uid == uid)
    }
}
