//! What is to be done about one client: a value, compared, logged and tested as such.
//!
//! An empty plan means converged. Every step may be repeated; the read-back decides.
//!
//! **Ending authority is two passes.** A decision point may have said yes just before the end, and the
//! IdP then writes a token just after our first revocation. So what ended is revoked at once, and once
//! more after [`PASS_GAP`], when every such answer has run out. [`Track`] remembers which pass is done;
//! losing it (a crash) only means that both are done again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::collect::SweepProof;
use super::consent;
use super::observed::{Found, Observation, ObservedClient};
use super::standing::{self, Held, Refusal, Standing};
use super::{
    Adoption, Authority, Basis, ClientView, Grant, HookProof, PASS_GAP, RevocationCause, Subject, Timestamp, desired,
};

/// One idempotent thing to do at the IdP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// End every consent and token that one subject's approval gave the client.
    RevokePair {
        /// The IdP's internal subject.
        subject: String,
        /// What asked for it.
        warrant: Warrant,
    },
    /// End every access token of the client.
    RevokeClientTokens {
        /// What asked for it.
        warrant: Warrant,
    },
    /// Make the registration exactly the ceiling, and mark it ours.
    SetRegistration,
    /// Take our mark off: the client is not managed any more.
    Release {
        /// What it had before it was adopted, if that is to come back.
        put_back: Option<Authority>,
    },
}

/// Nothing is removed at an IdP without one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warrant {
    /// A person or a date ended this grant, or made it narrower.
    Asked(Arc<str>),
    /// The client is being adopted: what it had before ends.
    Adoption,
    /// The registration was found to hold more than the ceiling.
    Excess,
    /// Nobody declares it any more.
    Garbage(SweepProof),
}

/// Why the client as a whole cannot be brought to its ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientRefusal {
    /// The IdP does not know it.
    Unknown,
    /// Another cluster manages it.
    Foreign,
    /// It was registered anew under the same id while a ClientIdentity pins it.
    Replaced,
    /// The IdP is not proved to ask our token hook: it may get less, and not more.
    HookNotProved(HookProof),
    /// It holds more than its grants, and adoption is explicit. Says what.
    AdoptionNeeded(Vec<String>),
}

/// The two passes of one revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// When the first was done.
    pub first: Option<Timestamp>,
    /// When the second was done.
    pub second: Option<Timestamp>,
}

impl Passes {
    /// True if a pass is due now.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> bool {
        self.second.is_none() && self.first.is_none_or(|t| t + PASS_GAP <= now)
    }

    /// When the next pass is due; `None`: both are done.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        match (self.first, self.second) {
            (_, Some(_)) | (None, None) => None,
            (Some(first), None) => Some(first + PASS_GAP),
        }
    }

    /// Notes a pass that was done.
    pub fn done(&mut self, now: Timestamp) {
        match self.first {
            None => self.first = Some(now),
            Some(_) => self.second = Some(now),
        }
    }
}

/// What the operator remembers about a client between two looks. Nothing here is needed to be right,
/// only to be economical: without it everything is done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Revocations that a grant asked for, and why: another cause is another end, and needs its own two
    /// passes.
    pub grants: BTreeMap<Arc<str>, (RevocationCause, Passes)>,
    /// The revocation of the client's tokens at adoption or after an excess.
    pub client: Passes,
    /// An excess was found that no edit of ours explains.
    pub excess: bool,
    /// The ceiling as last read back.
    pub ceiling: Option<Authority>,
}

impl Track {
    /// The passes done for a duty.
    #[must_use]
    pub fn passes(&self, duty: &Duty) -> Passes {
        let Some(uid) = &duty.grant else { return self.client };
        self.grants.get(uid).filter(|(cause, _)| *cause == duty.cause).map(|(_, p)| *p).unwrap_or_default()
    }

    /// Something about a grant changed: what was revoked before says nothing about what it gave since.
    pub fn start_over(&mut self, uid: &str) {
        self.grants.remove(uid);
    }

