//! Whole stories in no time: random edits, consents, token requests, drift, faults and restarts, then
//! quiet. In bounded rounds nothing is left to do, and what is left at the IdP is what the grants say.
//!
//! World, decisions, plan and status are the real ones; the IdP is the reference model, and the shell
//! that carries a plan out is written again here, without a network. Tokens are minted up to two
//! seconds after the yes, which is the race that two passes are for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clientgrant::api::condition::{ConditionType, find_condition};
use clientgrant::api::{ClientGrant, PendingRevocation, instant};
use clientgrant::grant::collect::{Candidate, Care, Picture, Sweep};
use clientgrant::grant::consent::{self, Consent, Context};
use clientgrant::grant::decide::{self, Asked, ConsentAsked, ConsentDecision, Decision, Lookup};
use clientgrant::grant::fault::Fault;
use clientgrant::grant::observed::{Found, Observation, ObservedClient};
use clientgrant::grant::parse::{self, FINALIZER};
use clientgrant::grant::pending;
use clientgrant::grant::plan::{self, Plan, Step, Track, Warrant, What};
use clientgrant::grant::standing::{self, Standing};
use clientgrant::grant::verdict::{self, Facts, Finding};
use clientgrant::grant::{Adoption, Authority, GrantType, Managed, Subject, Timestamp, UnmanagedClients};
use clientgrant::idp::Idp;
use clientgrant::idp::memory::{Memory, State};
use clientgrant::sharing::judge::Shared;
use clientgrant::world::{Quarantine, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use crate::support::*;

const SUBJECTS: [&str; 2] = ["ann", "bob"];
/// What each object speaks for; two of them compete for ann.
const OBJECTS: [fn() -> Subject; 5] =
    [|| user("ann"), || user("ann"), || user("bob"), || Subject::Any, || Subject::Own];

#[derive(Clone, Debug)]
enum Event {
    /// Create the object, or change it: scopes, seconds to the end, suspended, seconds to the begin.
    Apply(usize, Vec<&'static str>, i64, bool, Option<i64>),
    Delete(usize),
    /// A tenant takes the finalizer off and deletes.
    Strip(usize),
    /// The namespace is being deleted, or (as no real one) not any more.
    Ending(bool),
    /// An honest consent, with its token so many milliseconds later.
    Consent(usize, Vec<&'static str>, i64),
    /// A consent app that does what it likes.
    Hostile(usize, u8),
    /// Somebody removes the subject's consent at the IdP.
    Remove(usize),
    /// The client asks for itself, and gets its token so many milliseconds later.
    Own(&'static str, i64),
    /// Somebody changes the registration at the IdP.
    Drift,
    Quarantine(bool),
    /// The provider's owner takes the rules away, or gives them back.
    Rules(bool),
    Wait(i64),
    /// One look, in which the calls fail whose bit is set: before or after they had their effect.
    Look(u16, bool),
    /// The operator forgets everything that is not written down.
    Restart,
}

struct Token {
    grant: Arc<str>,
    subject: String,
    scopes: BTreeSet<String>,
}

struct Story {
    world: World,
    idp: State,
    objects: BTreeMap<usize, ClientGrant>,
    /// Duties that outlived their grants, by name.
    pending: BTreeMap<String, PendingRevocation>,
    ending: bool,
    track: Track,
    now: Timestamp,
    changed: bool,
    rules: bool,
    quarantined: bool,
    minting: Vec<(Timestamp, Token)>,
    tokens: Vec<Token>,
    removed: BTreeSet<String>,
    /// An end was confirmed, and somebody else may have the key now: a look of its own.
    freed: bool,
    serial: u64,
}

/// Which calls of a look fail, and whether after their effect.
struct Faults {
    bits: u16,
    late: bool,
}

impl Faults {
    fn next(&mut self) -> bool {
        let fails = self.bits & 1 == 1;
        self.bits >>= 1;
        fails
    }
}

impl Story {
    fn new() -> Self {
        let mut idp = State::default();
        let mut wide =
            ObservedClient { authority: authority("openid read write admin", "", CODE), ..Default::default() };
        wide.extra.insert("grant type implicit".into());
        idp.clients.insert(CLIENT.into(), wide);
        let story = Self {
            world: World::default(),
            idp,
            objects: BTreeMap::new(),
            pending: BTreeMap::new(),
            ending: false,
            track: Track::default(),
            now: at(0),
            changed: true,
            rules: true,
            quarantined: false,
            minting: Vec::new(),
            tokens: Vec::new(),
            removed: BTreeSet::new(),
            freed: false,
            serial: 0,
        };
        story.tell_provider();
        story
    }

    fn tell_provider(&self) {
        let mut view = provider();
        view.adoption = Adoption::Automatic;
        view.unmanaged = UnmanagedClients::Deny;
        if !self.rules {
            view.rules.clear();
        }
        let idp = Arc::new(Idp::Memory(Memory::default()));
        self.world.set_provider(view, Some(idp), at(-5000), "provider".into());
    }

    fn tell_quarantine(&self) {
        let quarantine = Quarantine { issuer: ISSUER.into(), client: CLIENT.into() };
        self.world.set_quarantine("stop", self.quarantined.then_some(quarantine));
    }

    fn tell_namespace(&self) {
        self.world.set_namespace("finance", Some((BTreeMap::new(), self.ending)));
    }

    /// Written by the operator; what is there already stays.
    fn keep(&mut self, mut duty: PendingRevocation) {
        self.serial += 1;
        let name = duty.metadata.name.clone().expect("a name");
        duty.metadata.namespace = Some("clientgrant-system".into());
        duty.metadata.uid = Some(format!("duty-{}", self.serial));
        duty.metadata.creation_timestamp = Some(Time(self.now));
        let duty = self.pending.entry(name).or_insert(duty);
        self.freed |= self.world.set_pending(duty).is_some();
        self.changed = true;
    }

    fn store(&mut self, n: usize, change: impl FnOnce(&mut ClientGrant)) {
        self.serial += 1;
        let version = self.serial.to_string();
        let Some(object) = self.objects.get_mut(&n) else { return };
        let before = object.status.clone();
        change(object);
        object.metadata.resource_version = Some(version);
        if let Some(status) = object.status.as_ref().filter(|s| before.as_ref() != Some(s)) {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            self.world.sending(&clientgrant::grant::parse::name(&object.metadata), uid, status);
        }
        self.world.upsert_grant(object, self.now);
    }

    fn pass_time(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        let now = self.now;
        let due = self.minting.extract_if(.., |(at, _)| *at <= now).map(|(_, token)| token);
        self.tokens.extend(due);
    }

    fn happen(&mut self, event: &Event) {
        self.changed |= !matches!(event, Event::Wait(_) | Event::Look(..) | Event::Consent(..) | Event::Own(..));
        match event {
            Event::Apply(n, scopes, ends, suspend, begins) => {
                let end = self.now + Duration::from_secs(ends.unsigned_abs());
                let end = if *ends < 0 { at(self.now.as_second() - at(0).as_second() + ends) } else { end };
                let begin = begins.map(|b| instant::format(at(self.now.as_second() - at(0).as_second() + b)));
                let begin = begin.filter(|b| *b < instant::format(end));
                let subject = OBJECTS[*n]();
                if !self.objects.contains_key(n) {
                    self.serial += 1;
                    let mut object = object(&format!("object-{n}"), &format!("uid-{n}-{}", self.serial), &subject);
                    object.metadata.creation_timestamp = Some(Time(self.now));
                    object.metadata.generation = Some(0);
                    self.objects.insert(*n, object);
                }
                let own = subject == Subject::Own;
                self.store(*n, |object| {
                    *object.metadata.generation.get_or_insert_default() += 1;
                    object.spec.scopes =
                        scopes.iter().filter(|s| !own || **s != "openid").map(|s| (*s).to_owned()).collect();
                    if object.spec.scopes.is_empty() {
                        object.spec.scopes.push("read".into());
                    }
                    object.spec.expires_at = instant::format(end);
                    object.spec.not_before = begin;
                    object.spec.suspend = *suspend;
                });
            }
            Event::Delete(n) => {
                let now = self.now;
                self.store(*n, |object| {
                    if object.metadata.deletion_timestamp.is_none() {
                        object.metadata.deletion_timestamp = Some(Time(now));
                        *object.metadata.generation.get_or_insert_default() += 1;
                    }
                });
                self.collect(*n);
            }
            Event::Strip(n) => {
                let now = self.now;
                if let Some(object) = self.objects.get_mut(n) {
                    object.metadata.finalizers = None;
                    object.metadata.deletion_timestamp = Some(Time(now));
                    if let Some(left) = self.world.left_by(&parse::name(&object.metadata), now) {
                        self.keep(left);
                    }
                }
                self.collect(*n);
            }
            Event::Ending(on) => {
                self.ending = *on;
                self.tell_namespace();
            }
            Event::Consent(s, scopes, delay) => self.consent(SUBJECTS[*s], scopes, *delay),
            Event::Hostile(s, kind) => self.hostile(SUBJECTS[*s], *kind),
            Event::Remove(s) => {
                let subject = SUBJECTS[*s].to_owned();
                self.idp.consents.remove(&(CLIENT.to_owned(), subject.clone()));
                self.end_pair(&subject);
                self.removed.insert(subject);
            }
            Event::Own(scope, delay) => {
                let asked = Asked {
                    grant_type: Some(GrantType::ClientCredentials),
                    subject: CLIENT,
                    scopes: [*scope].into_iter().collect(),
                    audiences: [""; 0].into_iter().collect(),
                    consent: Lookup::NotYetKnown,
                };
                let decision = decide::token(&self.world.view(&client_key()), &asked, self.now);
                self.mint(decision, CLIENT, BTreeSet::from([(*scope).to_owned()]), *delay);
            }
            Event::Drift => {
                if let Some(client) = self.idp.clients.get_mut(CLIENT) {
                    client.extra.insert("response type token".into());
                    client.authority.add_all(&authority("admin", "", CODE));
                }
            }
            Event::Quarantine(on) => {
                self.quarantined = *on;
                self.tell_quarantine();
            }
            Event::Rules(on) => {
                self.rules = *on;
                self.tell_provider();
            }
            Event::Wait(millis) => self.pass_time(self.now + Duration::from_millis(millis.unsigned_abs())),
            Event::Look(bits, late) => _ = self.look(&mut Faults { bits: *bits, late: *late }),
            Event::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        let managed = self.world.view(&client_key()).managed.clone();
        self.world = World::default();
        self.track = Track::default();
        self.tell_provider();
        self.tell_quarantine();
        self.world.set_managed(ISSUER, CLIENT, managed);
        self.tell_namespace();
        for object in self.objects.values() {
            self.world.upsert_grant(object, self.now);
        }
        for duty in self.pending.values() {
            self.world.set_pending(duty);
        }
    }

    fn mint(&mut self, decision: Decision, subject: &str, scopes: BTreeSet<String>, delay: i64) {
        if let Decision::Allow(Some(grant)) = decision {
            let token = Token { grant, subject: subject.to_owned(), scopes };
            self.minting.push((self.now + Duration::from_millis(delay.unsigned_abs()), token));
            self.pass_time(self.now);
        }
    }

    /// A code or refresh that races the end of its pair issues nothing (seen with Hydra v2.3.0); a client's
    /// token for itself does.
    fn end_pair(&mut self, subject: &str) {
        self.tokens.retain(|t| t.subject != subject);
        self.minting.retain(|(_, t)| t.subject != subject);
    }

    fn listed(&self, subject: &str) -> Vec<Consent> {
        self.idp.consents.get(&(CLIENT.to_owned(), subject.to_owned())).cloned().unwrap_or_default()
    }

    fn consent(&mut self, subject: &str, scopes: &[&str], delay: i64) {
        let view = self.world.view(&client_key());
        let listed = self.listed(subject);
        let asked = ConsentAsked {
            subject,
            scopes: scopes.iter().copied().collect(),
            audiences: [""; 0].into_iter().collect(),
            skip: false,
            listed: Some(&listed),
        };
        let grant = match decide::consent(&view, &asked, self.now) {
            ConsentDecision::Ask(Some(grant)) | ConsentDecision::Accept(grant) => grant,
            _ => return,
        };
        self.serial += 1;
        let consent = Consent {
            challenge: self.serial.to_string(),
            handled_at: Some(self.now),
            context: Some(Context {
                grant: grant.uid.to_string(),
                purpose: "report".into(),
                expires_at: grant.terms.as_ref().expect("terms").expires_at,
                genuine: true,
            }),
            scopes: asked.scopes.clone(),
            audiences: asked.audiences.clone(),
            remembered: false,
        };
        self.idp.consents.entry((CLIENT.to_owned(), subject.to_owned())).or_default().push(consent.clone());
        let asked = Asked {
            grant_type: Some(GrantType::AuthorizationCode),
            subject,
            scopes: [""; 0].into_iter().collect(),
            audiences: [""; 0].into_iter().collect(),
            consent: Lookup::Found(&consent),
        };
        let decision = decide::token(&view, &asked, self.now);
        self.mint(decision, subject, consent.scopes.iter().map(str::to_owned).collect(), delay);
    }

    fn hostile(&mut self, subject: &str, kind: u8) {
        let live = self.objects.values().filter_map(parse::grant).find(|g| g.subject == user(subject));
        let Some(grant) = live.filter(|g| g.terms.is_ok()) else { return };
        let made = with(consent(&grant), |c| match kind {
            0 => c.remembered = true,
            1 => c.scopes = ["admin"].into_iter().collect(),
            2 => c.context = None,
            3 => c.context.as_mut().expect("a context").genuine = false,
            _ => c.context.as_mut().expect("a context").grant = "somebody".into(),
        });
        let asked = Asked {
            grant_type: Some(GrantType::AuthorizationCode),
            subject,
            scopes: [""; 0].into_iter().collect(),
            audiences: [""; 0].into_iter().collect(),
            consent: Lookup::Found(&made),
        };
        let decision = decide::token(&self.world.view(&client_key()), &asked, self.now);
        assert!(!matches!(decision, Decision::Allow(_)), "kind {kind}");
        self.idp.consents.entry((CLIENT.to_owned(), subject.to_owned())).or_default().push(made);
    }

    fn observe(&self, subjects: impl IntoIterator<Item = String>, seen: &mut Observation) {
        seen.client = self.idp.clients.get(CLIENT).cloned().map_or(Found::Absent, Found::Present);
        for subject in subjects {
            let listed = self.listed(&subject);
            seen.consents.insert(subject, listed);
        }
    }

    /// One look as the shell does it. Gives the last plan and whether a call failed.
    fn look(&mut self, faults: &mut Faults) -> (Plan, bool) {
        let key = client_key();
        let mut view = self.world.view(&key);
        let changed = std::mem::take(&mut self.changed);
        let mut subjects = BTreeSet::new();
        for (grant, standing) in standing::all(&view, self.now) {
            if changed {
                self.track.start_over(&grant.uid);
            }
            if let Subject::User(id) = &grant.subject
                && plan::by_list(&grant, &standing, true, changed, &self.track)
            {
                subjects.insert(id.clone());
            }
        }
        let mut seen = seen(None);
        self.observe(subjects, &mut seen);
        let mut plan = plan::plan(&view, &seen, &self.track, CLUSTER, self.now);
        let mut failed = false;
        for _ in 0..4 {
            if plan.is_empty() {
                break;
            }
            failed = self.carry_out(&plan, faults).is_err();
            view = self.world.view(&key);
            let pairs = plan.steps.iter().filter_map(|s| match s {
                Step::RevokePair { subject, .. } => Some(subject.clone()),
                _ => None,
            });
            let pairs: Vec<String> = pairs.collect();
            if failed {
                self.changed |= changed;
                break;
            }
            self.observe(pairs, &mut seen);
            plan = plan::plan(&view, &seen, &self.track, CLUSTER, self.now);
        }
        self.say(&seen, &plan, failed, faults);
        (plan, failed)
    }

    fn carry_out(&mut self, plan: &Plan, faults: &mut Faults) -> Result<(), ()> {
        let number = |objects: &BTreeMap<usize, ClientGrant>, uid: &str| {
            objects.iter().find(|(_, o)| o.metadata.uid.as_deref() == Some(uid)).map(|(n, _)| *n)
        };
        for (uid, cause) in &plan.intents {
            if faults.next() {
                return Err(());
            }
            let now = self.now;
            if let Some(n) = number(&self.objects, uid) {
                self.store(n, |o| {
                    o.status.get_or_insert_default().revocation = Some(verdict::requested(*cause, now));
                });
            }
        }
        let ends = |step: &&Step| {
            matches!(step, Step::RevokePair { .. } | Step::RevokeClientTokens { warrant: Warrant::Asked(_) })
        };
        for step in plan.steps.iter().filter(ends) {
            self.execute(step, plan, faults)?;
        }
        for uid in &plan.finalizers {
            if faults.next() {
                return Err(());
            }
            if let Some(n) = number(&self.objects, uid) {
                self.world.giving(&parse::name(&self.objects[&n].metadata), uid);
                self.store(n, |o| o.metadata.finalizers.get_or_insert_default().push(FINALIZER.into()));
            }
        }
        if plan.adopt.is_some() {
            self.world.set_managed(ISSUER, CLIENT, Some(Managed { complete: false }));
        }
        for step in plan.steps.iter().filter(|step| !ends(step)) {
            self.execute(step, plan, faults)?;
        }
        if plan.complete {
            self.world.set_managed(ISSUER, CLIENT, Some(Managed { complete: true }));
            self.track.client = plan::Passes::default();
            self.track.excess = false;
        }
        Ok(())
    }

    fn execute(&mut self, step: &Step, plan: &Plan, faults: &mut Faults) -> Result<(), ()> {
        let fails = faults.next();
        if fails && !faults.late {
            return Err(());
        }
        self.idp.apply(CLIENT, step, &plan.ceiling, CLUSTER);
        match step {
            Step::RevokePair { subject, .. } => self.end_pair(subject),
            Step::RevokeClientTokens { .. } => self.tokens.clear(),
            Step::SetRegistration | Step::Release { .. } => {}
        }
        if fails {
            return Err(());
        }
        self.track.carried_out(step, &plan.duties, self.now);
        Ok(())
    }

    fn say(&mut self, seen: &Observation, plan: &Plan, failed: bool, faults: &mut Faults) {
        let view = self.world.view(&client_key());
        let finding = if failed { Finding::Fault(Fault::retry("a call failed")) } else { Finding::of(plan) };
        if finding == Finding::Exact {
            self.track.ceiling = Some(plan.ceiling.clone());
        }
        let names: BTreeMap<Arc<str>, usize> =
            self.objects.iter().filter_map(|(n, o)| Some((Arc::from(o.metadata.uid.as_deref()?), *n))).collect();
        for (grant, standing) in standing::all(&view, self.now) {
            let reading = match (&grant.subject, &grant.terms) {
                (Subject::User(id), Ok(terms)) => {
                    seen.consents.get(id).map(|listed| consent::read(listed, &grant, terms, self.now))
                }
                _ => None,
            };
            let duty = plan.owes(&grant.uid);
            let n = names.get(&grant.uid).copied();
            let old = n.and_then(|n| self.objects[&n].status.clone());
            let facts = Facts {
                view: &view,
                grant: &grant,
                standing: &standing,
                finding: &finding,
                reading: reading.as_ref(),
                drift: None,
                duty,
                confirmed: !failed && duty.is_some_and(|d| plan::confirmed(d, &self.track, seen, plan)),
                fault: None,
                old: old.as_ref(),
                looks: 0,
                handover: n.map(|_| Duration::from_secs(60)),
                shared: &Shared::NotYet,
            };
            let (confirmed, generation) = (facts.confirmed, grant.generation);
            let said = verdict::compose(&facts, self.now);
            let Some(n) = n else {
                if said.release && !faults.next() {
                    let entry = self.world.entry(&grant.name).and_then(|e| e.pending);
                    let name = entry.and_then(|duty| duty.metadata.name.clone()).expect("a duty");
                    self.pending.remove(&name);
                    self.freed |= self.world.remove_pending(&name).is_some_and(|d| !d.grants.is_empty());
                }
                continue;
            };
            if (said.release || said.status != old) && faults.next() {
                // The API server does not take it: looked at again, and nothing is forgotten.
                continue;
            }
            if said.hand_over {
                self.keep(pending::of(&view, &grant, self.now).expect("the issuer is known"));
                if faults.next() {
                    continue;
                }
            }
            if said.release {
                self.world.letting_go(&grant.uid, true);
                self.store(n, |o| {
                    o.metadata.finalizers.get_or_insert_default().retain(|f| f != FINALIZER);
                });
                self.collect(n);
            } else if let Some(status) = said.status {
                self.honest(&grant.subject, &status);
                storable(&status);
                self.store(n, |o| o.status = Some(status));
                self.world.fed_back(&self.objects[&n]);
            }
            if confirmed {
                self.track.start_over(&grant.uid);
                self.freed |= self.world.ended(&grant.name, generation).is_some();
            }
        }
    }

    /// Nobody's removal is claimed where nobody removed anything.
    fn honest(&self, subject: &Subject, status: &clientgrant::api::ClientGrantStatus) {
        let ready = find_condition(&status.conditions, ConditionType::Ready);
        if let (Subject::User(id), Some("ConsentRemoved")) = (subject, ready.map(|c| &*c.reason)) {
            assert!(self.removed.contains(id), "{id}: a revocation of ours was taken for a removal");
        }
    }

    /// The API server drops a deleted object that no finalizer holds.
    fn collect(&mut self, n: usize) {
        let Some(object) = self.objects.get(&n) else { return };
        let free = object.metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
        if object.metadata.deletion_timestamp.is_some() && free {
            let due = self.world.remove_grant(&parse::name(&object.metadata));
            self.freed |= due.is_some_and(|d| !d.grants.is_empty());
            self.changed = true;
            self.objects.remove(&n);
        }
    }

    /// What no grant declares any more waits for the sweep, which here needs no second picture.
    fn sweep(&mut self) {
        let view = self.world.view(&client_key());
        let mut picture = Picture::default();
        if view.managed.is_some() && view.grants.is_empty() {
            let client: Arc<str> = Arc::from(CLIENT);
            match self.idp.clients[CLIENT].is_exactly(&Authority::default(), CLUSTER) {
                true => _ = picture.at_rest.insert(client),
                false => _ = picture.candidates.insert(Candidate::Client(client)),
            }
        }
        let care = Care { agree: Duration::ZERO, grace: Duration::ZERO, most: 1, percent: 0 };
        let (collect, hold) = Sweep::default().take_in(&picture, care, None, self.now);
        assert_eq!(hold, None);
        self.world.set_collect(&provider_key(), collect);
    }

    /// Nothing happens any more but the clock. Gives the number of looks it took.
    fn settle(&mut self) -> usize {
        for looks in 1..=40 {
            self.freed = false;
            self.sweep();
            let (plan, failed) = self.look(&mut Faults { bits: 0, late: false });
            assert!(!failed);
            let view = self.world.view(&client_key());
            let pending = !self.pending.is_empty();
            let waiting = standing::all(&view, self.now).iter().any(|(g, s)| plan::wants_finalizer(g, s));
            let opened = view.all().any(|g| g.carried.revocation.is_some_and(|r| r.confirmed_at.is_none()));
            let done = plan.is_empty() && !waiting && !pending && !self.freed && (!opened || plan.refusal.is_some());
            match plan.next {
                Some(next) => self.pass_time(next),
                None if !self.minting.is_empty() => self.pass_time(self.now + Duration::from_secs(2)),
                None if done => return looks,
                None => self.pass_time(self.now + Duration::from_millis(10)),
            }
        }
        panic!("not settled after 40 looks");
    }

    fn check(&mut self) {
        let view = self.world.view(&client_key());
        let standings = standing::all(&view, self.now);
        let client = &self.idp.clients[CLIENT];
        if view.managed.is_some() {
            let ceiling = clientgrant::grant::desired::ceiling(&view, self.now);
            assert!(client.is_exactly(&ceiling, CLUSTER), "{client:?} is not {ceiling:?}");
            assert!(view.managed.as_ref().is_some_and(|m| m.complete));
        } else {
            assert!(!standings.iter().any(|(_, s)| *s == Standing::Live));
        }
        for token in &self.tokens {
            let found = standings.iter().find(|(g, _)| g.uid == token.grant);
            let (grant, standing) = found.unwrap_or_else(|| panic!("a token of the vanished grant {}", token.grant));
            match standing {
                Standing::Live => {
                    let declared = &grant.terms.as_ref().expect("terms").authority.scopes;
                    let within = token.scopes.iter().all(|s| declared.iter().any(|d| d == s));
                    assert!(within, "{:?} of {declared}", token.scopes);
                }
                // Its consent stays, and what it gave runs out: nothing new comes of it.
                Standing::Refused(_) => assert!(matches!(grant.subject, Subject::User(_)), "{grant:?}"),
                Standing::Held(_) => panic!("a token of {} outlived its end: {standing:?}", token.grant),
            }
        }
        for (grant, standing) in &standings {
            let status = self.objects.values().find(|o| o.metadata.uid.as_deref() == Some(&*grant.uid));
            let status = status.and_then(|o| o.status.clone()).expect("a status");
            assert!(
                !verdict::unsettled(&view, grant, standing, Some(&status)) || unfinished(&status, standing),
                "{status:?}"
            );
            let active = find_condition(&status.conditions, ConditionType::Active);
            let active = active.is_some_and(|c| c.status == "True");
            assert!(!active || *standing == Standing::Live, "{standing:?} is said to be active");
            assert_eq!(active, status.effective.is_some());
            if let (Subject::User(id), Standing::Live) = (&grant.subject, standing) {
                let terms = grant.terms.as_ref().expect("terms");
                let reading = consent::read(&self.listed(id), grant, terms, self.now);
                assert!(!reading.tainted, "a tainted pair was left");
                assert_eq!(active, reading.consent.is_some());
            }
        }
        // At rest: one more look says and does the same.
        let (log, before) = (self.idp.log.len(), self.objects.clone());
        let (plan, _) = self.look(&mut Faults { bits: 0, late: false });
        assert!(plan.is_empty() && self.idp.log.len() == log, "{plan:?}");
        for (n, object) in &before {
            assert_eq!(self.objects[n].status, object.status, "a status moved at rest");
        }
        assert!(plan.duties.iter().all(|d| d.what != What::Tokens || d.grant.is_some()));
    }
}

/// Looked at again and again by design: it waits for somebody else.
fn unfinished(status: &clientgrant::api::ClientGrantStatus, standing: &Standing) -> bool {
    let ready = find_condition(&status.conditions, ConditionType::Ready).map(|c| &*c.reason);
    matches!(ready, Some("AwaitingConsent" | "ConsentRemoved")) || matches!(standing, Standing::Refused(_))
}

fn event() -> impl Strategy<Value = Event> {
    let scopes = || prop::sample::subsequence(vec!["openid", "read", "write"], 1..=3);
    let ends = prop_oneof![3 => 20..4000_i64, 1 => 1..6_i64, 1 => Just(-1_i64)];
    let subject = 0..SUBJECTS.len();
    prop_oneof![
        6 => (0..OBJECTS.len(), scopes(), ends, prop::bool::weighted(0.25), prop::option::weighted(0.1, -3..8_i64))
            .prop_map(|(n, s, e, p, b)| Event::Apply(n, s, e, p, b)),
        1 => (0..OBJECTS.len()).prop_map(Event::Delete),
        1 => (0..OBJECTS.len()).prop_map(Event::Strip),
        1 => any::<bool>().prop_map(Event::Ending),
        4 => (subject.clone(), scopes(), 0..2000_i64).prop_map(|(s, x, d)| Event::Consent(s, x, d)),
        1 => (subject.clone(), 0..5_u8).prop_map(|(s, k)| Event::Hostile(s, k)),
        1 => subject.prop_map(Event::Remove),
        2 => (prop::sample::select(vec!["read", "write"]), 0..2000_i64).prop_map(|(s, d)| Event::Own(s, d)),
        1 => Just(Event::Drift),
        1 => any::<bool>().prop_map(Event::Quarantine),
        1 => any::<bool>().prop_map(Event::Rules),
        2 => prop_oneof![0..1000_i64, 1500..3000_i64, 5000..9000_i64].prop_map(Event::Wait),
        6 => (prop_oneof![2 => Just(0_u16), 1 => any::<u16>()], any::<bool>()).prop_map(|(b, l)| Event::Look(b, l)),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(dear(3_000))]

    #[test]
    fn fuzz_whatever_happens_it_comes_to_rest_where_the_grants_say(events in prop::collection::vec(event(), 1..30)) {
        let mut story = Story::new();
        for event in &events {
            story.happen(event);
        }
        let looks = story.settle();
        prop_assert!(looks <= 15, "{looks} looks");
        story.check();
    }
}

/// The races that the generated stories are about, each once, so that it is known that they happen.
#[test]
fn a_flip_that_nobody_saw_leaves_nothing_behind() {
    for n in [0, 3, 4] {
        let apply = |suspend| Event::Apply(n, vec!["read"], 3000, suspend, None);
        let token = || if n == 4 { Event::Own("read", 0) } else { Event::Consent(0, vec!["read"], 0) };
        let mut story = Story::new();
        let look = Event::Look(0, false);
        for event in [apply(false), look.clone(), Event::Wait(2500), look.clone(), apply(true), look.clone()] {
            story.happen(&event);
        }
        story.happen(&Event::Wait(2500));
        story.settle();
        // Ended and confirmed. Now in force for a moment between two looks.
        story.happen(&apply(false));
        story.happen(&token());
        assert_eq!(story.tokens.len(), 1, "positive control: a token was given ({n})");
        story.happen(&apply(true));
        if n == 4 {
            story.happen(&Event::Restart);
        }
        story.settle();
        story.check();
        assert!(story.tokens.is_empty());
    }
}

/// Both passes are done, and the API server does not take the word about it: the read-back is made again.
#[test]
fn an_end_whose_confirmation_was_lost_is_confirmed_later() {
    for n in [0, 3, 4] {
        let apply = |suspend| Event::Apply(n, vec!["read"], 3000, suspend, None);
        let mut story = Story::new();
        for event in [apply(false), Event::Look(0, false), Event::Wait(2500), Event::Look(0, false), apply(true)] {
            story.happen(&event);
        }
        story.happen(&Event::Look(0, false));
        story.happen(&Event::Wait(2500));
        // The revocation goes through; what fails is the write of the status behind it.
        story.happen(&Event::Look(0b10, false));
        let open = |story: &Story| {
            let view = story.world.view(&client_key());
            view.all().any(|g| g.carried.revocation.is_some_and(|r| r.confirmed_at.is_none()))
        };
        assert!(open(&story), "positive control: the confirmation was lost ({n})");
        story.settle();
        story.check();
        assert!(!open(&story));
    }
}

/// The key comes back to the older grant, and the subject consents to it; then the younger one goes.
#[test]
fn ending_one_grant_of_a_subject_leaves_the_consent_to_another() {
    let mut story = Story::new();
    let apply = |n, ends| Event::Apply(n, vec!["read"], ends, false, None);
    story.happen(&apply(0, 4));
    story.happen(&Event::Look(0, false));
    story.happen(&Event::Wait(1500));
    story.happen(&apply(1, 3000));
    story.settle();
    story.happen(&Event::Wait(5000));
    story.settle();
    story.happen(&Event::Consent(0, vec!["read"], 0));
    story.settle();
    assert_eq!(story.tokens.len(), 1, "positive control: the successor is in force");
    story.happen(&apply(0, 3000));
    story.settle();
    story.happen(&Event::Consent(0, vec!["read"], 0));
    story.settle();
    assert_eq!(story.tokens.len(), 1, "positive control: the older one is in force again");
    story.happen(&Event::Delete(1));
    story.settle();
    story.check();
    assert_eq!(story.listed("ann").len(), 1, "its consent is not touched");
    assert_eq!(story.tokens.len(), 1);
}

/// The namespace ends and nothing can be written at the IdP: the grant goes, and what it gave ends later. Or a
/// tenant takes the finalizer off.
#[test]
fn what_a_grant_gave_ends_although_it_is_gone() {
    for (n, strip) in [(0, false), (3, false), (4, false), (0, true), (3, true), (4, true)] {
        let mut story = Story::new();
        let token = if n == 4 { Event::Own("read", 0) } else { Event::Consent(0, vec!["read"], 0) };
        story.happen(&Event::Apply(n, vec!["read"], 3000, false, None));
        story.settle();
        story.happen(&token);
        story.settle();
        assert_eq!(story.tokens.len(), 1, "positive control: a token was given ({n})");
        if strip {
            story.happen(&Event::Strip(n));
        } else {
            story.happen(&Event::Ending(true));
            story.happen(&Event::Delete(n));
            // The call at the IdP fails; before it a consent's intent is written.
            story.happen(&Event::Look(if n == 0 { 0b10 } else { 0b1 }, false));
        }
        assert!(story.objects.is_empty() && story.pending.len() == 1, "its duty is written down ({n} {strip})");
        assert_eq!(story.tokens.len(), 1, "nothing is ended yet ({n} {strip})");
        story.happen(&Event::Restart);
        story.settle();
        story.check();
        assert!(story.tokens.is_empty() && story.pending.is_empty());
    }
}
