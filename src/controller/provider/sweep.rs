//! One complete picture after the other: registrations in bulk, and the consents of known subjects.
//!
//! What differs is only marked due: before anything is done the single client is read again. What nobody
//! declares waits until [`crate::grant::collect`] says that it may go.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Context, Kept, Object};
use crate::api::{Undeclared, UndeclaredConsents, bounds, duration};
use crate::clock;
use crate::grant::collect::{Candidate, Care, Hold, Picture, Sweep};
use crate::grant::fault::Fault;
use crate::grant::observed::ObservedClient;
use crate::grant::standing::{self, Refusal, Standing};
use crate::grant::{Authority, ClientKey, ClientView, Subject, desired};
use crate::idp::hydra::probe::PROBE;
use crate::idp::{Idp, Spoken};
use crate::telemetry::Differs;
use crate::world::{Due, Lane};

/// Subjects and clients named as a sample.
const SAMPLE: usize = 20;

/// What remains from one sweep to the next.
#[derive(Debug, Default)]
pub(super) struct Sweeping {
    /// The term in which all of it was seen. Somebody else may have led since the last one, and what was seen before
    /// agrees with nothing.
    term: Option<u64>,
    sweep: Sweep,
    /// Clients by subject, of consents that no grant names.
    undeclared: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// The subject that was read last.
    cursor: Option<String>,
    begun: bool,
    /// How many subjects are to be read by now.
    owed: f64,
    /// Registrations as they were, where the provider is only observed.
    observed: BTreeMap<Arc<str>, ObservedClient>,
    /// Removals that wait.
    pub(super) hold: Option<Hold>,
}

impl Sweeping {
    fn begin(&mut self, term: u64) {
        if self.term != Some(term) {
            // What was removed within the hour was, whoever led since.
            let sweep = std::mem::take(&mut self.sweep).anew();
            *self = Self { term: Some(term), sweep, ..Self::default() };
        }
    }

    /// Client and subject of each of them.
    fn pairs(&self) -> impl Iterator<Item = (&Arc<str>, &String)> {
        self.undeclared.iter().flat_map(|(subject, clients)| clients.iter().map(move |client| (client, subject)))
    }

    /// Consents that no grant names, for the provider's status.
    pub(super) fn told(&self) -> Option<Undeclared> {
        let count = self.pairs().count();
        let name =
            |(client, subject): (&Arc<str>, &String)| bounds::fit(&format!("{client} User/{subject}"), bounds::ENTRY);
        let sample = self.pairs().take(SAMPLE).map(name).collect();
        (count > 0).then(|| Undeclared { count: i64::try_from(count).unwrap_or(i64::MAX), sample })
    }
}

/// One sweep. What it concludes is due; an error means that nothing may be concluded.
pub(super) async fn sweep(context: &Context, object: &Object, kept: &Kept, idp: &Idp) -> Result<(), Fault> {
    let provider = &object.key;
    let known = context.world.clients_of(provider);
    let named: HashSet<&str> = known.iter().map(|key| &*key.client).collect();
    let cluster = &context.cluster;
    let wanted = |id: &str, client: &ObservedClient| named.contains(id) || client.mark.as_deref() == Some(cluster);
    let (asked, term) = (context.sharing.spoken(&context.world, provider), context.world.leadership().term());
    let listed = idp.list_clients(&wanted, Some(Spoken { provider, clients: &asked })).await?;
    if let Some(term) = term {
        kept.sweeping().begin(term);
        context.sharing.registrations(term, provider, asked, listed.registrations);
    }
    let found = listed.clients;
    let rewound = context.world.rewound() || kept.rewound.load(Ordering::Relaxed);
    let mut picture = Picture { total: known.len(), rewound, ..Picture::default() };
    for key in &known {
        let view = context.world.view(key);
        registration(context, kept, &view, found.get(&*key.client), &mut picture);
    }
    let released = context.world.released(provider);
    for (id, client) in found.iter().filter(|(id, _)| !named.contains(id.as_str()) && !id.starts_with(PROBE)) {
        if released.contains(id.as_str()) {
            let key = ClientKey { provider: provider.clone(), client: Arc::from(id.as_str()) };
            context.queue.push(Due::look(key, BTreeSet::new(), Lane::Apply));
        } else if !client.is_exactly(&Authority::default(), cluster) {
            picture.candidates.insert(Candidate::Client(Arc::from(id.as_str())));
        }
    }
    let undeclared = object.spec.undeclared_consents.unwrap_or_default();
    if undeclared != UndeclaredConsents::Ignore {
        consents(context, object, kept, idp).await;
    }
    // What was seen in a term that is over, or late, agrees with nothing.
    if term.is_none() || context.world.leadership().term() != term {
        return Ok(());
    }
    let mut state = kept.sweeping();
    if undeclared == UndeclaredConsents::Revoke {
        let consent = |(client, subject): (&Arc<str>, &String)| Candidate::Consent {
            client: client.clone(),
            subject: subject.clone(),
        };
        picture.candidates.extend(state.pairs().map(consent));
    }
    let budget = object.spec.budget.clone().unwrap_or_default();
    let care = Care {
        agree: context.config.sweep_agreement,
        grace: context.config.unadmitted_grace,
        most: budget.max_removals.and_then(|n| usize::try_from(n).ok()).unwrap_or(10),
        percent: budget.percent.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
    };
    let released = kept.release_hold();
    let (collect, hold) = state.sweep.take_in(&picture, care, released.as_deref(), clock::now());
    if picture.candidates.is_empty() {
        kept.rewound.store(false, Ordering::Relaxed);
    }
    if hold != state.hold
        && let Some(hold) = &hold
    {
        tracing::error!(%provider, removals = hold.count, id = hold.id, "the sweep holds removals back until a person releases them");
    }
    context.world.set_held(provider, hold.is_some());
    let clients = picture.candidates.iter().filter(|c| matches!(c, Candidate::Client(_))).count();
    context.world.set_undeclared(provider, state.pairs().count(), clients);
    state.hold = hold;
    drop(state);
    context.queue.push_all(context.world.set_collect(provider, collect));
    Ok(())
}

