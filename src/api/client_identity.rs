//! `ClientIdentity`: who a client is.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ProviderRef, schema};

/// Who a client is, and whether the operator may take it over.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "ClientIdentity",
    plural = "clientidentities",
    namespaced,
    status = "ClientIdentityStatus",
    derive = "PartialEq",
    shortname = "cident",
    category = "consent",
    doc = "Who an OAuth client is. Alone it changes nothing at the identity provider. Example: the client `workflow-bot` may be taken over although it holds more than its grants.",
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientID", description = "The client."),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.providerRef.name",
        description = "The provider that holds the client."
    ),
    printcolumn(
        name = "Adopt",
        type_ = "boolean",
        json_path = ".spec.adopt",
        description = "Whether the operator may take the client over."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the object is taken into account."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Its state in one word."
    ),
    printcolumn(
        name = "Exclusive",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"CredentialExclusive\")].status",
        description = "Whether nothing but the client's own workloads can act as it."
    ),
    printcolumn(
        name = "Unchanged",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"RegistrationUnchanged\")].status",
        description = "Whether the client is registered as it was accepted."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ClientIdentitySpec {
    /// The provider object that connects to the identity provider where the client is registered.
    /// Cannot be changed. Example: `{kind: ClusterIdentityProvider, name: corp}`.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("providerRef cannot be changed, because it says whose client this is: make a new ClientIdentity")
        .reason(Reason::FieldValueForbidden))]
    pub provider_ref: ProviderRef,
    /// The client: its OAuth 2.0 `client_id`, 1 to 2048 printable ASCII characters without spaces.
    /// Cannot be changed. Example: `workflow-bot`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("clientID cannot be changed, because it says which client this is: make a new ClientIdentity")
        .reason(Reason::FieldValueForbidden))]
    pub client_id: String,
    /// `true` lets the operator take over a client that holds more than its grants: everything
    /// beyond them is taken away, and tokens issued before end.
    #[serde(default)]
    pub adopt: bool,
    /// The environment the client belongs to, a DNS label. Example: `prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub environment: Option<String>,
    /// Groups registrations of one namespace that are one product, such as its web and its command
    /// line client: sharing among them is no finding. A DNS label. Example: `workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub family: Option<String>,
    /// The ServiceAccount, in the same namespace, that the client's workloads run as. Where no
    /// workload is listed, every workload of this account may hold the client's credentials.
    /// Example: `workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub service_account_name: Option<String>,
    /// The workloads of the same namespace that may hold the client's credentials, at most 16, or
    /// objects of a gateway that name them, such as a SecurityPolicy. Where any is listed, no other may. Example: `[{apiVersion: apps/v1, kind: Deployment, name: workflow}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub workloads: Vec<WorkloadRef>,
    /// What the client authenticates with, 1 to 4 entries, two of them during a rotation. The
    /// operator never reads a value. Example: `[{secret: {name: workflow-oidc, key: client-secret}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub credentials: Vec<Credential>,
    /// How the client has to be registered at the identity provider. Without it, what is registered when
    /// it is first seen counts. To accept a change, let it say what is registered now: an edit of the
    /// object takes everything else that has changed until then (keys, a client registered anew) for
    /// accepted as well, if the pin is as is registered. Example: `{authMethods: [client_secret_basic]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// What happens while the registration is not as it was accepted (condition RegistrationUnchanged).
    /// `Report`: it is said. `Suspend`: every grant of the client is out of force until it is accepted.
    #[serde(default, skip_serializing_if = "OnRegistrationChange::is_default")]
    pub on_registration_change: OnRegistrationChange,
    /// What was decided about findings of shared credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
}

/// How a client has to be registered. While there is one, a client that was registered anew under the
/// same id is not taken over again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.redirectURIs) || has(self.authMethods)")
    .message("say redirectURIs, authMethods or both: an empty pin compares nothing"))]
pub struct Pin {
    /// The redirect URIs, all of them and no others, at most 64; an empty list: none. Example:
    /// `["https://workflow.example.com/cb"]`.
    #[serde(rename = "redirectURIs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::redirect_uris")]
    pub redirect_uris: Option<Vec<String>>,
    /// The methods of which the client authenticates with one, by the names of RFC 7591, 1 to 8.
    /// Example: `[client_secret_basic]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::auth_methods")]
    pub auth_methods: Option<Vec<String>>,
}

/// What happens while a registration is not as it was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRegistrationChange {
    /// It is said, and nothing else.
    #[default]
    Report,
    /// Every grant of the client is out of force.
    Suspend,
}

impl OnRegistrationChange {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A workload in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// API group and version of the workload; only the group is compared. Example: `apps/v1`.
    #[schemars(schema_with = "schema::api_version")]
    pub api_version: String,
    /// The kind of the workload. Example: `Deployment`.
    #[schemars(schema_with = "schema::kind")]
    pub kind: String,
    /// The name of the workload. Example: `workflow`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// One thing that a client authenticates with: a key of a Secret, or a federated subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secret) != has(self.federated)")
    .message("say either secret or federated: two ways to authenticate are two entries"))]