    /// Notes that a step was carried out.
    pub fn carried_out(&mut self, step: &Step, duties: &[Duty], now: Timestamp) {
        let (warrant, served): (&Warrant, Vec<&Duty>) = match step {
            Step::SetRegistration | Step::Release { .. } => return,
            Step::RevokePair { subject, warrant } => {
                (warrant, duties.iter().filter(|d| matches!(&d.what, What::Pair(of) if of == subject)).collect())
            }
            Step::RevokeClientTokens { warrant } => {
                (warrant, duties.iter().filter(|d| d.what == What::Tokens).collect())
            }
        };
        for duty in served {
            match &duty.grant {
                Some(uid) => {
                    let mut passes = self.passes(duty);
                    if passes.due(now) || passes.second.is_some() {
                        passes.done(now);
                        self.grants.insert(uid.clone(), (duty.cause, passes));
                    }
                }
                None => {
                    self.excess |= matches!(warrant, Warrant::Excess | Warrant::Garbage(_));
                    if self.client.due(now) {
                        self.client.done(now);
                    }
                }
            }
        }
    }
}

/// What has to be ended, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The grant that asks; `None`: the client as a whole.
    pub grant: Option<Arc<str>>,
    /// What.
    pub what: What,
    /// Why, as the status says it.
    pub cause: RevocationCause,
}

/// What a revocation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One subject's approval and everything born from it.
    Pair(String),
    /// The client's access tokens.
    Tokens,
}

/// Everything to do about a client now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The client as a whole cannot be brought to its ceiling.
    pub refusal: Option<ClientRefusal>,
    /// Adopt: write the record, with what the client held, before the first step.
    pub adopt: Option<ObservedClient>,
    /// Put the finalizer on these grants before the first step.
    pub finalizers: Vec<Arc<str>>,
    /// Write these intents before the first step: of grants whose subject's consent would look removed by
    /// somebody else after a crash.
    pub intents: Vec<(Arc<str>, RevocationCause)>,
    /// What has to be ended, done or not.
    pub duties: Vec<Duty>,
    /// In this order.
    pub steps: Vec<Step>,
    /// The tokens from before the adoption are ended: record it.
    pub complete: bool,
    /// The ceiling that the steps set.
    pub ceiling: Authority,
    /// When the next pass is due.
    pub next: Option<Timestamp>,
    /// The ceiling is held down because the token hook is not proved.
    pub unproved: bool,
}

impl Plan {
    /// Nothing is left to do now (a second pass may be due later).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
            && self.adopt.is_none()
            && self.intents.is_empty()
            && self.finalizers.is_empty()
            && !self.complete
    }

    /// Whether a step ends what has passed its end date, and nothing else.
    #[must_use]
    pub fn ends_by_date(&self, step: &Step) -> bool {
        let (Step::RevokePair { warrant, .. } | Step::RevokeClientTokens { warrant }) = step else { return false };
        let Warrant::Asked(uid) = warrant else { return false };
        self.owes(uid).is_some_and(|duty| duty.cause == RevocationCause::Expired)
    }

    /// Whether `grant` still has something to be ended.
    #[must_use]
    pub fn owes(&self, grant: &str) -> Option<&Duty> {
        self.duties.iter().find(|d| d.grant.as_deref() == Some(grant))
    }
}

