//! `ClusterIdentityProvider` and `IdentityProvider`: our connection to an identity provider, and
//! who may grant what through it. Both kinds have one spec.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Condition, SubjectKind, schema};

/// The connection to one identity provider for the whole cluster, and who may grant what through
/// it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "ClusterIdentityProvider",
    status = "IdentityProviderStatus",
    derive = "PartialEq",
    shortname = "cidp",
    category = "consent",
    doc = "The connection to one identity provider for the whole cluster, and who may grant what through it. Example: the namespace finance may grant `transactions:*` to clients named `finance-*` for at most 90d.",
    validation = Rule::new("has(self.spec.allow) && self.spec.allow.size() > 0")
        .message("a provider of the whole cluster needs at least one rule in allow, because without one nobody has said who may grant what")
        .reason(Reason::FieldValueRequired)
        .field_path(".spec.allow"),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.issuer",
        description = "The issuer of its tokens."
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Whether the operator writes at the provider."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether grants can be held at the provider."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The state of the connection in one word."
    ),
    printcolumn(
        name = "Grants",
        type_ = "integer",
        json_path = ".status.grants.total",
        description = "How many ClientGrants name the provider."
    ),
    printcolumn(
        name = "Active",
        type_ = "integer",
        json_path = ".status.grants.active",
        description = "How many of them are in force."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "The version of the identity provider.",
        priority = 1
    )
)]
#[serde(transparent)]
pub struct ClusterIdentityProviderSpec(pub IdentityProviderSpec);

/// The connection to one identity provider for its own namespace, and who may grant what through
/// it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "IdentityProvider",
    namespaced,
    status = "IdentityProviderStatus",
    derive = "PartialEq",
    shortname = "idp",
    category = "consent",
    doc = "The connection to one identity provider for the grants of its own namespace, and who may grant what through it. Example: a team tries the operator on a provider in memory.",
    validation = Rule::new("!has(self.spec.memory) || (self.spec.issuer.matches('^memory://[^/]+/[^/]+$') && self.spec.issuer.endsWith('/' + self.metadata.name))")
        .message("the issuer of a memory provider is memory://<its namespace>/<its name>, so that no namespace can speak for the issuer of another")
        .field_path(".spec.issuer"),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.issuer",
        description = "The issuer of its tokens."
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Whether the operator writes at the provider."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether grants can be held at the provider."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The state of the connection in one word."
    ),
    printcolumn(
        name = "Grants",
        type_ = "integer",
        json_path = ".status.grants.total",
        description = "How many ClientGrants name the provider."
    ),
    printcolumn(
        name = "Active",
        type_ = "integer",
        json_path = ".status.grants.active",
        description = "How many of them are in force."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "The version of the identity provider.",
        priority = 1
    )
)]
#[serde(transparent)]
pub struct NamespacedIdentityProviderSpec(pub IdentityProviderSpec);

impl ClusterIdentityProvider {
    /// The spec that both kinds share.
    pub fn spec(&self) -> &IdentityProviderSpec {
        &self.spec.0
    }
}

impl IdentityProvider {
    /// The spec that both kinds share.
    pub fn spec(&self) -> &IdentityProviderSpec {
        &self.spec.0
    }
}

