//! One workload, with what it can act as.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smol_str::SmolStr;

use super::configmap::Reference;
use super::facts::{Edge, Elsewhere, Kind, Literal, Template, Token};
use super::finding::{Evidence, Grade, Object, Place};
use super::index::{Index, nobody};
use crate::grant::ClientKey;

/// A workload can act as a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposure {
    /// The client.
    pub client: ClientKey,
    /// How sure.
    pub grade: Grade,
    /// The container that has it; `None`: all of them.
    pub container: Option<SmolStr>,
    /// The Secret and the client's key in it; `None` where the identity is the credential.
    pub slot: Option<(SmolStr, SmolStr)>,
    /// The container receives every key of the Secret.
    pub whole: bool,
    /// It is a variable.
    pub variable: bool,
    /// The field, of the template.
    pub path: SmolStr,
}

/// One workload with what it can act as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What a person wrote.
    pub object: Arc<Object>,
    /// Where it was read first.
    pub place: Place,
    /// As which ServiceAccount its pods run; empty: it has none.
    pub service_account: SmolStr,
    /// What its pods are like, sorted: more than one during a rollout, or where something was injected.
    pub templates: Vec<Arc<Template>>,
    /// Whether its pods get a token of their ServiceAccount for the API server.
    pub automounts: bool,
    /// What it can act as: sorted, and each once.
    pub exposures: Vec<Exposure>,
    /// Literals that its containers receive from ConfigMaps.
    pub received: BTreeSet<Literal>,
    /// Clients whose `ClientIdentity` names it, or its ServiceAccount.
    pub entitled: Arc<BTreeSet<ClientKey>>,
    /// Its clients: those it is entitled to, and those it can act as and of which nobody says whose they are.
    pub uses: Arc<BTreeSet<ClientKey>>,
}

impl Workload {
    /// What its first template says, joined with nothing yet.
    pub(super) fn new(object: Arc<Object>, place: Place, template: Arc<Template>) -> Self {
        let service_account = template.service_account.clone();
        Self {
            object,
            place,
            service_account,
            templates: vec![template],
            automounts: false,
            exposures: Vec::new(),
            received: BTreeSet::new(),
            entitled: nobody(),
            uses: nobody(),
        }
    }

    /// The object, as findings name it.
    #[must_use]
    pub fn name(&self) -> Object {
        (*self.object).clone()
    }

    /// As which ServiceAccount its pods run. `None`: it has none, or borrows their template from what is not there.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        Some(self.service_account.as_str()).filter(|account| !account.is_empty())
    }

    /// Evidence that stands in its template.
    #[must_use]
    pub fn evidence(&self, field: &str) -> Evidence {
        let path = self.path(field);
        Evidence { path, place: self.place.clone(), object: self.name() }
    }

    /// A field of its template, as a field of the object; of a kind that is not known, as one of its pods.
    #[must_use]
    pub fn path(&self, field: &str) -> String {
        Kind::named(&self.object.kind).map_or_else(|| field.to_owned(), |kind| kind.path(field))
    }

    /// What its containers receive.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.templates.iter().flat_map(|t| &t.edges)
    }

    /// Keys of Secrets of other namespaces that it names.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Elsewhere> {
        self.templates.iter().flat_map(|t| &t.elsewhere)
    }

    /// Tokens in volumes.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.templates.iter().flat_map(|t| &t.tokens)
    }

    /// Literals that matter.
    pub fn literals(&self) -> BTreeSet<&Literal> {
        self.templates.iter().flat_map(|t| &t.literals).chain(&self.received).collect()
    }

    /// What its containers receive of ConfigMaps.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.templates.iter().flat_map(|t| &t.configmaps)
    }

    /// Whether something is delivered to it whose content no manifest says.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.templates.iter().any(|t| !t.opaque.is_empty() || t.borrows.is_some() || !t.elsewhere.is_empty())
    }

    /// Deliveries whose content no manifest says: the field of the object, and what it is.
    #[must_use]
    pub fn opaque(&self) -> BTreeSet<(String, String)> {
        let said = self.templates.iter().flat_map(|t| &t.opaque);
        let said = said.map(|(field, what)| (self.path(field), what.to_string()));
        let borrowed = self.templates.iter().filter_map(|t| t.borrows.as_ref());
        let borrowed = borrowed.map(|(kind, name)| ("spec.workloadRef".to_owned(), format!("{kind}/{name}")));
        let elsewhere = self
            .elsewhere()
            .map(|of| (of.path.to_string(), format!("Secret/{}/{}, of another namespace", of.namespace, of.secret)));
        said.chain(borrowed).chain(elsewhere).collect()
    }

    /// The application that its labels name; what is closest to the top of the list of those that may counts.
    #[must_use]
    pub fn app(&self) -> Option<&str> {
        self.templates.iter().filter_map(|t| t.app.as_ref()).min().map(|(_, app)| app.as_str())
    }

    /// Which of these clients are its own. `None`: entitled to several, it stands for each of them alike.
    #[must_use]
    pub fn own(&self, index: &Index, clients: &BTreeSet<ClientKey>) -> Option<BTreeSet<ClientKey>> {
        let own: BTreeSet<ClientKey> = self.entitled.intersection(clients).cloned().collect();
        (!index.shared(&own)).then_some(own)
    }

    /// The strongest grade of what exposes these clients.
    #[must_use]
    pub fn grade(&self, clients: &BTreeSet<ClientKey>) -> Grade {
        let of_these = self.exposures.iter().filter(|e| clients.contains(&e.client));
        // Each of them has to be exposed: the weakest of the strongest counts.
        let mut best = BTreeMap::<&ClientKey, Grade>::new();
        for exposure in of_these {
            let grade = best.entry(&exposure.client).or_insert(exposure.grade);
            *grade = exposure.grade.max(*grade);
        }
        best.into_values().min().unwrap_or(Grade::Declared)
    }
}