/// The revocation that a grant asks for by how it stands, if any.
///
/// Decided from what is listed and from intents on the object, never from memory of an edit; only the
/// tokens of `Any` and client-own grants, which no list shows, go by [`Grant::narrowed`].
#[must_use]
pub fn duty(view: &ClientView, grant: &Grant, standing: &Standing, seen: &Observation, now: Timestamp) -> Option<Duty> {
    let what = match &grant.subject {
        Subject::User(id) => What::Pair(id.clone()),
        Subject::Any | Subject::Own => What::Tokens,
    };
    let open = grant.carried.revocation.filter(|r| r.confirmed_at.is_none());
    let cause = match standing {
        Standing::Live => {
            if let Some(open) = open {
                open.cause
            } else if grant.held && (grant.narrowed || tainted(grant, seen, now)) {
                RevocationCause::Narrowed
            } else {
                return None;
            }
        }
        // What never was in force has nothing to end; what is confirmed has ended, unless it gave again.
        _ if !grant.held || !may_have_given(view, grant) || (grant.confirmed() && !gave_again(grant, seen)) => {
            return None;
        }
        Standing::Held(held) => cause_of(*held),
        // An edit by mistake must not destroy consents for good: decisions and ceiling act at once, the
        // consents of a grant that is merely refused stay until a person or a date ends it, or the sweep
        // says that it was not allowed for long enough.
        Standing::Refused(refusal) if matches!(what, What::Pair(_)) => match (open, &grant.subject) {
            (Some(open), _) => open.cause,
            (None, Subject::User(id))
                if matches!(refusal, Refusal::NotAllowed(_)) && view.collect.subjects.contains_key(id) =>
            {
                RevocationCause::Refused
            }
            (None, _) => return None,
        },
        Standing::Refused(_) => RevocationCause::Refused,
    };
    Some(Duty::of(grant, what, cause))
}

/// Whether a grant that is being deleted leaves something to be ended, as far as that is known without a look
/// at the IdP.
#[must_use]
pub fn leaves(view: &ClientView, grant: &Grant, now: Timestamp) -> bool {
    let seen = Observation { client: Found::Absent, consents: BTreeMap::new() };
    // Without the provider object nobody knows whether the client is managed.
    let perhaps = view.managed.is_some() || view.provider.is_none();
    perhaps && duty(view, grant, &Standing::Held(Held::Deleting), &seen, now).is_some()
}

/// Whether a duty may go on without its grant: of what gave something itself, or could have at the provider
/// that is there. While the provider object is gone a finalizer proves nothing, and the duty would be done later
/// by whoever speaks for the issuer then.
#[must_use]
pub fn outlives(view: &ClientView, grant: &Grant) -> bool {
    grant.gave || (view.provider.is_some() && standing::may_speak(view, grant))
}

/// A finalizer alone proves nothing: else a tenant who writes it could end what another's client has.
fn may_have_given(view: &ClientView, grant: &Grant) -> bool {
    grant.gave || view.provider.is_none() || standing::may_speak(view, grant)
}

/// After its end was confirmed, the grant gave something all the same: it was in force again for a
/// moment that no look saw. Other grants' consents of the subject are not its business.
fn gave_again(grant: &Grant, seen: &Observation) -> bool {
    match &grant.subject {
        Subject::User(id) => seen
            .consents
            .get(id)
            .is_some_and(|listed| listed.iter().any(|c| c.context.as_ref().is_some_and(|x| x.grant == *grant.uid))),
        Subject::Any | Subject::Own => grant.reopened,
    }
}

impl Duty {
    fn of(grant: &Grant, what: What, cause: RevocationCause) -> Self {
        Self { grant: Some(grant.uid.clone()), what, cause }
    }
}

/// Whether the subject's consents have to be read to say what a `User` grant asks for: while it is live,
/// when something was changed after its end was confirmed, and when both passes are done and only the
/// read-back is missing.
#[must_use]
pub fn by_list(grant: &Grant, standing: &Standing, wanted: bool, changed: bool, track: &Track) -> bool {
    let passed = track.grants.get(&grant.uid).is_some_and(|(_, p)| p.second.is_some());
    let asked = match standing {
        Standing::Live => wanted,
        Standing::Held(_) => wanted && changed && grant.held && grant.confirmed(),
        Standing::Refused(_) => false,
    };
    asked || passed
}

fn tainted(grant: &Grant, seen: &Observation, now: Timestamp) -> bool {
    let (Subject::User(id), Ok(terms)) = (&grant.subject, &grant.terms) else { return false };
    let Some(listed) = seen.consents.get(id) else { return false };
    matches!(terms.basis, Basis::SubjectConsent | Basis::AdminConsent)
        && consent::read(listed, grant, terms, now).tainted
}

