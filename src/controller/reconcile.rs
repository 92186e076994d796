//! One client: observe, plan, act, read again until the plan is empty, say what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use k8s_openapi::jiff::Timestamp;

use super::publish::{self, Written};
use super::{Context, Memory, pending, record};
use crate::clock;
use crate::correlation;
use crate::grant::consent;
use crate::grant::drift::{self, Drift};
use crate::grant::fault::Fault;
use crate::grant::observed::{Found, Observation};
use crate::grant::plan::{self, ClientRefusal, Duty, Plan, Step, Track, Warrant};
use crate::grant::standing::{self, Standing};
use crate::grant::verdict::{self, Facts, Finding};
use crate::grant::{ClientKey, ClientView, Grant, PASS_GAP, ProviderState, RevocationCause, Subject, backoff};
use crate::idp::{Idp, Urgency, Write};
use crate::lease::Leave;
use crate::turns;
use crate::world::{Due, Entry, Lane};

/// A client that does not come to rest in this many rounds is tried again later.
const ROUNDS: usize = 4;
/// A sweep looks at a client this often at most.
const LOOKS: usize = 4;
/// Calls to the API server and lists at the IdP at once, for one client.
const AT_ONCE: usize = 8;
/// An end does not wait longer than this for the API server to take its intent.
const INTENT: Duration = Duration::from_millis(700);
/// Live grants whose consents are read in one look.
const MOST: usize = 64;
/// One look takes no longer.
const LONGEST: Duration = Duration::from_secs(60);
/// While a second pass is to come, status writes are not waited for longer than this.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Work in progress is worth a status write after this long.
const WORTH_SAYING: Duration = Duration::from_secs(2);

/// Takes clients from the queue for ever.
pub async fn worker(context: Arc<Context>) {
    loop {
        let due = context.queue.pop().await;
        let key = due.key.clone();
        let namespace = context.queue.turn(&key);
        let work = turns::on_behalf(namespace.clone(), async {
            let (ends, mut memory) = (due.lane == Lane::End, context.take_memory(&key));
            let (due, look) = look(&context, due, &mut memory).await;
            context.queue.telling(&key);
            let context = context.clone();
            let telling = turns::on_behalf(namespace, async move {
                say(&context, due, look, &mut memory).await;
                if context.world.leadership().leave().is_some() {
                    context.keep_memory(key.clone(), memory);
                }
                context.queue.done(&key);
            });
            // Where something ended more may have, and that does not wait until this one is told.
            if ends {
                tokio::spawn(correlation::kept(telling));
            } else {
                telling.await;
            }
        });
        correlation::scope("look", work).await;
    }
}

/// Looks at one client until both passes of what is to be ended are done, a pass apart: two looks, or more where
/// the IdP fails meanwhile. Returns the grants among `due` of which both were done.
pub async fn end(context: &Context, due: Due) -> BTreeSet<Arc<str>> {
    let (mut memory, mut over) = (Memory::default(), BTreeSet::new());
    for turn in 0..LOOKS {
        if turn > 0 {
            tokio::time::sleep(PASS_GAP + Duration::from_millis(100)).await;
        }
        let look = Due { changed: due.changed && turn == 0, ..due.clone() };
        correlation::scope("look", client(context, look, &mut memory)).await;
        let is_over = |uid: &&Arc<str>| memory.track.grants.get(*uid).is_some_and(|(_, p)| p.second.is_some());
        over = due.grants.iter().filter(is_over).cloned().collect();
        if over.len() == due.grants.len() {
            break;
        }
    }
    over
}

/// Runs calls at once, at most so many.
async fn together<F: Future>(calls: Vec<F>, at_once: usize) -> Vec<F::Output> {
    stream::iter(calls).buffer_unordered(at_once).collect().await
}

/// Which grants a look is for, and whether somebody changed something about them.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    grants: &'a BTreeSet<Arc<str>>,
    subjects: &'a BTreeSet<String>,
    changed: bool,
}

