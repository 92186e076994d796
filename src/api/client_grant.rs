//! `ClientGrant`: one client, one subject, an exact list of scopes, one purpose, until a date.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, schema};

/// What one client may do for one subject, for one purpose, until a date.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "ClientGrant",
    namespaced,
    status = "ClientGrantStatus",
    derive = "PartialEq",
    shortname = "cgrant",
    category = "consent",
    doc = "What one OAuth client may do for one subject, for one purpose, until a date. Example: the client `finance-reporting` may read the transactions of user `7f0c1a52` for the monthly report until 2027-02-20T00:00:00Z.",
    selectable = ".spec.clientID",
    selectable = ".spec.providerRef.name",
    selectable = ".spec.purpose.id",
    printcolumn(
        name = "Client",
        type_ = "string",
        json_path = ".spec.clientID",
        description = "The client that may act."
    ),
    printcolumn(
        name = "Subject",
        type_ = "string",
        json_path = ".status.summary.subject",
        description = "For whom the client acts."
    ),
    printcolumn(
        name = "Scopes",
        type_ = "string",
        json_path = ".status.summary.scopes",
        description = "What the client may do."
    ),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Active\")].status",
        description = "Whether the grant is in force."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The state of the grant in one word."
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.expiresAt",
        description = "When the authority ends, in UTC."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the provider is as the grant asks, read back.",
        priority = 1
    ),
    printcolumn(
        name = "Basis",
        type_ = "string",
        json_path = ".spec.basis",
        description = "Who decides.",
        priority = 1
    ),
    printcolumn(
        name = "Purpose",
        type_ = "string",
        json_path = ".spec.purpose.id",
        description = "Why the client needs the grant.",
        priority = 1
    ),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.providerRef.name",
        description = "The provider that holds the client.",
        priority = 1
    ),
    printcolumn(
        name = "Enforced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Enforced\")].status",
        description = "Whether every part of the grant is held by some enforcement point.",
        priority = 1
    ),
    printcolumn(
        name = "Exclusive",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"CredentialExclusive\")].status",
        description = "Whether nothing but the client's own workloads can act as it.",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.subject) == (self.basis != 'ClientOwn')")
        .message("give a subject with SubjectConsent and AdminConsent, where the client acts for somebody, and leave it out with ClientOwn, where the client acts for itself")
        .field_path(".subject"),
    validation = Rule::new("has(self.subject) == has(oldSelf.subject) && (!has(self.subject) || self.subject == oldSelf.subject)")
        .message("the subject cannot be changed, because a consent is given for one subject: make a new ClientGrant for another one")
        .reason(Reason::FieldValueForbidden)
        .field_path(".subject"),
    validation = Rule::new("self.basis != 'ClientOwn' || !self.scopes.exists(s, s in ['openid', 'offline_access', 'offline'])")
        .message("openid, offline_access and offline are for clients that act for a user: leave them out with ClientOwn")
        .field_path(".scopes"),
    validation = Rule::new("!has(self.grantTypes) || (self.basis == 'ClientOwn' ? self.grantTypes.all(g, g == 'client_credentials') : !('client_credentials' in self.grantTypes))")
        .message("ClientOwn takes exactly client_credentials, and no other basis takes it, because only there the client acts for itself")
        .field_path(".grantTypes"),
    validation = Rule::new("!has(self.notBefore) || self.notBefore < self.expiresAt")
        .message("notBefore must be earlier than expiresAt, or the grant would never be in force")
        .field_path(".notBefore")
)]
pub struct ClientGrantSpec {
    /// The provider object that connects to the identity provider where the client is registered.
    /// Cannot be changed. Example: `{kind: ClusterIdentityProvider, name: corp}`.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("providerRef cannot be changed, because the authority would stay behind at the old provider: make a new ClientGrant")
        .reason(Reason::FieldValueForbidden))]
    pub provider_ref: ProviderRef,

    /// The one client that the grant speaks for: its OAuth 2.0 `client_id`, 1 to 2048 printable
    /// ASCII characters without spaces. Cannot be changed. Example: `finance-reporting`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("clientID cannot be changed, because the grant of one client never becomes that of another: make a new ClientGrant")
        .reason(Reason::FieldValueForbidden))]
    pub client_id: String,

    /// For whom the client acts. Left out exactly with basis ClientOwn. Cannot be changed. Example:
    /// `{kind: User, id: 7f0c1a52}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,

    /// Who decides. `SubjectConsent`: the subject, at the provider; this object only sets the most
    /// that can be consented to. `AdminConsent`: the organisation, by this object. `ClientOwn`:
    /// nobody, the client acts for itself. Cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("basis cannot be changed, because it says who decided: make a new ClientGrant")
        .reason(Reason::FieldValueForbidden))]
    pub basis: Basis,

    /// The exact scopes, 1 to 64, each once, protocol scopes included: `openid`, and
    /// `offline_access` for refresh tokens, must be listed to be had. There are no wildcards.
    /// Example: `[openid, offline_access, "transactions:read"]`.
    #[schemars(schema_with = "schema::scopes")]
    #[x_kube(
        validation = Rule::new("self.all(s, !s.contains('*'))")
            .message("a scope is exact and takes no *, because nobody could review what it stands for: list each scope by its name"),
        validation = Rule::new("self.all(s, self.exists_one(t, t == s))")
            .message("list each scope once"),
    )]
    pub scopes: Vec<String>,

    /// The audiences of the client's tokens, at most 16, each once. Empty: no audience is
    /// permitted. Else every token carries at least one of these and none else. Example:
    /// `["https://ledger.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::audiences")]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b == a))")
        .message("list each audience once"))]
    pub audiences: Vec<String>,

    /// How the client may get tokens (RFC 6749, section 1.3). Empty: `authorization_code` and
    /// `refresh_token`, and with basis ClientOwn `client_credentials`, which no other basis takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.all(g, self.exists_one(h, h == g))")
        .message("list each grant type once"))]
    pub grant_types: Vec<GrantType>,

    /// Why the client needs this. One grant has one purpose.
    pub purpose: Purpose,

    /// Who answers for this grant when a reviewer asks.
    pub owner: Owner,

    /// The authority begins at this instant: UTC, to the second, before expiresAt. Absent: at once.
    /// Example: `2026-12-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::instant")]
    pub not_before: Option<String>,

    /// The authority ends at this instant: UTC, to the second, before the year 2200. An instant in
    /// the past is accepted, and nothing is in force. Example: `2027-02-20T00:00:00Z`.
    #[schemars(schema_with = "schema::instant")]
    pub expires_at: String,

    /// `true` withdraws the authority now; `false` gives it back until expiresAt, which goes on
    /// meanwhile.
    #[serde(default)]
    pub suspend: bool,
}