/// The cause that a status names for a grant that is held back.
#[must_use]
pub fn cause_of(held: Held) -> RevocationCause {
    match held {
        Held::Deleting => RevocationCause::Deleted,
        Held::Expired => RevocationCause::Expired,
        Held::Quarantined => RevocationCause::Quarantined,
        Held::RegistrationChanged => RevocationCause::RegistrationChanged,
        Held::Suspended => RevocationCause::Suspended,
        Held::NotYetValid => RevocationCause::NotYetValid,
    }
}

/// Plans one client. `cluster` is this cluster's mark.
#[must_use]
pub fn plan(view: &ClientView, seen: &Observation, track: &Track, cluster: &str, now: Timestamp) -> Plan {
    let standings = standing::all(view, now);
    let mut plan = Plan { ceiling: desired::ceiling(view, now), ..Plan::default() };
    if view.observing() {
        return plan;
    }
    let live = standings.iter().any(|(_, s)| *s == Standing::Live);
    let held = standings.iter().any(|(g, s)| *s == Standing::Live && g.held);

    let garbage = view.garbage().is_some();
    let hook = view.provider.as_ref().map_or(HookProof::Untried, |p| p.hook);
    if !hook.suffices()
        && let Found::Present(client) = &seen.client
    {
        // Less at once; more only when tokens cannot be had behind our back.
        plan.ceiling = plan.ceiling.common(&client.authority);
        plan.unproved = live;
    }

    match &seen.client {
        Found::Absent => plan.refusal = live.then_some(ClientRefusal::Unknown),
        Found::Present(client) => match (&client.mark, &view.managed) {
            (Some(other), _) if !view.ours(other, cluster) => plan.refusal = Some(ClientRefusal::Foreign),
            // Another client of the same id: nothing was ever declared about it.
            _ if is_another(view, client) => plan.refusal = Some(ClientRefusal::Replaced),
            // The record was lost, or the cluster was built anew: what bears our mark is ours.
            (Some(_), None) if view.grants.is_empty() && view.released.is_some() => {
                let put_back = view.released.clone().flatten();
                plan.steps.push(Step::Release { put_back });
            }
            (Some(_), None) if standings.iter().any(|(g, _)| g.held) || garbage => {
                plan.adopt = Some(client.clone());
                plan.steps.push(Step::SetRegistration);
            }
            (_, None) if !live || !hook.suffices() => {}
            (_, None) => adopt(view, client, &desired::declared(view, now), held, &mut plan),
            (_, Some(_)) if client.is_exactly(&plan.ceiling, cluster) => {}
            // Its grants are gone without having ended: that waits for the sweep.
            (_, Some(_)) if view.grants.is_empty() && !garbage => {}
            (_, Some(_)) => plan.steps.push(Step::SetRegistration),
        },
    }
    if plan.unproved && plan.refusal.is_none() && hook != HookProof::Untried {
        plan.refusal = Some(ClientRefusal::HookNotProved(hook));
    }
    if plan.refusal.is_none() {
        let bare = standings.iter().filter(|(g, s)| wants_finalizer(g, s));
        plan.finalizers = bare.map(|(g, _)| g.uid.clone()).collect();
    }
    // Nothing of ours can be at a client that we never adopted.
    if view.managed.is_some() || plan.adopt.is_some() {
        revocations(view, &standings, seen, track, now, &mut plan);
    }
    plan.steps.sort();
    plan
}

/// Whether a client was registered anew since a person accepted it.
fn is_another(view: &ClientView, client: &ObservedClient) -> bool {
    client.born.as_ref().is_some_and(|born| view.born.iter().any(|pinned| pinned != born))
}

/// A live grant carries the finalizer before anything is done for it at the IdP.
#[must_use]
pub fn wants_finalizer(grant: &Grant, standing: &Standing) -> bool {
    *standing == Standing::Live && !grant.held
}