/// What one look at a client brought.
struct Look {
    view: Arc<ClientView>,
    finding: Finding,
    seen: Observation,
    plan: Plan,
    /// When the plan was made: what is said speaks of that instant, or a grant that ends in between would
    /// be called ended although nothing was done for it.
    now: Timestamp,
    /// Grants whose own part failed.
    faults: Vec<(Arc<str>, Fault)>,
}

async fn client(context: &Context, due: Due, memory: &mut Memory) {
    let (due, look) = look(context, due, memory).await;
    say(context, due, look, memory).await;
}

/// Brings the IdP to what is declared, as far as that goes. What is to be told is told by [`say`].
async fn look(context: &Context, due: Due, memory: &mut Memory) -> (Due, Look) {
    let Due { key, namespaces, mut grants, subjects, lane, changed } = due;
    let (view, begin) = (context.world.view(&key), Instant::now());
    if changed {
        // An end after a change needs two passes of its own: authority may have been given in between.
        grants.iter().for_each(|uid| memory.track.start_over(uid));
    }
    // What was left unfinished is part of every look.
    let unfinished = memory.grants.iter().filter(|(_, part)| part.since.is_some() || part.failures > 0);
    grants.extend(unfinished.map(|(uid, _)| uid.clone()));
    // A look is short, so that an end never waits behind the consents of a thousand others.
    if grants.len() > MOST {
        let standings = standing::all(&view, clock::now());
        let live = standings.iter().filter(|(g, s)| *s == Standing::Live && grants.contains(&g.uid));
        let later: BTreeSet<Arc<str>> = live.skip(MOST).map(|(g, _)| g.uid.clone()).collect();
        grants.retain(|uid| !later.contains(uid));
        if !later.is_empty() {
            let namespaces = namespaces.clone();
            context.queue.push(Due { namespaces, changed, ..Due::look(key.clone(), later, lane.max(Lane::Apply)) });
        }
    }
    let wanted = Wanted { grants: &grants, subjects: &subjects, changed };
    let look = match connection(context, &view) {
        Ok(idp) if view.observing() => {
            let look = compare(context, &key, &idp, wanted, urgency(lane));
            tokio::time::timeout(LONGEST, look).await.unwrap_or_else(|_| unreadable(view, too_long()))
        }
        Ok(idp) => match tokio::time::timeout(LONGEST, act(context, &key, &idp, wanted, lane, memory)).await {
            Ok(look) => look,
            Err(_) => unreadable(view, too_long()),
        },
        Err(finding) => unreadable(view, finding),
    };
    let (outcome, took) = (look.finding.word(), begin.elapsed());
    context.metrics.looked(outcome, took);
    (Due { namespaces, ..Due::look(key, grants, lane) }, look)
}

fn connection(context: &Context, view: &ClientView) -> Result<Arc<Idp>, Finding> {
    let provider = view.provider.as_ref().map(|p| &p.state);
    let idp = context.world.provider(&view.key.provider).and_then(|(_, idp)| idp);
    match (provider, idp) {
        (Some(ProviderState::Usable), Some(idp)) => Ok(idp),
        (None | Some(ProviderState::IssuerTaken), _) => {
            Err(Finding::Fault(Fault::retry("the provider object is missing or does not speak for its issuer")))
        }
        _ => Err(Finding::Fault(Fault::retry("the provider cannot be used yet; its Ready condition says why"))),
    }
}

fn unreadable(view: Arc<ClientView>, finding: Finding) -> Look {
    let now = clock::now();
    let seen = Observation { client: Found::Absent, consents: [].into() };
    // Nothing was read: what is owed stays owed.
    let mut plan = Plan::default();
    // Without the provider object nobody knows whether the client is managed.
    let perhaps = view.managed.is_some() || view.provider.is_none();
    let standings = perhaps.then(|| standing::all(&view, now));
    for (grant, standing) in standings.into_iter().flatten() {
        plan.duties.extend(plan::duty(&view, &grant, &standing, &seen, now));
    }
    Look { view, finding, seen, plan, now, faults: Vec::new() }
}

