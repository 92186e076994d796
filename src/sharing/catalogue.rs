//! The catalogue of rules: what each says, why, and what to do.

use std::fmt::Write as _;

use super::finding::Severity;
use super::index::Index;
use super::output::visible;
use super::rules::{
    Found, sc_101, sc_104, sc_105, sc_106, sc_111, sc_201, sc_202, sc_203, sc_204, sc_205, sc_206, sc_207, sc_301,
    sc_302, sc_303, sc_304, sc_306, sc_307, sc_401, sc_403, sc_901, sc_902,
};

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its id, which never changes.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its severity, before what makes a finding worse or better.
    pub severity: Severity,
    /// What it finds.
    pub what: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Where others describe it: OWASP Non-Human Identities Top 10 (2025), MITRE ATT&CK, CIS Kubernetes
    /// Benchmark.
    pub references: &'static [&'static str],
    /// Whether a `ClientIdentity` can accept its findings.
    pub accepts: bool,
    /// Whether scopes, subjects and environments make it worse, and weak evidence better.
    pub moves: bool,
    /// Whether it looks without being asked for.
    pub standard: bool,
    /// Finds.
    pub check: fn(&Index) -> Vec<Found>,
}

/// Every rule, by id.
pub const ALL: [&Rule; 22] = [
    &sc_101::RULE,
    &sc_104::RULE,
    &sc_105::RULE,
    &sc_106::RULE,
    &sc_111::RULE,
    &sc_201::RULE,
    &sc_202::RULE,
    &sc_203::RULE,
    &sc_204::RULE,
    &sc_205::RULE,
    &sc_206::RULE,
    &sc_207::RULE,
    &sc_301::RULE,
    &sc_302::RULE,
    &sc_303::RULE,
    &sc_304::RULE,
    &sc_306::RULE,
    &sc_307::RULE,
    &sc_401::RULE,
    &sc_403::RULE,
    &sc_901::RULE,
    &sc_902::RULE,
];

/// The rule with this id; small letters do too.
#[must_use]
pub fn find(id: &str) -> Option<&'static Rule> {
    ALL.into_iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

/// The rule that somebody asks for.
///
/// # Errors
///
/// There is none with this id; the message names the one whose id is nearest.
pub fn named(id: &str) -> Result<&'static Rule, String> {
    find(id).ok_or_else(|| {
        let id: String = visible(id).chars().take(32).collect();
        format!("there is no rule {id}: did you mean {}?", nearest(&id).id)
    })
}

/// The rule whose id is most like this.
#[must_use]
pub fn nearest(id: &str) -> &'static Rule {
    let id: Vec<char> = id.to_ascii_uppercase().chars().take(32).collect();
    // Only the digits differ among ids, so that a missing or foreign prefix must not decide.
    ALL.into_iter().min_by_key(|rule| distance(&id, &rule.id.chars().collect::<Vec<_>>())).unwrap_or(&sc_101::RULE)
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = row.first().copied().unwrap_or_default();
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.iter().enumerate() {
            let (left, above) = (row.get(j).copied().unwrap_or_default(), row.get(j + 1).copied().unwrap_or_default());
            let cost = (before + usize::from(x != y)).min(left + 1).min(above + 1);
            before = above;
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = cost;
            }
        }
    }
    row.last().copied().unwrap_or_default()
}

impl Rule {
    /// What is said beside the severity of a rule that looks only where it is asked for.
    fn asked(&self) -> &'static str {
        if self.standard { "" } else { ", with --also" }
    }

    /// The page of `clientgrant explain`.
    #[must_use]
    pub fn page(&self) -> String {
        format!(
            "{} {} ({}{})\n\n{}\n\nWhy: {}\n\nWhat to do: {}\n\nReferences: {}\n",
            self.id,
            self.name,
            self.severity.name(),
            self.asked(),
            self.what,
            self.why,
            self.remedy,
            self.references.join(", ")
        )
    }
}

/// The document with every rule, as `docs/sharing.md` has it.
#[must_use]
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| rule | name | severity |\n|---|---|---|\n");
    for rule in ALL {
        _ = writeln!(
            text,
            "| [{0}](#{1}) | {2} | {3}{4} |",
            rule.id,
            rule.id.to_lowercase(),
            rule.name,
            rule.severity.name(),
            rule.asked()
        );
    }
    for rule in ALL {
        let Rule { id, name, severity, what, why, remedy, references, .. } = rule;
        let severity = format!("{}{}", severity.name(), rule.asked());
        let references = references.join(" · ");
        _ = write!(
            text,
            "\n## {id}\n\n**{name}** ({severity}). {what}\n\nWhy: {why}\n\nWhat to do: {remedy}\n\n{references}\n"
        );
    }
    text
}