/// Adopts, unless the client holds more than is declared and nobody said that it may be taken over. The
/// first grant gets its finalizer before anything is done (`held`).
fn adopt(view: &ClientView, client: &ObservedClient, declared: &Authority, held: bool, plan: &mut Plan) {
    // Only our own mark can be here.
    let automatic = client.mark.is_some()
        || view.adopt
        || view.provider.as_ref().is_some_and(|p| p.adoption == Adoption::Automatic);
    if client.exceeds(declared) && !automatic {
        plan.refusal = Some(ClientRefusal::AdoptionNeeded(holds_beyond(client, declared)));
    } else if held {
        plan.adopt = Some(client.clone());
        plan.steps.push(Step::SetRegistration);
    }
}

/// What a client holds beyond a ceiling, by name, sorted.
#[must_use]
pub fn holds_beyond(client: &ObservedClient, ceiling: &Authority) -> Vec<String> {
    let mut beyond: BTreeSet<String> = client.extra.clone();
    beyond.extend(client.authority.scopes.beyond(&ceiling.scopes).iter().map(|s| format!("scope {s}")));
    beyond.extend(client.authority.audiences.beyond(&ceiling.audiences).iter().map(|a| format!("audience {a}")));
    let flows = client.authority.grant_types.difference(&ceiling.grant_types);
    beyond.extend(flows.map(|g| format!("grant type {}", g.as_str())));
    beyond.into_iter().collect()
}

fn revocations(
    view: &ClientView,
    standings: &[(Arc<Grant>, Standing)],
    seen: &Observation,
    track: &Track,
    now: Timestamp,
    plan: &mut Plan,
) {
    let in_force: BTreeSet<&Subject> =
        standings.iter().filter(|(_, s)| *s == Standing::Live).map(|(g, _)| &g.subject).collect();
    for (grant, standing) in standings {
        let Some(duty) = duty(view, grant, standing, seen, now) else { continue };
        // Another grant for the same subject is live. What this one gave is listed under its name, and taints
        // the other's pair; to end the pair for this one would destroy what was given under the other.
        let user = matches!(grant.subject, Subject::User(_));
        if *standing != Standing::Live && user && in_force.contains(&grant.subject) {
            continue;
        }
        let passes = track.passes(&duty);
        let again = passes.second.is_some() && still_listed(grant, standing, seen, now);
        // The date waits for no write, and what it ended is told by the end that status names. An edit that
        // moved the end into the past is a person's word like any other.
        let by_date = duty.cause == RevocationCause::Expired && grant.observed_generation == Some(grant.generation);
        let told = by_date || grant.carried.revocation.is_some_and(|r| r.confirmed_at.is_none());
        // Nobody's consent could be taken for removed where there is none: to end the tokens once more is
        // harmless, and need not wait for a write.
        if !told && matches!(duty.what, What::Pair(_)) {
            plan.intents.push((grant.uid.clone(), duty.cause));
        }
        let warrant = Warrant::Asked(grant.uid.clone());
        if passes.due(now) || again {
            plan.steps.push(match &duty.what {
                What::Pair(subject) => Step::RevokePair { subject: subject.clone(), warrant },
                What::Tokens => Step::RevokeClientTokens { warrant },
            });
        } else {
            soonest(&mut plan.next, passes.next());
        }
        plan.duties.push(duty);
    }

    under_any(standings, seen, plan);
    undeclared(view, seen, plan);

    let adopting = plan.adopt.is_some() || view.managed.as_ref().is_some_and(|m| !m.complete);
    let garbage = view.garbage();
    let refused = !matches!(plan.refusal, None | Some(ClientRefusal::HookNotProved(_)));
    let excess = match &seen.client {
        _ if adopting || refused => false,
        Found::Absent => false,
        Found::Present(client) => {
            let ours = track.ceiling.as_ref().is_some_and(|last| !client.exceeds(last));
            let waits = view.grants.is_empty() && garbage.is_none();
            track.excess || (client.exceeds(&plan.ceiling) && !waits && (!ours || garbage.is_some()))
        }
    };
    if adopting || excess {
        // An excess found again after both passes starts over.
        let passes = if excess && !track.excess { Passes::default() } else { track.client };
        if passes.due(now) {
            let warrant = match garbage {
                Some(proof) => Warrant::Garbage(proof.clone()),
                None if adopting => Warrant::Adoption,
                None => Warrant::Excess,
            };
            plan.steps.push(Step::RevokeClientTokens { warrant });
        }
        soonest(&mut plan.next, passes.next());
        plan.complete = passes.second.is_some() && plan.adopt.is_none() && !plan.steps.contains(&Step::SetRegistration);
        plan.duties.push(Duty { grant: None, what: What::Tokens, cause: RevocationCause::Narrowed });
    }
    // One call serves every duty on the same tokens or the same pair.
    let mut met = BTreeSet::new();
    plan.steps.retain(|step| match step {
        Step::SetRegistration | Step::Release { .. } => true,
        Step::RevokePair { subject, .. } => met.insert(Some(subject.clone())),
        Step::RevokeClientTokens { .. } => met.insert(None),
    });
}