fn too_long() -> Finding {
    Finding::Fault(Fault::retry("the identity provider took too long"))
}

/// A look at a client of a provider that is only observed: nothing is planned.
async fn compare(context: &Context, key: &ClientKey, idp: &Idp, wanted: Wanted<'_>, urgency: Urgency) -> Look {
    let (view, now) = (context.world.view(key), clock::now());
    let mut seen = Observation { client: Found::Absent, consents: [].into() };
    match idp.observe_client(&key.client, urgency).await {
        Ok(found) => seen.client = found,
        Err(fault) => return Look { finding: Finding::Fault(fault), ..unreadable(view, Finding::Converging) },
    }
    let mut subjects = wanted.subjects.clone();
    subjects.extend(view.all().filter(|g| wanted.grants.contains(&g.uid)).filter_map(|g| match &g.subject {
        Subject::User(id) => Some(id.clone()),
        Subject::Any | Subject::Own => None,
    }));
    let faults = read_consents(idp, &view, subjects, &mut seen, urgency).await;
    let finding = match &seen.client {
        Found::Absent => Finding::Refused(ClientRefusal::Unknown),
        Found::Present(_) => Finding::Observed,
    };
    Look { view, finding, seen, plan: Plan::default(), now, faults }
}

fn urgency(lane: Lane) -> Urgency {
    match lane {
        Lane::End | Lane::Narrow => Urgency::Ending,
        Lane::Apply | Lane::Drift => Urgency::Ordinary,
    }
}

async fn act(
    context: &Context,
    key: &ClientKey,
    idp: &Idp,
    wanted: Wanted<'_>,
    lane: Lane,
    memory: &mut Memory,
) -> Look {
    let urgency = urgency(lane);
    let mut view = context.world.view(key);
    let mut faults = Vec::new();
    let mut seen = Observation { client: Found::Absent, consents: [].into() };
    let mut now = clock::now();
    match idp.observe_client(&key.client, urgency).await {
        Ok(found) => seen.client = found,
        Err(fault) => return Look { finding: Finding::Fault(fault), ..unreadable(view, Finding::Converging) },
    }
    let subjects = subjects_to_read(&view, wanted, &memory.track, now);
    faults.extend(read_consents(idp, &view, subjects, &mut seen, urgency).await);

    let mut plan = plan::plan(&view, &seen, &memory.track, &context.cluster, now);
    for _ in 0..ROUNDS {
        if plan.is_empty() {
            break;
        }
        let worked = work(context, idp, &view, &mut plan, &seen, memory, &mut faults, urgency).await;
        if let Err(fault) = worked {
            return Look { view, finding: Finding::Fault(fault), seen, plan, now, faults };
        }
        if plan.complete {
            let issuer = view.provider.as_ref().map(|p| p.issuer.clone()).unwrap_or_default();
            let recorded = view.managed.as_ref().is_some_and(|m| m.complete);
            if recorded || record::complete(context, &issuer, &key.client).await.is_ok() {
                memory.track.client = plan::Passes::default();
                memory.track.excess = false;
            } else {
                let fault = Fault::retry("the record of managed clients could not be written");
                return Look { view, finding: Finding::Fault(fault), seen, plan, now, faults };
            }
        }
        // Read again: the IdP's word is not what holds.
        match idp.observe_client(&key.client, urgency).await {
            Ok(found) => seen.client = found,
            Err(fault) => return Look { view, finding: Finding::Fault(fault), seen, plan, now, faults },
        }
        let again = plan.steps.iter().filter_map(|step| match step {
            Step::RevokePair { subject, .. } => Some(subject.clone()),
            Step::RevokeClientTokens { .. } | Step::SetRegistration | Step::Release { .. } => None,
        });
        let again = again.collect();
        view = context.world.view(key);
        faults.extend(read_consents(idp, &view, again, &mut seen, urgency).await);
        now = clock::now();
        plan = plan::plan(&view, &seen, &memory.track, &context.cluster, now);
        if !faults.is_empty() {
            break;
        }
    }
    let finding = Finding::of(&plan);
    if finding == Finding::Exact {
        memory.track.ceiling = Some(plan.ceiling.clone());
    }
    Look { view, finding, seen, plan, now, faults }
}