/// The connection to an identity provider, and who may grant what through it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.hydra) != has(self.memory)")
        .message("give exactly one connection, hydra or memory, because one provider object speaks for one identity provider")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("has(self.hydra) == has(oldSelf.hydra) && has(self.memory) == has(oldSelf.memory)")
        .message("the connection cannot become one of another kind, because the authority would stay behind at the old one: make a new provider object")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("has(self.memory) == self.issuer.startsWith('memory://')")
        .message("the issuer of hydra begins with https:// (or http:// with insecureHTTP) and that of memory with memory://, so that nobody takes a model for an identity provider")
        .field_path(".issuer"),
    validation = Rule::new("self.insecureHTTP || !(self.issuer.startsWith('http://') || (has(self.hydra) && self.hydra.adminURL.startsWith('http://')))")
        .message("use https://, because anybody on the way reads http://; insecureHTTP: true permits it for a loopback address")
)]
pub struct IdentityProviderSpec {
    /// The issuer: the `iss` of its tokens, exactly as its discovery document says it. There is one
    /// provider object per issuer. A URL without user, query and fragment, at most 512 characters;
    /// for memory in a namespace always `memory://<namespace>/<name>`. Cannot be changed. Example:
    /// `https://login.example.com/`.
    #[schemars(schema_with = "schema::issuer")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("the issuer cannot be changed, because grants and quarantines are kept by issuer: make a new provider object")
        .reason(Reason::FieldValueForbidden))]
    pub issuer: String,

    /// `Enforce`: the operator makes the identity provider hold to the grants, and ends what has
    /// ended. `Observe`: it reads and reports, writes nothing there, and its decision points let
    /// everything pass and count what they would have refused. Example: `Enforce`.
    pub mode: Mode,

    /// What happens to a client that holds more than its grants. `Explicit`: it is left alone until
    /// its ClientIdentity says `adopt: true`. `Automatic`: the first live grant takes it over.
    #[serde(default)]
    pub adoption: Adoption,

    /// The one connection.
    #[serde(flatten)]
    pub connection: Connection,

    /// `true` permits `http://`: to a loopback address always, elsewhere only where the operator
    /// itself was started with `--allow-insecure-http`.
    #[serde(default, rename = "insecureHTTP")]
    pub insecure_http: bool,

    /// Who may grant what, at most 64 rules. A grant passes if one rule matches in all that the
    /// rule names. A ClusterIdentityProvider needs at least one; an IdentityProvider without any
    /// lets its own namespace grant anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow: Vec<AllowRule>,

    /// What decision points answer for a client that the operator never managed: `Allow` or `Deny`.
    /// Absent: `Allow`, but `Deny` where anybody may register clients at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_clients: Option<UnmanagedClients>,

    /// What happens to consents for managed clients that no grant names, as far as their subjects are
    /// known from other grants. `Report`: status counts them. `Ignore`: nothing. `Revoke`: they end,
    /// within the budget. Absent: `Report`. Example: `Report`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeclared_consents: Option<UndeclaredConsents>,

    /// How hard the provider may be driven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// How much of what nobody declares any more may be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,

    /// How often the registrations of all clients are compared with their grants: `1s` to `1h`.
    /// Example: `60s`.
    #[serde(default = "drift_check_interval")]
    #[schemars(schema_with = "schema::drift_check_interval")]
    pub drift_check_interval: String,

    /// How often every consent is compared with the grants, spread evenly over that time: `1s` to
    /// `30d`. Example: `24h`.
    #[serde(default = "consent_sweep_interval")]
    #[schemars(schema_with = "schema::consent_sweep_interval")]
    pub consent_sweep_interval: String,

    /// The id of a former cluster whose marks on clients count as this one's, after a cluster was
    /// built anew. Nothing else may manage clients under that id any more. Example:
    /// `3f0c1a52-7a1e-4a55-9d0e-2f5a1d6a8c11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cluster_id")]
    pub take_over_from: Option<String>,
}

fn drift_check_interval() -> String {
    "60s".to_owned()
}

fn consent_sweep_interval() -> String {
    "24h".to_owned()
}

fn access_token_lifetime() -> String {
    "300s".to_owned()
}

/// Whether the operator writes at the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The operator makes the provider hold to the grants.
    #[default]
    Enforce,
    /// The operator only looks.
    Observe,
}

/// Whether a live grant alone may take over a client that holds more than its grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Only after the client's ClientIdentity says `adopt: true`.
    #[default]
    Explicit,
    /// The first live grant takes the client over.
    Automatic,
}

/// What decision points answer for a client that was never managed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UnmanagedClients {
    /// They let it pass.
    #[default]
    Allow,
    /// They refuse it.
    Deny,
}

/// The connection of a provider object: exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Connection {
    /// The connection to Ory Hydra.
    Hydra(HydraSpec),
    /// An identity provider that exists only in the operator's memory, to try the operator without
    /// one. Nothing is enforced.
    Memory(MemorySpec),
}