/// The kind of provider object that a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProviderKind {
    /// A provider of the whole cluster.
    ClusterIdentityProvider,
    /// A provider in the namespace of the object that refers to it.
    IdentityProvider,
}

/// Names a provider object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ProviderRef {
    /// `ClusterIdentityProvider`, or `IdentityProvider` for one in the namespace of this object.
    pub kind: ProviderKind,
    /// The name of the provider object. Example: `corp`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// Whether a grant speaks for one user or for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// One user, named by `id`.
    User,
    /// Any user of the provider.
    Any,
}

/// For whom the client acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.id) == (self.kind == 'User')")
    .message("give an id with kind User, which is one user, and leave it out with kind Any, which is every user")
    .field_path(".id"))]
pub struct Subject {
    /// `User`: the one user that id names. `Any`: any user of the provider.
    pub kind: SubjectKind,
    /// The user, as the identity provider itself names it: the subject that the login was accepted
    /// with, never a pairwise one. 1 to 255 characters, no control or formatting characters. Given
    /// exactly with kind User. Example: `7f0c1a52`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::subject_id")]
    pub id: Option<String>,
}

/// Who decides about a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Basis {
    /// The subject, at the provider. The operator never creates, widens or restores that consent.
    SubjectConsent,
    /// The organisation.
    AdminConsent,
    /// Nobody: the client acts for itself.
    ClientOwn,
}

/// A way for a client to get tokens (RFC 6749, section 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A code from the browser flow (RFC 6749, section 4.1).
    AuthorizationCode,
    /// A refresh token (RFC 6749, section 6).
    RefreshToken,
    /// The client's own credentials (RFC 6749, section 4.4).
    ClientCredentials,
}

impl GrantType {
    /// The name in RFC 6749, as it stands in YAML and at the IdP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GrantType::AuthorizationCode => "authorization_code",
            GrantType::RefreshToken => "refresh_token",
            GrantType::ClientCredentials => "client_credentials",
        }
    }

    /// Reads the name; `None` for a flow that no grant can declare.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials].into_iter().find(|g| g.as_str() == name)
    }
}

/// Why the client needs the grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Purpose {
    /// A short name of the purpose: a DNS label. Cannot be changed; a second purpose for the same
    /// subject needs a client of its own, because tokens carry no purpose. Example:
    /// `monthly-report`.
    #[schemars(schema_with = "schema::purpose_id")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("purpose.id cannot be changed, because consent is given for one purpose: make a new ClientGrant, with a client of its own")
        .reason(Reason::FieldValueForbidden))]
    pub id: String,
    /// The purpose in a sentence for the reviewer, 10 to 512 characters. Example: `Read-only
    /// transactions for the monthly report`.
    #[schemars(length(min = 10, max = 512))]
    pub description: String,
}

/// Who answers for the grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The team, at most 128 characters. Example: `finance-data`.
    #[schemars(length(min = 1, max = 128))]
    pub team: String,
    /// Where the team is reached, at most 128 characters. Example: `finance-data@example.com`.
    #[schemars(length(min = 1, max = 128))]
    pub contact: String,
}