/// Subjects whose consents say something about the grants that are looked at.
fn subjects_to_read(view: &ClientView, wanted: Wanted<'_>, track: &Track, now: Timestamp) -> BTreeSet<String> {
    let mut subjects = wanted.subjects.clone();
    for (grant, standing) in standing::all(view, now) {
        if let Subject::User(id) = &grant.subject
            && plan::by_list(&grant, &standing, wanted.grants.contains(&grant.uid), wanted.changed, track)
        {
            subjects.insert(id.clone());
        }
    }
    subjects
}

/// Reads the consents of subjects; a subject that cannot be read is told to its grants and is no key.
async fn read_consents(
    idp: &Idp,
    view: &ClientView,
    subjects: BTreeSet<String>,
    seen: &mut Observation,
    urgency: Urgency,
) -> Vec<(Arc<str>, Fault)> {
    let client = &view.key.client;
    let reads = subjects.into_iter().map(|subject| async move {
        let consents = idp.observe_consents(client, &subject, urgency).await;
        (subject, consents)
    });
    let answers = together(reads.collect(), AT_ONCE).await;
    let mut faults = Vec::new();
    for (subject, answer) in answers {
        match answer {
            Ok(consents) => _ = seen.consents.insert(subject, consents),
            Err(fault) => {
                seen.consents.remove(&subject);
                let group = view.grants.get(&Subject::User(subject)).into_iter().flatten();
                faults.extend(group.map(|g| (g.uid.clone(), fault.clone())));
            }
        }
    }
    faults
}

/// What ends, ends before anything is prepared for what begins.
#[expect(clippy::too_many_arguments, reason = "the shell of one client")]
async fn work(
    context: &Context,
    idp: &Idp,
    view: &ClientView,
    plan: &mut Plan,
    seen: &Observation,
    memory: &mut Memory,
    faults: &mut Vec<(Arc<str>, Fault)>,
    urgency: Urgency,
) -> Result<(), Fault> {
    let key = &view.key;
    intents(context, view, plan, faults).await;
    let ends = |step: &&Step| match step {
        Step::RevokePair { .. } => true,
        Step::RevokeClientTokens { warrant } => matches!(warrant, Warrant::Asked(_)),
        Step::SetRegistration | Step::Release { .. } => false,
    };
    let first: Vec<Step> = plan.steps.iter().filter(ends).cloned().collect();
    carry_out(context, key, idp, plan, &first, seen, memory, faults, urgency).await?;
    prepare(context, view, plan, faults).await?;
    let then: Vec<Step> = plan.steps.iter().filter(|step| !ends(step)).cloned().collect();
    carry_out(context, key, idp, plan, &then, seen, memory, faults, urgency).await
}

/// What must be written before anything is given: finalizers, the record.
async fn prepare(
    context: &Context,
    view: &ClientView,
    plan: &Plan,
    faults: &mut Vec<(Arc<str>, Fault)>,
) -> Result<(), Fault> {
    let finalizers = plan.finalizers.iter().filter_map(|uid| view.grant(uid)).map(|grant| async move {
        let entry = context.world.entry(&grant.name)?;
        let written = publish::finalizer(context, &entry, true).await;
        (written != Written::Stored).then(|| grant.uid.clone())
    });
    let bare: Vec<Arc<str>> = together(finalizers.collect(), AT_ONCE).await.into_iter().flatten().collect();
    faults.extend(bare.into_iter().map(|uid| (uid, Fault::retry("the finalizer could not be written"))));

    if let Some(before) = &plan.adopt {
        let issuer = view.provider.as_ref().map(|p| p.issuer.clone()).unwrap_or_default();
        if let Err(error) = record::adopt(context, &issuer, &view.key.client, before).await {
            tracing::warn!(client = %view.key.client, %error, "the record of managed clients could not be written");
            return Err(Fault::retry("the record of managed clients could not be written"));
        }
        tracing::info!(client = %view.key.client, provider = %view.key.provider, "client adopted");
    }
    Ok(())
}