/// A connection to Ory Hydra.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HydraSpec {
    /// The admin API of Hydra, without user, query and fragment, at most 512 characters. Example:
    /// `https://hydra-admin.iam.svc:4445`.
    #[serde(rename = "adminURL")]
    #[schemars(schema_with = "schema::http_url")]
    pub admin_url: String,
    /// `true` says that the network lets only the operator reach the admin API, which asks nobody
    /// for credentials. Otherwise grants name SharedAdminAPI among what is not enforced.
    #[serde(default)]
    pub admin_fenced: bool,
    /// How Hydra proves itself when it calls the operator before it issues a token. Absent: Hydra does
    /// not call it; then ceilings and ends are held, and grants name TokenIssuance among what is not
    /// enforced. Example: `{apiKeySecretRef: {name: hydra-hook, key: key}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_hook: Option<TokenHook>,
    /// How the consent app proves itself when it asks the operator for a decision.
    pub consent: ConsentApp,
    /// How long access tokens of managed clients live, `10s` to `1h`: the longest time that one can
    /// outlive its grant where a resource server does not ask back. Example: `300s`.
    #[serde(default = "access_token_lifetime")]
    #[schemars(schema_with = "schema::access_token_lifetime")]
    pub access_token_lifetime: String,
}

/// How Hydra proves itself when it calls the token hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenHook {
    /// The Secret with the key that Hydra sends as `X-Api-Key`. Example: `{name: hydra-hook, key:
    /// key}`.
    pub api_key_secret_ref: SecretKeyRef,
}

/// How the consent app proves itself when it asks for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsentApp {
    /// The Secret with the key that the consent app sends as `X-Api-Key`. Example:
    /// `{name: hydra-hook, key: consent-key}`.
    pub api_key_secret_ref: SecretKeyRef,
}

/// One key of a Secret, in the namespace of an IdentityProvider or, for a ClusterIdentityProvider,
/// in that of the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeyRef {
    /// The name of the Secret: in the same namespace for an IdentityProvider, in the operator's for
    /// a ClusterIdentityProvider. Example: `hydra-hook`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key in the Secret's data. Example: `key`.
    #[schemars(schema_with = "schema::secret_key")]
    pub key: String,
}

/// An identity provider that exists only in the operator's memory, to try the operator without one.
/// Nothing is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemorySpec {
    /// The clients that it starts with, at most 64. Example:
    /// `[{clientID: finance-reporting, scopes: [openid], grantTypes: [authorization_code]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub clients: Vec<MemoryClient>,
    /// The consents that it starts with, at most 64. Example:
    /// `[{clientID: finance-reporting, subject: 7f0c1a52, scopes: [openid]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub consents: Vec<MemoryConsent>,
}

/// A client that the model starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryClient {
    /// The client. Example: `finance-reporting`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    pub client_id: String,
    /// The scopes that it may ask for. Example: `[openid, "transactions:read"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::some_scopes")]
    pub scopes: Vec<String>,
    /// The audiences that it may ask for. Example: `["https://ledger.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::audiences")]
    pub audiences: Vec<String>,
    /// The grant types that it may use. Example: `[authorization_code, refresh_token]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::seed_grant_types")]
    pub grant_types: Vec<String>,
}

/// A consent that the model starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryConsent {
    /// The client. Example: `finance-reporting`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    pub client_id: String,
    /// The subject who consented. Example: `7f0c1a52`.
    #[schemars(schema_with = "schema::subject_id")]
    pub subject: String,
    /// The scopes that the subject consented to. Example: `[openid]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::some_scopes")]
    pub scopes: Vec<String>,
    /// The audiences that the subject consented to. Example: `["https://ledger.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::audiences")]
    pub audiences: Vec<String>,
}