/// Subjects whose consents were read although no grant names them: what they hold under a grant for
/// anybody is ended where it lets later logins skip the question, or goes beyond.
fn under_any(standings: &[(Arc<Grant>, Standing)], seen: &Observation, plan: &mut Plan) {
    let any = standings.iter().find(|(g, s)| g.subject == Subject::Any && *s == Standing::Live);
    let Some((any, Ok(terms))) = any.map(|(g, _)| (g, &g.terms)) else { return };
    for (subject, listed) in &seen.consents {
        let named = standings.iter().any(|(g, _)| matches!(&g.subject, Subject::User(id) if id == subject));
        if !named && listed.iter().any(|c| c.taints(any, terms)) {
            let warrant = Warrant::Asked(any.uid.clone());
            plan.steps.push(Step::RevokePair { subject: subject.clone(), warrant });
        }
    }
}

/// Consents that no grant names, of which the sweep says that they may go. They were read just now.
fn undeclared(view: &ClientView, seen: &Observation, plan: &mut Plan) {
    for (subject, proof) in &view.collect.subjects {
        if !view.names(subject) && seen.consents.get(subject).is_some_and(|listed| !listed.is_empty()) {
            let warrant = Warrant::Garbage(proof.clone());
            plan.steps.push(Step::RevokePair { subject: subject.clone(), warrant });
        }
    }
}

/// After both passes something is listed again that must not be.
fn still_listed(grant: &Grant, standing: &Standing, seen: &Observation, now: Timestamp) -> bool {
    let Subject::User(id) = &grant.subject else { return false };
    match standing {
        Standing::Live => tainted(grant, seen, now),
        _ => seen.consents.get(id).is_some_and(|listed| !listed.is_empty()),
    }
}

fn soonest(next: &mut Option<Timestamp>, candidate: Option<Timestamp>) {
    if let Some(candidate) = candidate {
        *next = Some(next.map_or(candidate, |n| n.min(candidate)));
    }
}

/// Whether a grant's revocation is done and read back: both passes, nothing listed, and the ceiling
/// without it.
#[must_use]
pub fn confirmed(duty: &Duty, track: &Track, seen: &Observation, plan: &Plan) -> bool {
    let done = duty.grant.is_some() && track.passes(duty).second.is_some();
    let read_back = match &duty.what {
        What::Pair(subject) => seen.consents.contains_key(subject),
        What::Tokens => true,
    };
    let repeated = || {
        plan.steps.iter().any(|step| match (step, &duty.what) {
            (Step::SetRegistration, _) => true,
            (Step::RevokePair { subject, .. }, What::Pair(mine)) => subject == mine,
            _ => false,
        })
    };
    done && read_back && !repeated()
}