/// Writes down that we ourselves are about to revoke.
///
/// A narrower grant waits for it: without it a crash would let the subject's consent look removed by
/// somebody else. It is tried again where the API server does not take it in a moment. What a person
/// ended waits that moment; what the date ended does not wait at all, its status follows.
async fn intents(context: &Context, view: &ClientView, plan: &mut Plan, faults: &mut Vec<(Arc<str>, Fault)>) {
    let now = clock::now();
    let of = |narrowed: bool| {
        let intents = plan.intents.iter().filter_map(|(uid, cause)| Some((view.grant(uid)?, *cause)));
        let some = intents.filter(move |(_, cause)| (*cause == RevocationCause::Narrowed) == narrowed);
        let writes = some.map(|(grant, cause)| async move {
            let entry = context.world.entry(&grant.name)?;
            let mut status = entry.status.as_deref().cloned().unwrap_or_default();
            status.revocation = Some(verdict::requested(cause, now));
            let written = tokio::time::timeout(INTENT, publish::status(context, &entry, &status)).await;
            (written != Ok(Written::Stored)).then(|| grant.uid.clone())
        });
        together(writes.collect(), AT_ONCE * 2)
    };
    let (_, unwritten) = tokio::join!(tokio::time::timeout(INTENT, of(false)), of(true));
    for uid in unwritten.into_iter().flatten() {
        plan.steps.retain(|step| match step {
            Step::RevokePair { warrant, .. } | Step::RevokeClientTokens { warrant } => {
                *warrant != Warrant::Asked(uid.clone())
            }
            Step::SetRegistration | Step::Release { .. } => true,
        });
        faults.push((uid, Fault::retry("the intent to revoke could not be written")));
    }
}

/// Carries out the steps in order; pairs go together. A pair that fails does not fail its neighbours.
#[expect(clippy::too_many_arguments, reason = "the shell of one client")]
async fn carry_out(
    context: &Context,
    key: &ClientKey,
    idp: &Idp,
    plan: &Plan,
    steps: &[Step],
    seen: &Observation,
    memory: &mut Memory,
    faults: &mut Vec<(Arc<str>, Fault)>,
    urgency: Urgency,
) -> Result<(), Fault> {
    if steps.is_empty() {
        return Ok(());
    }
    let gone = || Fault::retry("the provider changed while a plan was carried out");
    let permit = context.world.permit(&key.provider).ok_or_else(gone)?;
    let whole = permit.leave() == Leave::Everything;
    let cut: Vec<Step>;
    let steps = if whole {
        steps
    } else {
        cut = steps.iter().filter(|step| plan.ends_by_date(step)).cloned().collect();
        &cut
    };
    let write = |step| Write {
        permit: &permit,
        client: &key.client,
        step,
        ceiling: &plan.ceiling,
        cluster: &context.cluster,
        urgency: if matches!(step, Step::SetRegistration) { urgency } else { Urgency::Ending },
    };
    let pairs = steps.iter().filter(|s| matches!(s, Step::RevokePair { .. }));
    let pairs = pairs.map(|step| async move { (step, idp.execute(write(step)).await) });
    let answers = together(pairs.collect(), AT_ONCE).await;
    let now = clock::now();
    for (step, answer) in answers {
        audit(context, plan, key, step, &answer);
        match (answer, step) {
            (Ok(()), step) => memory.track.carried_out(step, &plan.duties, now),
            (Err(fault), Step::RevokePair { subject, .. }) => {
                let of = plan.duties.iter().filter(|d| d.what == plan::What::Pair(subject.clone()));
                faults.extend(of.filter_map(|d| Some((d.grant.clone()?, fault.clone()))));
            }
            (Err(fault), _) => return Err(fault),
        }
    }
    for step in steps.iter().filter(|s| !matches!(s, Step::RevokePair { .. })) {
        if *step == Step::SetRegistration && seen.client == Found::Absent {
            continue;
        }
        let answer = idp.execute(write(step)).await;
        audit(context, plan, key, step, &answer);
        answer?;
        memory.track.carried_out(step, &plan.duties, clock::now());
    }
    if whole { Ok(()) } else { Err(Fault::retry("only what has passed its end may be ended here")) }
}