/// What the operator found out about a grant. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientGrantStatus {
    /// The generation of the spec that this status speaks about; -1 while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is so, is not so, or is not known: Ready, Active, Reconciling, Stalled, Enforced,
    /// Drifted, CredentialExclusive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Short forms for the columns of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What is in force now. Absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// What the identity provider was read to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// How the identity provider differs from the grant. Absent while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Which points hold the grant, and which parts of it nothing holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// The operator's own revocation: why, when it was asked for, and when it was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// How many findings of shared credentials concern the client. Absent while there is none; the
    /// client's ClientIdentity lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingCounts>,
}

/// How many findings of shared credentials concern a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharingCounts {
    /// Findings that nobody accepted. Example: `2`.
    #[schemars(range(min = 0))]
    pub open: i64,
    /// Findings that the client's ClientIdentity accepts until a date. Example: `0`.
    #[schemars(range(min = 0))]
    pub suppressed: i64,
    /// The worst severity of the open ones: info, low, medium, high or critical. Example: `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_text")]
    pub worst: Option<String>,
    /// The rules that found something; `clientgrant explain` describes them. Example: `[SC-101]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub rules: Vec<String>,
}

/// Short forms for the columns of `kubectl get`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Kind and id of the subject. Example: `User/7f0c1a52`.
    #[schemars(schema_with = "schema::short_text")]
    pub subject: String,
    /// The first scope and how many more there are. Example: `openid +2`.
    #[schemars(schema_with = "schema::short_text")]
    pub scopes: String,
}

/// What is in force now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The scopes in force. Example: `[openid, "transactions:read"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub scopes: Vec<String>,
    /// The audiences in force. Empty: none is permitted. Example: `["https://ledger.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub audiences: Vec<String>,
    /// When it ends, in UTC. Example: `2027-02-20T00:00:00Z`.
    #[schemars(schema_with = "schema::status_instant")]
    pub expires_at: String,
}

/// What the provider was read to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The scopes that the identity provider holds for client and subject. Example: `[openid]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub scopes: Vec<String>,
    /// Since when the subject's consent has been seen, in UTC. It stays until a revocation by the
    /// operator is confirmed, so that a consent that vanishes in between is noticed. Example:
    /// `2026-11-24T09:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::status_instant")]
    pub consent_since: Option<String>,
}

/// How the provider differs from the grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// What the identity provider holds and the grant does not declare. Example: `["scope
    /// payments:write"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub excess: Vec<String>,
    /// What the grant declares and the identity provider does not hold. Example: `["scope
    /// openid"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub missing: Vec<String>,
}

/// Which points hold the grant, and what no point holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// The points that hold the grant. Example: `[ClientCeiling, TokenHook]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub points: Vec<String>,
    /// The parts of the grant that no point holds. Example: `[SharedAdminAPI]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub not_enforced: Vec<String>,
    /// The longest time, in seconds, that a token can outlive the end of the grant. Example: `300`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_residual_seconds: Option<i64>,
}

/// Why authority was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevocationCause {
    /// The end passed.
    Expired,
    /// `suspend` was set.
    Suspended,
    /// A ClientQuarantine names the client.
    Quarantined,
    /// The client is not registered as it was accepted, and its ClientIdentity says that this suspends.
    RegistrationChanged,
    /// The grant is being deleted.
    Deleted,
    /// `notBefore` was moved into the future.
    NotYetValid,
    /// A scope, an audience or a grant type was removed.
    Narrowed,
    /// The grant is refused: the provider's rules, a conflict, or its own fault.
    Refused,
}

impl RevocationCause {
    /// The word as it is written to the cluster.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RevocationCause::Expired => "Expired",
            RevocationCause::Suspended => "Suspended",
            RevocationCause::Quarantined => "Quarantined",
            RevocationCause::RegistrationChanged => "RegistrationChanged",
            RevocationCause::Deleted => "Deleted",
            RevocationCause::NotYetValid => "NotYetValid",
            RevocationCause::Narrowed => "Narrowed",
            RevocationCause::Refused => "Refused",
        }
    }
}

/// The operator's own revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Why: `Expired`, `Suspended`, `Quarantined`, `RegistrationChanged` (and the ClientIdentity says
    /// that this suspends), `Deleted`, `NotYetValid` (notBefore was moved into the future), `Narrowed` (a scope, an audience or a grant type was removed) or `Refused`
    /// (the provider's rules, a conflict, or the object's own fault).
    pub cause: RevocationCause,
    /// When the operator decided to revoke, in UTC; of a subject's consent it is written before the
    /// identity provider is asked. Example: `2027-02-20T00:00:00Z`.
    #[schemars(schema_with = "schema::status_instant")]
    pub requested_at: String,
    /// When the end was read back from the identity provider, in UTC. Absent until then. Example:
    /// `2027-02-20T00:00:02Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::status_instant")]
    pub confirmed_at: Option<String>,
    /// Until when a token issued before can still be accepted somewhere, in UTC. Absent when none
    /// can. Example: `2027-02-20T00:05:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::status_instant")]
    pub residual_until: Option<String>,
}