pub struct Credential {
    /// The key of a Secret of the same namespace that holds the client secret or private key.
    /// Example: `{name: workflow-oidc, key: client-secret}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<CredentialKey>,
    /// The subject whose tokens the identity provider takes for the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated: Option<Federated>,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct CredentialKey {
    /// The name of the Secret. Example: `workflow-oidc`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key in the Secret's data. Example: `client-secret`.
    #[schemars(schema_with = "schema::secret_key")]
    pub key: String,
}

/// A subject whose tokens authenticate the client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Federated {
    /// The `sub` of the tokens. Example: `system:serviceaccount:it:workflow`.
    #[schemars(schema_with = "schema::federated_subject")]
    pub subject: String,
}

/// What was decided about findings of shared credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sharing {
    /// Findings that are accepted until a date, at most 32. They are still shown, as suppressed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub exceptions: Vec<SharingException>,
}

/// One rule of shared credentials that is accepted, with whom, why, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharingException {
    /// The rule. Example: `SC-202`.
    #[schemars(schema_with = "schema::sharing_rule")]
    pub rule: String,
    /// With whom, 1 to 16 objects of the same namespace: the ClientIdentity of each other client, or
    /// the subject of the finding, where of more than two clients each has to name it. Example: `[{kind: ServiceAccount, name: workflow}]`.
    #[schemars(length(min = 1, max = 16))]
    pub with: Vec<Counterpart>,
    /// Why, for whoever reviews it, 20 to 512 characters. Example: `both run in one pod until SEC-412
    /// is done`.
    #[schemars(length(min = 20, max = 512))]
    pub reason: String,
    /// Until when, at most 180 days ahead; afterwards the finding is open again. Example:
    /// `2027-02-20T00:00:00Z`.
    #[schemars(schema_with = "schema::instant")]
    pub expires_at: String,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counterpart {
    /// The kind of the object. Example: `ServiceAccount`.
    #[schemars(schema_with = "schema::kind")]
    pub kind: String,
    /// The name of the object. Example: `workflow`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// What the operator found out about a client identity. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientIdentityStatus {
    /// The generation of the spec that this status speaks about; -1 while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is so, is not so, or is not known: Ready, Reconciling, Stalled,
    /// CredentialExclusive, RegistrationUnchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Digests of how the client was registered when that was last accepted, which is when it was first
    /// seen if nobody has said anything since. What the pin speaks about is compared with the pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_text")]
    pub fingerprint: Option<String>,
    /// How the client is registered at the identity provider, as it was last read. No secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Shared credentials that concern the client, the worst first, at most 20. Of another namespace
    /// nothing is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub findings: Vec<SharedFinding>,
    /// What hangs on the open findings, at least. Absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blast_radius: Option<BlastRadius>,
}

/// How a client is registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The name that people are shown. Example: `Workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_text")]
    pub display_name: Option<String>,
    /// Where users are sent back to, at most 128. Example: `["https://workflow.example.com/cb"]`.
    #[serde(rename = "redirectURIs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub redirect_uris: Vec<String>,
    /// How it authenticates, by the names of RFC 7591. Example: `client_secret_basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_text")]
    pub auth_method: Option<String>,
    /// Whether it authenticates with nothing (a public client).
    #[serde(default)]
    pub public: bool,
}

/// One finding of a shared credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedFinding {
    /// The rule; `clientgrant explain` describes it. Example: `SC-201`.
    #[schemars(schema_with = "schema::short_text")]
    pub rule: String,
    /// info, low, medium, high or critical. Example: `high`.
    #[schemars(schema_with = "schema::short_text")]
    pub severity: String,
    /// open, suppressed (accepted by an exception) or notEvaluable. Example: `open`.
    #[schemars(schema_with = "schema::short_text")]
    pub state: String,
    /// What it is about. Absent: it is in another namespace. Example: `Deployment/workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::status_entry")]
    pub subject: Option<String>,
    /// The other clients that a ClientIdentity of this namespace speaks about. Example: `[helpdesk]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_list")]
    pub with: Vec<String>,
    /// How many more clients it concerns. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub others: Option<i64>,
}

/// What hangs on findings, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlastRadius {
    /// Grants in force of the clients of one finding. Example: `2`.
    #[schemars(range(min = 0))]
    pub grants: i64,
    /// Subjects of these grants; for all of them counts as one. Example: `1`.
    #[schemars(range(min = 0))]
    pub subjects: i64,
    /// Scopes of these grants. Example: `3`.
    #[schemars(range(min = 0))]
    pub scopes: i64,
}