/// One rule of who may grant what. What it does not name is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowRule {
    /// The namespaces whose grants may pass; absent: any. Tenants may be able to label their
    /// namespaces: prefer the label that they cannot set. Example: `{matchLabels:
    /// {kubernetes.io/metadata.name: finance}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelector>,
    /// The clients, each exact or a prefix that ends in `*`, 1 to 64; absent: any. Example:
    /// `["finance-*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::client_patterns")]
    pub clients: Vec<String>,
    /// The scopes, each exact or a prefix that ends in `*`, 1 to 128; absent: any. Every scope of a
    /// grant must match. Example: `[openid, "transactions:*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::scope_patterns")]
    pub scopes: Vec<String>,
    /// The audiences, each exact or a prefix that ends in `*`, 1 to 64; absent: any. Every audience
    /// of a grant must match. Example: `["https://ledger.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::audience_patterns")]
    pub audiences: Vec<String>,
    /// The bases; absent: any. Example: `[SubjectConsent]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 3))]
    pub bases: Vec<Basis>,
    /// The kinds of subject; absent: any. A rule that names kinds does not reach ClientOwn grants,
    /// which have no subject. Example: `[User]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 2))]
    pub subject_kinds: Vec<SubjectKind>,
    /// The longest time to expiresAt, counted from now: a grant is refused while it is longer.
    /// Absent: any. Example: `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_lifetime: Option<String>,
}

/// Selects namespaces by their labels: those that satisfy every entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NamespaceSelector {
    /// Labels that the namespace must have, at most 16. Example: `{kubernetes.io/metadata.name:
    /// finance}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on labels, at most 16. Example: `[{key: tier, operator: In, values: [prod,
    /// staging]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)")
    .message("In and NotIn compare with values and need at least one; Exists and DoesNotExist take none")
    .field_path(".values"))]
pub struct LabelRequirement {
    /// The key of the label. Example: `tier`.
    #[schemars(schema_with = "schema::label_key")]
    pub key: String,
    /// `In`: the label has one of the values. `NotIn`: it has none of them, or is missing.
    /// `Exists`: it is there. `DoesNotExist`: it is missing.
    pub operator: LabelOperator,
    /// The values for In and NotIn, at most 64. Example: `[prod, staging]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or is missing.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

/// How hard the provider may be driven. What ends authority skips the rate and keeps the
/// concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The most requests per second, 1 to 10000. Absent: 200 for Hydra. Example: `50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub requests_per_second: Option<i32>,
    /// The most requests at the same time, 1 to 256. Absent: 8. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<i32>,
}

/// What happens to consents that no grant names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UndeclaredConsents {
    /// Status counts them.
    #[default]
    Report,
    /// Nothing.
    Ignore,
    /// They end, within the budget.
    Revoke,
}

/// How much of what nobody declares any more may be removed within an hour: the larger of the two.
/// Beyond it nothing is removed until a person releases it. What a person or a date ended does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Removals per hour, 0 to 10000. Absent: 10. Example: `20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_removals: Option<i32>,
    /// Removals per hour in percent of the managed clients, 0 to 100. Absent: 1. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
}

/// What the operator found out about a provider. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProviderStatus {
    /// The generation of the spec that this status speaks about; -1 while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is so, is not so, or is not known: Ready, Reachable, Authenticated, Permitted,
    /// TokenHook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The version that the identity provider says it has. Example: `v2.3.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_text")]
    pub version: Option<String>,
    /// What the identity provider can do for grants. Example: `[ClientCeiling, TokenHook]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub capabilities: Vec<String>,
    /// What can be relied on, and how each was proved, at most 32. Example:
    /// `[{name: TokenHook, proof: "refused a probe"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub guarantees: Vec<Guarantee>,
    /// How many grants name the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantCounts>,
    /// Consents for managed clients that no grant names; only while there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeclared: Option<Undeclared>,
}

/// Consents for managed clients that no grant names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Undeclared {
    /// How many pairs of client and subject. Example: `3`.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// Some of them, client first. Example: `["finance-reporting User/7f0c1a52"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub sample: Vec<String>,
}

/// What can be relied on at the provider, and how that was proved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guarantee {
    /// What can be relied on. Example: `TokenHook`.
    #[schemars(schema_with = "schema::short_text")]
    pub name: String,
    /// How that was proved. Example: `refused a probe`.
    #[schemars(schema_with = "schema::short_text")]
    pub proof: String,
}

/// How many grants name the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantCounts {
    /// The ClientGrants that name the provider. Example: `12`.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Those of them that are in force. Example: `9`.
    #[schemars(range(min = 0))]
    pub active: i64,
}