const INTRODUCTION: &str = "\
<!-- Generated by `make generate`: do not edit. -->
# Shared credentials

A grant speaks for one client. It says nothing any more when a workload can act as two. `clientgrant scan -f PATH…`
reads manifests (YAML, JSON, lists; directories; `-` for standard input) and reports which ServiceAccounts and workloads
share credentials across clients, with what an attacker there would gain. It asks no server and reads no Secret.

Which credential is whose is said by `ClientIdentity` objects; what none of them touches produces nothing.

```yaml
apiVersion: clientgrant.dev/v1alpha1
kind: ClientIdentity
metadata: {name: workflow-bot, namespace: it}
spec:
  providerRef: {kind: ClusterIdentityProvider, name: corp}
  clientID: workflow-bot
  serviceAccountName: workflow
  workloads: [{apiVersion: apps/v1, kind: Deployment, name: workflow}]
  credentials:
  - secret: {name: workflow-oidc, key: client-secret}
```

The unit is the key of a Secret as a container receives it: whoever mounts only the public half of a Secret is no holder
of its private key. Registrations that are one product say the same `family`.

Pods count as the workload that a person wrote. Who owns an object is believed where a controller of Kubernetes makes such
objects and takes the reference from those that are not its own, and of a Job that says to be of a CronJob, from which nobody
takes it; what says to be owned by something else counts as itself, and what a custom resource owns as that one (`SparkApplication.sparkoperator.k8s.io`). A Deployment that an operator made may
be listed in `workloads` by its own name, or as the custom resource that it was made for.

**Without pods.** Custom resources that name a Secret for a gateway or a server, which then acts as the client, count as
workloads that have no ServiceAccount, and are listed in `workloads` like others: `SecurityPolicy` of Envoy Gateway,
`KongPlugin`, `Policy` of the NGINX Ingress Controller, and `GrafanaDatasource`. The object that names it is the holder,
whatever made it. A Secret of another namespace is not followed: SC-901 says so of its client.

**Three answers.** A rule finds something, or finds nothing, or cannot tell: then SC-901 says why. What could not be read
is never taken for clean, and while anything could not be read nothing is concluded from what is absent (SC-302, SC-303,
SC-304). Pods are read in Kubernetes' own workloads, Argo Rollouts and Knative Services. An object of another kind (such as
a DeploymentConfig) that has pods which hold a client's credential, run as its ServiceAccount, or are listed by its
ClientIdentity, or that names a client's Secret or ServiceAccount anywhere, is not read and said to be, unless what it makes is
among the files, or, of what makes nothing, it is listed in `workloads` of the client's ClientIdentity.

**In the operator.** From the first `ClientIdentity` on that its provider's rules admit, the operator watches ServiceAccounts
and workloads, and says `CredentialExclusive` on it and on the client's grants: `True/Exclusive`, `False/SharedCredential` or
`Unknown/NotEvaluated`, with what was found and what hangs on it in its status. Before the identity provider has told how
the client is registered nothing is called exclusive; where it does not, that is `NotEvaluated`, after 30 seconds at the
latest, and so is everything while a kind brings nothing but errors. What is absent counts after `--sharing-grace`
(10 minutes); before, it may be late. A finding ends no grant. RBAC is looked at with `--sharing-rbac=true`
(SC-204, SC-205), for which the operator needs the right to list roles and bindings. Kinds that only some clusters have
count where they are served, and while one that is served may not be listed no credential is called exclusive. Whether a
value was copied from one Secret to another nobody can tell: where it may have been, it says `NotEvaluated` (SC-901).

**Policy reports.** Where the cluster has Reports of `openreports.io`, or PolicyReports of `wgpolicyk8s.io`, the operator writes
its findings there, too (`--report-api`): one for each subject with an open or accepted finding, in its namespace and owned by it,
and one ClusterReport for each rule. `fail`: `medium` or worse, and declared, federated or delivered; `warn`: weaker; `skip`:
accepted, or not evaluable. A report in a namespace names objects and clients of that namespace and counts all others
(`others-elsewhere`); who may read ClusterReports sees all names. Of people there are numbers only. Without a
ClientIdentity nothing is read or written there.