/// One line per write at an IdP: who, what, why, and whether it was taken.
fn audit(context: &Context, plan: &Plan, key: &ClientKey, step: &Step, answer: &Result<(), Fault>) {
    let (what, why) = match step {
        Step::SetRegistration => ("SetRegistration", String::new()),
        Step::Release { .. } => ("Release", String::new()),
        Step::RevokePair { warrant, .. } => ("RevokePair", because(warrant)),
        Step::RevokeClientTokens { warrant } => ("RevokeClientTokens", because(warrant)),
    };
    if let Step::RevokePair { warrant, .. } | Step::RevokeClientTokens { warrant } = step {
        let cause = match warrant {
            Warrant::Asked(uid) => plan.owes(uid).map_or("Narrowed", |duty| duty.cause.as_str()),
            Warrant::Adoption => "Adoption",
            Warrant::Excess => "Excess",
            Warrant::Garbage(_) => "Undeclared",
        };
        context.metrics.revoked(cause, answer.is_ok());
    }
    match answer {
        Ok(()) => {
            tracing::info!(client = %key.client, provider = %key.provider, step = what, why, "written at the identity provider")
        }
        Err(fault) => {
            tracing::warn!(client = %key.client, provider = %key.provider, step = what, why, %fault, "not written at the identity provider")
        }
    }
}

fn because(warrant: &Warrant) -> String {
    match warrant {
        Warrant::Asked(uid) => format!("grant {uid}"),
        Warrant::Adoption => "adoption".into(),
        Warrant::Excess => "excess".into(),
        Warrant::Garbage(proof) => format!("nobody declares it: {proof}"),
    }
}