/// One registration against what is declared.
fn registration(
    context: &Context,
    kept: &Kept,
    view: &ClientView,
    found: Option<&ObservedClient>,
    picture: &mut Picture,
) {
    let key = &view.key;
    if view.observing() {
        let mut state = kept.sweeping();
        let before = match found {
            Some(client) => state.observed.insert(key.client.clone(), client.clone()),
            None => state.observed.remove(&key.client),
        };
        if before.as_ref() != found && !view.grants.is_empty() {
            let grants = view.all().map(|grant| grant.uid.clone()).collect();
            context.queue.push(Due::look(key.clone(), grants, Lane::Drift));
        }
        return;
    }
    if view.managed.is_none() {
        return;
    }
    let now = clock::now();
    unadmitted(view, picture);
    let ceiling = desired::ceiling(view, now);
    let (lane, how) = match found {
        Some(client) if client.is_exactly(&ceiling, &context.cluster) => {
            if view.grants.is_empty() {
                picture.at_rest.insert(key.client.clone());
            }
            return;
        }
        // Another cluster's by now: not ours to touch.
        Some(client) if client.mark.as_deref().is_some_and(|mark| !view.ours(mark, &context.cluster)) => return,
        Some(_) if view.grants.is_empty() => {
            picture.candidates.insert(Candidate::Client(key.client.clone()));
            return;
        }
        Some(client) if client.exceeds(&ceiling) => (Lane::Narrow, Differs::Excess),
        Some(_) => (Lane::Drift, Differs::Other),
        None if ceiling.scopes.is_empty() => return,
        None => (Lane::Drift, Differs::Missing),
    };
    context.metrics.drifted(how);
    tracing::info!(client = %key.client, provider = %key.provider, "the registration is not as its grants ask");
    context.queue.push(Due::look(key.clone(), BTreeSet::new(), lane));
}

/// Consents under grants that had been in force and are not allowed any more.
fn unadmitted(view: &ClientView, picture: &mut Picture) {
    for (grant, standing) in standing::all(view, clock::now()) {
        if let (Subject::User(subject), Standing::Refused(Refusal::NotAllowed(_))) = (&grant.subject, &standing)
            && grant.held
            && !grant.confirmed()
        {
            let (client, subject) = (view.key.client.clone(), subject.clone());
            picture.candidates.insert(Candidate::Unadmitted { client, subject });
        }
    }
}

/// Reads the consents of the next known subjects, so that all of them are read once per interval.
async fn consents(context: &Context, object: &Object, kept: &Kept, idp: &Idp) {
    let provider = &object.key;
    let view = |client: &str| context.world.view(&ClientKey { provider: provider.clone(), client: Arc::from(client) });
    let subjects: Vec<String> = context.world.subjects_of(provider).into_iter().collect();
    let every = duration::parse(&object.spec.consent_sweep_interval).unwrap_or(Duration::from_secs(86_400));
    let tick = duration::parse(&object.spec.drift_check_interval).unwrap_or(Duration::from_secs(60));
    let share = (tick.as_secs_f64() / every.as_secs_f64()).min(1.0);
    let (due, start) = {
        let mut state = kept.sweeping();
        if !std::mem::replace(&mut state.begun, true) {
            // A start is not a reason to read more.
            return;
        }
        state.owed = (state.owed + subjects.len() as f64 * share).min(subjects.len() as f64);
        let due = state.owed.floor();
        state.owed -= due;
        state.undeclared.retain(|subject, _| subjects.binary_search(subject).is_ok());
        let after = |cursor: &String| subjects.partition_point(|s| s <= cursor);
        (due as usize, state.cursor.as_ref().map_or(0, after))
    };
    for subject in subjects.iter().cycle().skip(start).take(due) {
        match idp.observe_subject(subject, &|client| view(client).managed.is_some()).await {
            Ok(listed) => {
                let undeclared = listed.into_keys().filter(|client| !view(client).names(subject));
                let undeclared: BTreeSet<Arc<str>> = undeclared.map(Arc::from).collect();
                let mut state = kept.sweeping();
                if undeclared.is_empty() {
                    state.undeclared.remove(subject);
                } else {
                    state.undeclared.insert(subject.clone(), undeclared);
                }
                state.cursor = Some(subject.clone());
            }
            Err(fault) => {
                tracing::warn!(%provider, %fault, "the consents of a subject could not be swept");
                return;
            }
        }
    }
}