**Exit codes.** 0: nothing open at or above `--fail-on` (default `medium`), and everything was read. 1: something is. 2:
it could not run, or something could not be read (`--ignore-unread` lets that pass): also where nothing came on standard
input, or where some objects say a namespace and others none. `-n` says theirs, as a chart gets it when it is installed.

**Rules that have to be asked for.** SC-206 and SC-403 are true of most clusters: they look only with `--also SC-206`.

**RBAC.** Roles and bindings among the files, or of the cluster, say who reads the Secrets of clients without mounting
them (SC-204, SC-205). Of whoever reads those of one client only, it is said where a ClientIdentity says whose the client is
and such an account is there, and of no issuer. What a group gives is said of the group, and what several give together of
the narrowest; of an account what it can do beyond its groups. What may be done without credentials
(`system:unauthenticated`) everybody may do. Rights are followed one step: who can become somebody else that reads is not
told. Aggregated roles count as filled in; `view`, `edit`, `admin` and `cluster-admin` are known, and where they are not
given, given roles that are labelled to be added to them count. What Kubernetes gives its own controllers in `kube-system`
(its label, and names that begin with `system:`) is left out. A binding to a role that was not given is SC-901.

**ConfigMaps** among the files say which ids and credentials of clients workloads receive from them as literals: by the name
of a key, of the variable that it becomes, or of a line (`name: value`, `name=value`) of a file of up to 64 KiB (SC-401). Those
of a cluster are read with `scan --configmaps`, and by the operator with `--sharing-configmaps=true`, for which it needs the
right to list them; no value is kept but the ids of declared clients.

**Roles.** Some have credentials of others by their job. Whoever runs the cluster says who, for a ServiceAccount with all
that runs as it, or for one workload: `scan --role issuer=auth/Deployment/dex`, `--sharing-role` of the operator. `issuer`: the
identity provider itself, of which neither SC-201, SC-207, SC-301 nor SC-302 is said; what clients share stays SC-101. `verifier`:
the other end of a shared secret, no further application in SC-307. `broker`: a gateway for several applications, SC-201 is
info. `platform`: controllers that read Secrets or run workloads, SC-204 and SC-205 are info.

**Registrations.** What clients have in common at the identity provider (SC-104, SC-105, SC-111, and SC-106 beyond what is
declared) is compared by the operator, which reads the clients of ClientIdentities every `driftCheckInterval`; `scan` has no
registrations, and says SC-901 once where two clients are declared. The operator also says how each client is registered, and
`RegistrationUnchanged`: `False/RegistrationChanged` once redirect URIs, authentication method or keys are not as they were first
seen or as `spec.pin` says, or once the client was registered anew under the same id. That stays until it is restored, or
until a person edits the ClientIdentity so that its pin says what is registered now. With `onRegistrationChange: Suspend` every
grant of the client is out of force meanwhile. While there is a pin, a client that was registered anew is not taken over
(`ClientReplaced`).

**Proposals.** `clientgrant suggest -f PATH…` writes ClientIdentity objects for the clients of grants, each line with what it
was concluded from: ids among variables, arguments, fields and ConfigMaps, Secrets that are named as credentials, tokens for
somebody else.
They are for a person to review; nothing is applied.

**Severity.** One step up where a client of the finding has `offline_access`, more than 100 subjects, or the clients are of
different environments; one step down where the evidence is only potential (an optional reference, a volume that no
container mounts). Findings stand in the order of what is gained, then severity. Where many clients share one thing, each has a
finding that names 50 of them, counts the rest (`moreClients`) and shows ten declarations of others; where some are only
counted no exception accepts it.

**SARIF.** Every result has a file, without which code hosts refuse the whole log: what stands in none is shown at the begin of
the first that was read, and in its place `stdin` or `cluster` where there was none.

**Exceptions** are entries of `spec.sharing.exceptions` of a `ClientIdentity`: rule, with whom, why (20 characters or
more), until when (180 days at most). They speak for their own client only. `with` names the ClientIdentity of each other client, or
what the finding is about, such as the ServiceAccount: of two clients either of them may say so, of more each has to. So a
client that joins opens the finding again, and so does the end date. A suppressed finding is still shown.

**What it does not see:** values copied inside an application, nodes, Secrets that an application fetches from a vault by
itself, the same value in two Secrets (but see SC-901), ServiceAccounts, roles and pods that are not in the files, and a token that
Kubernetes writes into a Secret of type `kubernetes.io/service-account-token`. A template (`{{ }}`, `${x}`) has to be rendered
first, what SOPS encrypted (`ENC[…]`) decrypted, and a Kustomization built.
";