/// Composes and publishes the status of every grant that this look concerns.
async fn say(context: &Context, due: Due, look: Look, memory: &mut Memory) {
    let Due { key, namespaces, grants: wanted, .. } = due;
    let Look { view, finding, seen, plan, now, faults } = look;
    let changed = memory.finding.as_ref().is_some_and(|old| *old != finding)
        || (memory.finding.is_none() && matches!(finding, Finding::Refused(_)));
    let owing: BTreeMap<&Arc<str>, &Duty> = plan.duties.iter().filter_map(|d| Some((d.grant.as_ref()?, d))).collect();
    let failing = matches!(finding, Finding::Fault(_));

    let standings = standing::all(&view, now);
    let concerned = standings.iter().filter(|(grant, standing)| {
        wanted.contains(&grant.uid)
            || owing.contains_key(&grant.uid)
            || faults.iter().any(|(uid, _)| *uid == grant.uid)
            || (changed && !failing)
            || (!view.observing() && plan::wants_finalizer(grant, standing))
    });
    let shared = context.world.shared(&key);
    let mut work = Vec::new();
    let mut unread = BTreeSet::new();
    for (grant, standing) in concerned {
        if needs_reading(&finding, grant, standing, &seen) && !wanted.contains(&grant.uid) {
            unread.insert(grant.uid.clone());
            continue;
        }
        let known = memory.grants.contains_key(&grant.uid);
        let part = memory.grants.entry(grant.uid.clone()).or_default();
        let reading = reading(grant, &seen, now);
        let drift = drifted(&view, grant, standing, (&finding, &seen), now);
        let duty = owing.get(&grant.uid).copied();
        let facts = Facts {
            view: &view,
            grant,
            standing,
            finding: &finding,
            reading: reading.as_ref(),
            drift: drift.as_ref(),
            duty,
            confirmed: !failing && duty.is_some_and(|d| plan::confirmed(d, &memory.track, &seen, &plan)),
            fault: faults.iter().find(|(uid, _)| *uid == grant.uid).map(|(_, f)| f),
            old: None,
            looks: 0,
            handover: None,
            shared: &shared,
        };
        // A newer object is on its way to a look of its own: what was found does not speak of it.
        let same = |e: &Entry| e.grant.uid == grant.uid && e.grant.generation == grant.generation;
        let Some(entry) = context.world.entry(&grant.name).filter(same) else { continue };
        if !known {
            // After a restart the pace goes on: else every waiting grant would be looked at as if it were new.
            part.looks = entry.status.as_deref().map_or(0, |status| verdict::looks_so_far(status, now));
        }
        let handover = entry.pending.is_none().then_some(context.config.handover_after);
        let facts = Facts { old: entry.status.as_deref(), looks: part.looks, handover, ..facts };
        let said = verdict::compose(&facts, now);
        let failed = facts.fault.is_some() || failing;
        let confirmed = facts.confirmed;
        let lag = duty.filter(|_| confirmed).map(|duty| (duty.cause.as_str(), verdict::asked(&facts, now)));
        let lag = lag.and_then(|(cause, since)| Some((cause, Duration::try_from(now.duration_since(since)).ok()?)));

        part.looks = if said.waiting { part.looks.saturating_add(1) } else { 0 };
        part.failures = if failed { part.failures.saturating_add(1) } else { 0 };
        part.since = if said.progress { Some(part.since.unwrap_or(now)) } else { None };
        let quiet = part.since.is_some_and(|s| now < s + WORTH_SAYING);
        let retry = failed.then(|| now + backoff::delay(part.failures, &grant.uid));
        let progress = part.since.filter(|_| quiet).map(|s| s + WORTH_SAYING + Duration::from_millis(500));
        let next = [said.look, retry, progress].into_iter().flatten().min();
        work.push((entry, said, quiet, (confirmed, lag), next));
    }
    if !unread.is_empty() {
        let namespaces = namespaces.clone();
        context.queue.push(Due { namespaces, ..Due::look(key.clone(), unread, Lane::Apply) });
    }
    let patience = tokio::time::Instant::now() + if plan.next.is_some() { PATIENCE } else { LONGEST };
    let view = &view;
    let writes = work.into_iter().map(|(entry, said, quiet, confirmed, next)| async move {
        let write = async {
            match &said.status {
                _ if entry.pending.is_some() => pending::say(context, view, &entry, &said).await,
                _ if said.hand_over => pending::hand_over(context, view, &entry, now).await,
                _ if said.release => publish::finalizer(context, &entry, false).await,
                Some(status) if !quiet => {
                    let written = publish::status(context, &entry, status).await;
                    if written == Written::Stored {
                        context.events.told(&entry, status);
                    }
                    written
                }
                _ => Written::Stored,
            }
        };
        let written = tokio::time::timeout_at(patience, write).await.unwrap_or(Written::Failed);
        (entry, written, confirmed, next)
    });
    let results = together(writes.collect(), AT_ONCE * 2).await;
    for (entry, written, (confirmed, lag), next) in results {
        let uid = entry.grant.uid.clone();
        let soon = clock::now() + Duration::from_millis(250);
        let again = |lane| Due::look(key.clone(), BTreeSet::new(), lane).of(&entry.grant.name.namespace);
        match written {
            Written::Stored => {
                if let Some((cause, lag)) = lag {
                    context.metrics.confirmed(cause, lag);
                }
                if confirmed {
                    memory.track.start_over(&uid);
                    context.queue.push_all(context.world.ended(&entry.grant.name, entry.grant.generation));
                }
                if let Some(at) = next {
                    context.queue.at(again(lane_at(&entry.grant, at)), uid, at);
                }
            }
            Written::Gone => {
                memory.grants.remove(&uid);
                memory.track.start_over(&uid);
                // The watch will say so too; if it does not, something in between lied.
                if context.world.entry(&entry.grant.name).is_some_and(|e| e.grant.uid == uid) {
                    context.queue.at(again(Lane::Apply), uid, soon + Duration::from_secs(1));
                }
            }
            // The watch brings the newer object; if it already has, look at that one.
            Written::Changed => context.queue.at(again(Lane::Apply), uid, soon),
            Written::Invalid | Written::Failed => {
                context.queue.at(again(Lane::Apply), uid, soon + Duration::from_secs(1))
            }
        }
    }

    memory.failures = if failing || !plan.is_empty() { memory.failures.saturating_add(1) } else { 0 };
    let retry = (memory.failures > 0).then(|| {
        let asked = match &finding {
            Finding::Fault(Fault::Retry { after, .. }) => *after,
            _ => None,
        };
        // The IdP may ask for a pause, but not for one that keeps authority alive.
        let most = if plan.duties.is_empty() { Duration::from_secs(60) } else { Duration::from_secs(5) };
        now + backoff::delay(memory.failures, &key.client).max(asked.unwrap_or_default().min(most))
    });
    let next = [plan.next, retry].into_iter().flatten().min();
    if let Some(at) = next {
        let lane = if plan.duties.is_empty() { Lane::Apply } else { Lane::End };
        let mut due = Due { namespaces, ..Due::look(key.clone(), BTreeSet::new(), lane) };
        for (grant, _) in standings.iter().filter(|(g, _)| owing.contains_key(&g.uid)) {
            if !due.namespaces.contains(&*grant.name.namespace) {
                due = due.of(&grant.name.namespace);
            }
        }
        context.queue.at(due, Arc::from(""), at);
    }
    if !failing {
        memory.finding = Some(finding);
    }
    let present: BTreeSet<&Arc<str>> = standings.iter().map(|(g, _)| &g.uid).collect();
    memory.grants.retain(|uid, _| present.contains(uid));
    memory.track.grants.retain(|uid, _| present.contains(uid));
}

