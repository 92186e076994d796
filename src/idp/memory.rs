//! The reference model of the port, in process: what every provider's steps mean.
//!
//! It has no network and never fails. Where a real IdP differs from it, this model is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Listed, Probe, Spoken, Urgency, Wanted, Write};
use crate::api::MemorySpec;
use crate::grant::consent::Consent;
use crate::grant::fault::Fault;
use crate::grant::observed::{Found, ObservedClient};
use crate::grant::plan::Step;
use crate::grant::{Authority, Capabilities, ClientKey, GrantType};
use crate::sharing::registration::Registration;

/// One model.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

/// What it holds.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Registrations.
    pub clients: BTreeMap<String, ObservedClient>,
    /// By client and subject.
    pub consents: BTreeMap<(String, String), Vec<Consent>>,
    /// Access tokens by client: the subject they speak for.
    pub tokens: BTreeMap<String, Vec<String>>,
    /// Every step ever carried out, with its client.
    pub log: Vec<(String, Step)>,
}

impl Memory {
    /// Seeded as the custom resource says.
    #[must_use]
    pub fn seeded(spec: &MemorySpec) -> Self {
        let mut state = State::default();
        for seed in &spec.clients {
            let mut client = ObservedClient::default();
            client.authority.scopes = seed.scopes.iter().cloned().collect();
            client.authority.audiences = seed.audiences.iter().cloned().collect();
            for name in &seed.grant_types {
                match GrantType::parse(name) {
                    Some(known) => _ = client.authority.grant_types.insert(known),
                    None => _ = client.extra.insert(format!("grant type {name}")),
                }
            }
            state.clients.insert(seed.client_id.clone(), client);
        }
        for (i, seed) in spec.consents.iter().enumerate() {
            let consent = Consent {
                challenge: format!("seed-{i}"),
                scopes: seed.scopes.iter().cloned().collect(),
                audiences: seed.audiences.iter().cloned().collect(),
                remembered: false,
                context: None,
                handled_at: None,
            };
            state.consents.entry((seed.client_id.clone(), seed.subject.clone())).or_default().push(consent);
        }
        Self { state: Mutex::new(state) }
    }

    /// Its state, to look at and to play the other actors (the subject, an administrator).
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_consents: true,
            slash_in_client_id: true,
            points: &[],
            not_enforced: &["Everything"],
            max_residual_seconds: Some(0),
        }
    }

    pub(super) async fn probe(&self) -> Result<Probe, Fault> {
        Ok(Probe { version: Some("memory".into()), issuer: None })
    }

    pub(super) async fn observe_client(&self, client: &str, _: Urgency) -> Result<Found, Fault> {
        Ok(self.state().clients.get(client).cloned().map_or(Found::Absent, Found::Present))
    }

    pub(super) async fn list_clients(&self, wanted: Wanted<'_>, spoken: Option<&Spoken<'_>>) -> Result<Listed, Fault> {
        let mut clients = self.state().clients.clone();
        let key = |id: &String| Some(ClientKey { provider: Spoken::has(spoken, id)?, client: Arc::from(id.as_str()) });
        // Nothing that clients are known by is in the model.
        let registrations = clients.keys().filter_map(key).map(Registration::new).collect();
        clients.retain(|id, client| wanted(id, client));
        Ok(Listed { clients, registrations })
    }

    pub(super) async fn observe_consents(
        &self,
        client: &str,
        subject: &str,
        _: Urgency,
    ) -> Result<Vec<Consent>, Fault> {
        let pair = (client.to_owned(), subject.to_owned());
        Ok(self.state().consents.get(&pair).cloned().unwrap_or_default())
    }

    pub(super) async fn observe_subject(
        &self,
        subject: &str,
        wanted: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<BTreeMap<String, Vec<Consent>>, Fault> {
        let state = self.state();
        let of = state.consents.iter().filter(|((client, s), _)| s == subject && wanted(client));
        Ok(of.map(|((client, _), listed)| (client.clone(), listed.clone())).collect())
    }

    pub(super) async fn execute(&self, write: Write<'_>) -> Result<(), Fault> {
        write.permit.check()?;
        let mut state = self.state();
        state.apply(write.client, write.step, write.ceiling, write.cluster);
        Ok(())
    }
}

impl State {
    /// What a step means.
    pub fn apply(&mut self, client: &str, step: &Step, ceiling: &Authority, cluster: &str) {
        self.log.push((client.to_owned(), step.clone()));
        match step {
            Step::SetRegistration => {
                if let Some(registered) = self.clients.get_mut(client) {
                    *registered = ObservedClient {
                        authority: ceiling.clone(),
                        extra: BTreeSet::new(),
                        settings: Vec::new(),
                        mark: Some(cluster.to_owned()),
                        born: registered.born.take(),
                    };
                }
            }
            Step::Release { put_back } => {
                if let Some(registered) = self.clients.get_mut(client) {
                    registered.mark = None;
                    if let Some(before) = put_back.as_ref().filter(|p| !p.scopes.is_empty()) {
                        registered.authority = before.clone();
                    }
                }
            }
            Step::RevokePair { subject, .. } => {
                self.consents.remove(&(client.to_owned(), subject.clone()));
                if let Some(tokens) = self.tokens.get_mut(client) {
                    tokens.retain(|of| of != subject);
                }
            }
            Step::RevokeClientTokens { .. } => _ = self.tokens.remove(client),
        }
    }
}
