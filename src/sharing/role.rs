//! Whose job it is: workloads and ServiceAccounts for which it is no finding, or a lesser one, that they can act as
//! clients. Whoever runs the cluster says so; no workload says it of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::finding::Object;
use super::workload::Workload;

/// A job for which credentials of others are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// The identity provider itself: it has the secret of every client. Only what two clients share is said of it.
    Issuer,
    /// The other end of a shared secret, such as a server and its callers: no further application of the client.
    Verifier,
    /// A gateway that logs users in for several applications: that it holds their credentials is info.
    Broker,
    /// Reads Secrets or runs workloads by its job, such as cert-manager: what RBAC lets it do is info.
    Platform,
}

/// Somebody with a job: `ROLE=NAMESPACE/NAME` is a ServiceAccount with all that runs as it, and
/// `ROLE=NAMESPACE/KIND/NAME` a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Appointed {
    /// The job.
    pub role: Role,
    /// Who has it.
    pub object: Object,
}

impl FromStr for Appointed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "say ROLE=NAMESPACE/NAME for a ServiceAccount or ROLE=NAMESPACE/KIND/NAME for a workload, such as \
                    platform=cert-manager/cert-manager; ROLE is issuer, verifier, broker or platform";
        let (role, who) = text.split_once('=').ok_or(form)?;
        let role = <Role as clap::ValueEnum>::from_str(role, false).map_err(|_| form)?;
        let parts: Vec<&str> = who.split('/').collect();
        let object = match parts[..] {
            [namespace, name] => Object::new("ServiceAccount", namespace, name),
            // What RBAC allows it allows an account.
            [_, _, _] if role == Role::Platform => return Err("a platform is a ServiceAccount: NAMESPACE/NAME".into()),
            [namespace, kind, name] => Object::new(kind, namespace, name),
            _ => return Err(form.to_owned()),
        };
        if object.kind.is_empty() || object.namespace.is_empty() || object.name.is_empty() {
            return Err(form.to_owned());
        }
        Ok(Self { role, object })
    }
}

/// Who has which job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(BTreeMap<Role, BTreeSet<Object>>);

impl FromIterator<Appointed> for Roles {
    fn from_iter<I: IntoIterator<Item = Appointed>>(all: I) -> Self {
        let mut roles = Self::default();
        for Appointed { role, object } in all {
            roles.0.entry(role).or_default().insert(object);
        }
        roles
    }
}

impl Roles {
    /// Whether a workload has a job, by itself or by its ServiceAccount.
    #[must_use]
    pub fn has(&self, role: Role, workload: &Workload) -> bool {
        self.0.get(&role).is_some_and(|all| all.contains(&*workload.object))
            || workload.account().is_some_and(|name| self.has_account(role, &workload.object.namespace, name))
    }

    /// Whether a ServiceAccount has a job.
    #[must_use]
    pub fn has_account(&self, role: Role, namespace: &str, name: &str) -> bool {
        self.0.get(&role).is_some_and(|all| all.contains(&Object::new("ServiceAccount", namespace, name)))
    }
}