/// Whether nothing can be said of a grant before its subject's consents are read.
fn needs_reading(finding: &Finding, grant: &Grant, standing: &Standing, seen: &Observation) -> bool {
    let Subject::User(id) = &grant.subject else { return false };
    let by_list = match finding {
        Finding::Exact => *standing == Standing::Live,
        Finding::Observed => true,
        Finding::Converging | Finding::Refused(_) | Finding::Fault(_) => false,
    };
    by_list && !seen.consents.contains_key(id)
}

/// How far the IdP is from a grant, where that is worth saying.
fn drifted(
    view: &ClientView,
    grant: &Grant,
    standing: &Standing,
    look: (&Finding, &Observation),
    now: Timestamp,
) -> Option<Drift> {
    let (finding, seen) = look;
    let Found::Present(client) = &seen.client else { return None };
    let listed = match &grant.subject {
        Subject::User(id) => seen.consents.get(id).map(Vec::as_slice),
        Subject::Any | Subject::Own => None,
    };
    let read = listed.is_some() || !matches!(grant.subject, Subject::User(_));
    let said = match finding {
        Finding::Observed => read && !matches!(standing, Standing::Refused(_)),
        Finding::Converging => *standing == Standing::Live,
        Finding::Exact | Finding::Refused(_) | Finding::Fault(_) => false,
    };
    said.then(|| drift::compare(view, grant, standing, client, listed, now))
}

fn reading(grant: &Grant, seen: &Observation, now: Timestamp) -> Option<consent::Reading> {
    let (Subject::User(id), Ok(terms)) = (&grant.subject, &grant.terms) else { return None };
    Some(consent::read(seen.consents.get(id)?, grant, terms, now))
}

fn lane_at(grant: &Grant, at: Timestamp) -> Lane {
    match &grant.terms {
        Ok(terms) if terms.expires_at <= at => Lane::End,
        _ => Lane::Drift,
    }
}
