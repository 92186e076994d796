//! What the picture makes of what it is told, and what it then asks to be looked at.

use std::sync::Arc;
use std::time::Duration;

use clientgrant::api::condition::Reason;
use clientgrant::api::{self, ClientGrant, ClientGrantStatus, PendingRevocation, Revocation, SubjectKind};
use clientgrant::grant::parse::{self, FINALIZER};
use clientgrant::grant::rules::Rule;
use clientgrant::grant::{
    ClientKey, GrantName, Managed, ProviderKey, ProviderState, ProviderView, RevocationCause, Subject, pending, plan,
    verdict,
};
use clientgrant::idp::Idp;
use clientgrant::idp::memory::Memory;
use clientgrant::lease::{Leadership, Timing};
use clientgrant::sharing::judge::{self, Exclusive, Shared, Verdict};
use clientgrant::world::{Due, Identity, Lane, Quarantine, Source, World};

use crate::support::*;

fn idp() -> Option<Arc<Idp>> {
    Some(Arc::new(Idp::Memory(Memory::default())))
}

fn connected() -> World {
    let world = World::default();
    world.set_provider(provider(), idp(), at(-5000), "provider".into());
    world
}

/// The object, changed: another generation and resource version.
fn edited(object: &ClientGrant, change: impl FnOnce(&mut ClientGrant)) -> ClientGrant {
    with(object.clone(), |o| {
        *o.metadata.generation.get_or_insert_default() += 1;
        bump(o);
        change(o);
    })
}

fn bump(object: &mut ClientGrant) {
    let version: u64 = object.metadata.resource_version.as_deref().unwrap_or("0").parse().unwrap();
    object.metadata.resource_version = Some((version + 1).to_string());
}

fn held(object: ClientGrant) -> ClientGrant {
    with(object, |o| o.metadata.finalizers = Some(vec![FINALIZER.into()]))
}

fn uids(due: &Due) -> Vec<&str> {
    due.grants.iter().map(|g| &**g).collect()
}

#[test]
fn nothing_is_complete_before_every_source_is() {
    let world = World::default();
    for (n, source) in Source::ALL.into_iter().enumerate() {
        assert!(!world.complete());
        assert_eq!(world.missing().len(), Source::ALL.len() - n);
        world.synced(source);
    }
    assert!(world.complete() && world.missing().is_empty());
}

#[test]
fn our_own_status_write_is_no_news() {
    let world = connected();
    let first = object("ann", "1", &user("ann"));
    let due = world.upsert_grant(&first, at(0)).expect("a new grant is due");
    assert_eq!((due.lane, due.changed, uids(&due)), (Lane::Apply, true, vec!["1"]));
    let written = with(first.clone(), |o| {
        bump(o);
        o.status = Some(ClientGrantStatus { observed_generation: Some(1), ..ClientGrantStatus::default() });
    });
    let name = parse::name(&first.metadata);
    world.sending(&name, "1", written.status.as_ref().unwrap());
    assert_eq!(world.upsert_grant(&written, at(0)), None);
    assert_eq!(world.entry(&name).unwrap().version, "2", "but it is known");
    let labelled = with(written, |o| {
        bump(o);
        o.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
    });
    assert_eq!(world.upsert_grant(&labelled, at(0)), None);
    // What somebody else writes there is not read: it is to be replaced, whatever it says.
    let forged = with(labelled.clone(), |o| {
        bump(o);
        o.status.as_mut().unwrap().observed_generation = Some(7);
    });
    let due = world.upsert_grant(&forged, at(0)).expect("it is looked at");
    assert_eq!((due.changed, uids(&due)), (false, vec!["1"]));
    let entry = world.entry(&name).unwrap();
    assert!(entry.forged && entry.grant.observed_generation == Some(1));
    assert_eq!(entry.status.as_deref(), labelled.status.as_ref());
    assert_eq!(world.upsert_grant(&forged, at(0)), None, "once");
    let changed = edited(&labelled, |o| o.spec.suspend = true);
    assert!(world.upsert_grant(&changed, at(0)).is_some());
    let held = with(changed, |o| {
        bump(o);
        o.metadata.finalizers = Some(vec![FINALIZER.into()]);
    });
    assert!(world.upsert_grant(&held, at(0)).is_some(), "somebody may have forced it off, or put it on");
}

/// A write that was given up may be stored all the same, after the next one was sent.
#[test]
fn a_status_that_was_overtaken_on_its_way_is_still_ours() {
    let world = connected();
    let first = held(object("ann", "1", &user("ann")));
    let name = parse::name(&first.metadata);
    world.upsert_grant(&first, at(0));
    let says = |generation| ClientGrantStatus { observed_generation: Some(generation), ..ClientGrantStatus::default() };
    let stored = |version: &str, status: ClientGrantStatus| {
        with(first.clone(), |o| (o.metadata.resource_version, o.status) = (Some(version.into()), Some(status)))
    };
    (1..=3).for_each(|n| world.sending(&name, "1", &says(n)));
    assert_eq!(world.upsert_grant(&stored("2", says(2)), at(0)), None);
    assert!(!world.entry(&name).unwrap().forged);
    assert_eq!(world.upsert_grant(&stored("3", says(3)), at(0)), None);
    assert!(!world.entry(&name).unwrap().forged);
    assert!(world.upsert_grant(&stored("4", says(4)), at(0)).is_some(), "nobody of us sent that");
    assert!(world.entry(&name).unwrap().forged);
    // Answered: what was sent before is over.
    world.fed_back(&stored("5", says(3)));
    assert!(world.upsert_grant(&stored("6", says(1)), at(0)).is_some());
}

/// The answer to a write may arrive after the watch told something newer.
#[test]
fn an_older_answer_does_not_undo_newer_news() {
    let world = connected();
    let first = object("ann", "1", &user("ann"));
    world.upsert_grant(&first, at(0));
    let newer = edited(&first, |o| o.spec.suspend = true);
    let newer = with(newer, |o| o.metadata.resource_version = Some("10".into()));
    world.upsert_grant(&newer, at(0));
    world.fed_back(&with(first.clone(), |o| o.metadata.resource_version = Some("9".into())));
    let name = parse::name(&first.metadata);
    assert_eq!(world.entry(&name).unwrap().version, "10");
    assert!(world.entry(&name).unwrap().grant.terms.as_ref().unwrap().suspend);
    // Deleted and recreated under the same name: another object.
    let again = with(object("ann", "2", &user("ann")), |o| o.metadata.resource_version = Some("20".into()));
    world.upsert_grant(&again, at(0));
    world.fed_back(&with(first, |o| o.metadata.resource_version = Some("30".into())));
    assert_eq!(&*world.entry(&name).unwrap().grant.uid, "2");
    world.remove_grant(&name);
    world.fed_back(&again);
    assert!(world.entry(&name).is_none(), "an answer brings no object back");
}

#[test]
fn an_answer_brings_no_duty_back_that_is_gone() {
    let world = connected();
    let grant = grant("g", user("ann"));
    let duty = pending::of(&view([grant.clone()]), &grant, at(0)).expect("a duty");
    let duty = |uid: &str, version: u64| {
        let mut duty = duty.clone();
        duty.metadata.uid = Some(uid.into());
        duty.metadata.resource_version = Some(version.to_string());
        duty
    };
    let id = duty("1", 0).metadata.name.unwrap();
    let kept = || world.entry(&pending::grant(&duty("1", 0)).unwrap().name).map(|entry| entry.version);
    world.set_pending(&duty("1", 9));
    world.fed_back_pending(&duty("1", 10));
    assert_eq!(kept().as_deref(), Some("10"));
    world.set_pending(&duty("2", 100));
    world.fed_back_pending(&duty("1", 101));
    assert_eq!(kept().as_deref(), Some("100"), "another one has its name since");
    world.remove_pending(&id);
    world.fed_back_pending(&duty("2", 102));
    assert_eq!(kept(), None);
}

/// The cluster was put back to an older copy: what it says of a grant has a lower version and counts all the
/// same, and no write is taken with a version of before.
#[test]
fn after_the_history_went_back_no_version_of_before_counts() {
    let world = connected();
    let old = with(object("ann", "1", &user("ann")), |o| o.metadata.resource_version = Some("5".into()));
    let said = |generation| Some(ClientGrantStatus { observed_generation: Some(generation), ..Default::default() });
    let newer = edited(&old, |o| {
        o.metadata.resource_version = Some("10".into());
        o.status = said(2);
    });
    world.upsert_grant(&newer, at(0));
    let name = parse::name(&old.metadata);
    let stored = with(newer.clone(), |o| {
        o.metadata.resource_version = Some("6".into());
        o.status = said(1);
    });
    world.upsert_grant(&stored, at(0));
    assert!(!world.entry(&name).unwrap().forged, "positive control: late news");
    world.upsert_grant(&newer, at(0));

    assert!(!world.rewound());
    world.set_rewound();
    assert!(world.rewound());
    assert!(world.entry(&name).unwrap().version.parse::<u64>().is_err());
    let due = world.upsert_grant(&stored, at(0)).expect("its status is of another history");
    assert_eq!(uids(&due), ["1"]);
    let entry = world.entry(&name).unwrap();
    assert!(entry.forged && entry.version == "6", "it is replaced by what holds");
    world.fed_back(&with(stored, |o| o.metadata.resource_version = Some("7".into())));
    assert_eq!(world.entry(&name).unwrap().version, "7", "and lower versions are taken");
}

#[test]
fn a_view_speaks_of_one_client_and_follows_its_changes() {
    let world = connected();
    world.upsert_grant(&object("ann", "1", &user("ann")), at(0));
    let other = with(object("other", "2", &user("ann")), |o| o.spec.client_id = "other".into());
    world.upsert_grant(&other, at(0));
    let before = world.view(&client_key());
    assert_eq!(before.all().count(), 1);
    assert!(Arc::ptr_eq(&before, &world.view(&client_key())), "built once");
    world.upsert_grant(&edited(&other, |o| o.spec.suspend = true), at(0));
    assert!(Arc::ptr_eq(&before, &world.view(&client_key())), "another client's edit does not touch it");
    world.set_managed(ISSUER, CLIENT, Some(Managed { complete: true }));
    assert!(world.view(&client_key()).managed.is_some());
    assert!(world.view(&key_of("other")).managed.is_none());
    assert_eq!(world.clients_of(&provider_key()), [client_key(), key_of("other")]);
    world.remove_grant(&parse::name(&object("ann", "1", &user("ann")).metadata));
    assert_eq!(world.view(&client_key()).all().count(), 0);
    assert!(world.view(&client_key()).managed.is_some(), "managed until it is released");
    assert_eq!(world.clients_of(&provider_key()), [client_key(), key_of("other")]);
    assert_eq!(world.view(&key_of("nobody")).all().count(), 0);
}

#[test]
fn siblings_are_due_together_and_others_are_not() {
    let world = connected();
    for (name, uid, subject) in [("a", "1", user("ann")), ("b", "2", user("ann")), ("c", "3", user("bob"))] {
        world.upsert_grant(&object(name, uid, &subject), at(0));
    }
    let due = world.upsert_grant(&edited(&object("a", "1", &user("ann")), |o| o.spec.suspend = true), at(0)).unwrap();
    assert_eq!(uids(&due), ["1", "2"], "another may hold the key now; bob's is not read");
    let due = world.remove_grant(&GrantName { namespace: "finance".into(), name: "a".into() }).unwrap();
    assert_eq!((uids(&due), due.lane), (vec!["2"], Lane::Narrow));
    assert!(world.remove_grant(&GrantName { namespace: "finance".into(), name: "a".into() }).is_none());
}

#[test]
fn what_ends_is_more_urgent_than_what_begins() {
    let world = connected();
    let first = held(object("ann", "1", &user("ann")));
    assert_eq!(world.upsert_grant(&first, at(0)).unwrap().lane, Lane::Apply);
    let narrower = edited(&first, |o| o.spec.scopes = vec!["read".into()]);
    assert_eq!(world.upsert_grant(&narrower, at(0)).unwrap().lane, Lane::Narrow);
    let suspended = edited(&narrower, |o| o.spec.suspend = true);
    assert_eq!(world.upsert_grant(&suspended, at(0)).unwrap().lane, Lane::End);
}

/// Tokens of these are in no list: what was taken away is remembered until it is ended.
#[test]
fn a_narrower_spec_is_remembered_where_nothing_lists_it() {
    for subject in [Subject::Own, Subject::Any] {
        let world = connected();
        let wide = held(with(object("g", "1", &subject), |o| o.spec.scopes = vec!["read".into(), "write".into()]));
        world.upsert_grant(&wide, at(0));
        let name = parse::name(&wide.metadata);
        let narrowed = || world.entry(&name).unwrap().grant.narrowed;
        assert!(!narrowed());
        let wider = edited(&wide, |o| o.spec.scopes.push("more".into()));
        world.upsert_grant(&wider, at(0));
        assert!(!narrowed(), "widening takes nothing away");
        let less = edited(&wider, |o| o.spec.scopes = vec!["read".into()]);
        world.upsert_grant(&less, at(0));
        assert!(narrowed());
        let back = edited(&less, |o| o.spec.scopes = vec!["read".into(), "write".into(), "more".into()]);
        world.upsert_grant(&back, at(0));
        assert!(narrowed(), "taken back before anybody looked: it was narrow for a moment all the same");
        world.ended(&name, 1);
        assert!(narrowed(), "what was confirmed speaks of another generation");
        world.ended(&name, back.metadata.generation.unwrap());
        assert!(!narrowed());

        // After a restart: changed since status was written, by how much is not known.
        let status = ClientGrantStatus { observed_generation: Some(1), ..ClientGrantStatus::default() };
        let world = connected();
        world.upsert_grant(&with(less, |o| o.status = Some(status)), at(0));
        assert!(world.entry(&name).unwrap().grant.narrowed);
    }
    let world = connected();
    let ann = held(object("ann", "1", &user("ann")));
    world.upsert_grant(&ann, at(0));
    world.upsert_grant(&edited(&ann, |o| o.spec.scopes = vec!["read".into()]), at(0));
    assert!(!world.entry(&parse::name(&ann.metadata)).unwrap().grant.narrowed, "consents are listed");
}

#[test]
fn an_ended_grant_that_may_have_been_in_force_again_is_remembered() {
    let ended = held(with(object("own", "1", &Subject::Own), |o| {
        o.spec.suspend = true;
        let mut revocation = verdict::requested(RevocationCause::Suspended, at(1));
        revocation.confirmed_at = Some(api::instant::format(at(3)));
        let status = ClientGrantStatus { observed_generation: Some(1), ..ClientGrantStatus::default() };
        o.status = Some(ClientGrantStatus { revocation: Some(revocation), ..status });
    }));
    let name = parse::name(&ended.metadata);
    let reopened = |world: &World| world.entry(&name).unwrap().grant.reopened;
    let world = connected();
    world.upsert_grant(&ended, at(4));
    assert!(!reopened(&world));
    world.upsert_grant(&edited(&ended, |o| o.spec.suspend = false), at(4));
    assert!(reopened(&world));
    world.ended(&name, 2);
    assert!(!reopened(&world));
    let quarantine = || Some(Quarantine { issuer: ISSUER.into(), client: CLIENT.into() });
    let world = connected();
    world.upsert_grant(&ended, at(4));
    assert_eq!(world.set_quarantine("stop", quarantine()).len(), 1);
    assert!(reopened(&world), "a quarantine came or went");
    assert_eq!(world.set_quarantine("stop", quarantine()).len(), 0, "nothing changed");
}

#[test]
fn one_provider_speaks_for_an_issuer() {
    let named = |namespace: &str, name: &str| {
        with(provider(), |p| {
            p.key.namespace = namespace.into();
            p.key.name = name.into();
        })
    };
    let state = |world: &World, view: &ProviderView| world.provider(&view.key).unwrap().0.state.clone();
    let world = World::default();
    let (tenant, young, old) = (named("finance", "a"), named("", "young"), named("", "old"));
    world.set_provider(tenant.clone(), idp(), at(-9000), "1".into());
    assert_eq!(state(&world, &tenant), ProviderState::Usable);
    assert!(world.permit(&tenant.key).is_some());
    let permit = world.permit(&tenant.key).unwrap();
    world.set_provider(young.clone(), idp(), at(-10), "2".into());
    assert_eq!(state(&world, &tenant), ProviderState::IssuerTaken, "the cluster kind goes first, however young");
    assert!(!permit.holds() && world.permit(&tenant.key).is_none(), "leave to write ends with it");
    world.set_provider(old.clone(), None, at(-20), "3".into());
    assert_eq!(state(&world, &young), ProviderState::IssuerTaken, "then the oldest");
    assert_eq!(state(&world, &old), ProviderState::Unusable, "even while it cannot be used");
    world.remove_provider(&old.key);
    assert_eq!(state(&world, &young), ProviderState::Usable);
    let other = with(named("it", "b"), |p| p.issuer = "https://other.example.com/".into());
    world.set_provider(other.clone(), idp(), at(0), "4".into());
    assert_eq!(state(&world, &other), ProviderState::Usable);
    let permit = world.permit(&young.key).unwrap();
    world.set_provider(with(young.clone(), |p| p.generation = 2), idp(), at(-10), "2".into());
    assert!(!permit.holds(), "nor does it outlive an edit of the provider");
}

#[test]
fn a_client_of_its_own_collides_with_the_user_of_that_name() {
    let world = connected();
    world.upsert_grant(&object("g", "1", &user("robot")), at(0));
    assert!(world.view(&client_key()).collisions.is_empty());
    let own = with(object("own", "2", &Subject::Own), |o| o.spec.client_id = "robot".into());
    world.upsert_grant(&own, at(0));
    assert!(world.view(&client_key()).collisions.contains("robot"));
    world.remove_grant(&parse::name(&own.metadata));
    assert!(world.view(&client_key()).collisions.is_empty());
    // Of a namespace that may not speak for that client it counts for nothing.
    world.upsert_grant(&own, at(0));
    let narrow = Rule { clients: Some(vec![pattern(CLIENT)]), ..Rule::default() };
    let ruled = with(provider(), |p| p.rules = vec![narrow]);
    world.set_provider(ruled, idp(), at(-5000), "provider".into());
    assert!(world.view(&client_key()).collisions.is_empty());
}

#[test]
fn an_identity_counts_where_the_rules_let_its_namespace_speak() {
    let world = connected();
    world.upsert_grant(&object("g", "1", &user("ann")), at(0));
    let identity =
        || Some(Identity { namespace: "finance".into(), key: client_key(), adopt: true, suspends: false, born: None });
    let name = || GrantName { namespace: "finance".into(), name: "identity".into() };
    assert_eq!(world.set_identity(name(), identity()).len(), 1);
    assert!(world.view(&client_key()).adopt);
    assert!(world.set_identity(name(), identity()).is_empty(), "nothing changed");
    let closed = with(provider(), |p| p.rules = vec![Rule { clients: Some(vec![]), ..Rule::default() }]);
    world.set_provider(closed, idp(), at(-5000), "provider".into());
    assert!(!world.view(&client_key()).adopt);
    world.set_provider(provider(), idp(), at(-5000), "provider".into());
    assert_eq!(world.set_identity(name(), None).len(), 1);
    assert!(!world.view(&client_key()).adopt);
}

#[test]
fn a_changed_registration_suspends_where_the_rules_let_its_namespace_speak() {
    let world = connected();
    world.upsert_grant(&object("g", "1", &user("ann")), at(0));
    let name = || GrantName { namespace: "finance".into(), name: "identity".into() };
    let says = |adopt: bool, suspends: bool, born: Option<&str>| {
        let born = born.map(str::to_owned);
        Some(Identity { namespace: "finance".into(), key: client_key(), adopt, suspends, born })
    };
    let lanes = |dues: Vec<clientgrant::world::Due>| dues.into_iter().map(|due| due.lane).collect::<Vec<_>>();
    assert_eq!(lanes(world.set_identity(name(), says(true, false, Some("old")))), [Lane::Apply]);
    assert!(!world.view(&client_key()).suspended && world.view(&client_key()).born.contains("old"));
    assert_eq!(lanes(world.set_identity(name(), says(true, true, Some("old")))), [Lane::End]);
    assert!(world.view(&client_key()).suspended);
    let closed = with(provider(), |p| p.rules = vec![Rule { clients: Some(vec![]), ..Rule::default() }]);
    world.set_provider(closed, idp(), at(-5000), "provider".into());
    assert!(!world.view(&client_key()).suspended && world.view(&client_key()).born.is_empty());
    world.set_provider(provider(), idp(), at(-5000), "provider".into());
    // One that cannot be read permits nothing and lets nothing go.
    world.unreadable_identity(name());
    let view = world.view(&client_key());
    assert!(view.suspended && view.born.contains("old") && !view.adopt);
    assert_eq!(lanes(world.set_identity(name(), says(true, false, None))), [Lane::End]);
    assert!(!world.view(&client_key()).suspended && world.view(&client_key()).adopt);
    world.unreadable_identity(name());
    assert!(!world.view(&client_key()).adopt);
}

#[test]
fn a_quarantine_is_of_one_client_at_one_issuer() {
    let world = connected();
    world.upsert_grant(&object("g", "1", &user("ann")), at(0));
    let of = |issuer: &str, client: &str| Some(Quarantine { issuer: issuer.into(), client: client.into() });
    assert!(world.set_quarantine("a", of("https://other.example.com/", CLIENT)).is_empty());
    assert!(world.set_quarantine("b", of(ISSUER, "other")).is_empty());
    assert!(!world.view(&client_key()).quarantined);
    let due = world.set_quarantine("c", of(ISSUER, CLIENT)).remove(0);
    assert_eq!((due.lane, uids(&due), due.changed), (Lane::End, vec!["1"], true));
    assert!(world.view(&client_key()).quarantined);
    world.set_quarantine("d", of(ISSUER, CLIENT));
    world.set_quarantine("c", None);
    assert!(world.view(&client_key()).quarantined, "another one still stands");
    world.set_quarantine("d", None);
    assert!(!world.view(&client_key()).quarantined);
}

/// A stored object that can no longer be read keeps its place and gives nothing.
#[test]
fn what_cannot_be_read_gives_nothing_and_still_shadows() {
    let world = connected();
    let readable = held(object("ann", "1", &user("ann")));
    let stored = edited(&readable, |_| {}).metadata;
    let (due, news) = world.unreadable(&stored, "why");
    assert!(due.is_none() && news, "never seen: nothing is known of it, and somebody is told");
    world.upsert_grant(&readable, at(0));
    let (due, news) = world.unreadable(&stored, "why");
    let due = due.expect("looked at at once");
    assert_eq!((due.lane, uids(&due), news), (Lane::Narrow, vec!["1"], true));
    let view = world.view(&client_key());
    let grant = view.grant("1").unwrap();
    assert_eq!((grant.terms.clone(), grant.subject.clone()), (Err("why".into()), user("ann")));
    assert!(grant.held && world.entry(&grant.name).unwrap().unreadable);

    // Our own word about it is no news; its deletion is, and then it can be let go.
    let told = with(stored.clone(), |m| m.resource_version = Some("9".into()));
    assert_eq!(world.unreadable(&told, "why"), (None, false));
    let deleted = with(told, |m| {
        m.generation = Some(3);
        m.deletion_timestamp = readable.metadata.creation_timestamp.clone();
    });
    let (due, news) = world.unreadable(&deleted, "why");
    assert!(due.is_some() && news && world.view(&client_key()).grant("1").unwrap().deleting);
    // Corrected: a grant like any other.
    assert!(world.upsert_grant(&readable, at(0)).is_some());
    assert!(world.view(&client_key()).grant("1").unwrap().terms.is_ok());
    // Another object under its name is not the one that was known.
    let other = with(stored, |m| m.uid = Some("2".into()));
    assert_eq!(world.unreadable(&other, "why"), (None, true));
}

#[test]
fn looks_after_a_start_are_spread_and_ends_are_exact() {
    let world = connected();
    let soon = with(object("soon", "1", &user("ann")), |o| o.spec.expires_at = api::instant::format(at(500)));
    world.upsert_grant(&soon, at(0));
    world.upsert_grant(&object("own", "2", &Subject::Own), at(0));
    for n in 0..200 {
        let subject = user(&format!("user-{n}"));
        world.upsert_grant(&object(&format!("g-{n}"), &format!("uid-{n}"), &subject), at(0));
    }
    let looks = world.looks(at(0));
    let of = |uid: &str| looks.iter().find(|l| &*l.1 == uid).map(|l| (l.2, l.0.lane));
    assert_eq!(of("2"), Some((far(), Lane::End)), "nothing to sweep: only its end");
    assert!(of("1").unwrap().0 <= at(500));
    let early = looks.iter().filter(|l| l.2 < at(43_200)).count();
    assert!((60..140).contains(&early), "half of the sweeps in half of the interval: {early} of 200");
    assert!(looks.iter().all(|l| l.2 > at(0)));
    let kinds: Vec<SubjectKind> = soon.spec.subject.iter().map(|s| s.kind).collect();
    assert_eq!(kinds, [SubjectKind::User]);
}

/// Somebody else who may write status cannot say that an end is done.
#[test]
fn a_confirmation_counts_as_the_answer_to_our_own_write_only() {
    let world = connected();
    let first = object("ann", "1", &user("ann"));
    world.upsert_grant(&first, at(0));
    let said = with(first.clone(), |o| {
        bump(o);
        let revocation = verdict::requested(RevocationCause::Suspended, at(0));
        let confirmed_at = Some(revocation.requested_at.clone());
        o.status = Some(ClientGrantStatus {
            revocation: Some(Revocation { confirmed_at, ..revocation }),
            ..ClientGrantStatus::default()
        });
    });
    let confirmed = || world.entry(&parse::name(&first.metadata)).unwrap().grant.confirmed();
    world.upsert_grant(&said, at(0));
    assert!(!confirmed());
    world.fed_back(&said);
    assert!(confirmed());
    world.upsert_grant(&first, at(0));
    assert!(confirmed(), "the watch is late");
    world.upsert_grant(&with(said, bump), at(0));
    assert!(confirmed(), "it stays");
}

/// A duty goes with whoever speaks for its issuer, and waits where nobody does.
#[test]
fn a_duty_finds_whoever_speaks_for_its_issuer() {
    let world = World::default();
    let named = |name: &str| ProviderKey::cluster(name);
    let tell = |name: &str, created: i64| {
        let view = with(provider(), |p| p.key = named(name));
        world.set_provider(view, None, at(created), name.into());
    };
    let gone = view([grant("g", user("ann"))]);
    let mut duty = pending::of(&gone, gone.grant("g").unwrap(), at(0)).unwrap();
    duty.metadata.uid = Some("duty".into());
    duty.metadata.resource_version = Some("5".into());
    let due = world.set_pending(&duty).unwrap();
    assert!(world.provider(&due.key.provider).is_none(), "no provider object has its name: {due:?}");
    assert!(world.view(&due.key).provider.is_none() && world.view(&due.key).grant("duty").is_some());
    let at_ = |name: &str| {
        let key = ClientKey { provider: named(name), client: CLIENT.into() };
        world.view(&key).grant("duty").is_some()
    };
    tell("corp", -10);
    assert!(at_("corp") && world.pending(&named("corp")));
    assert_eq!(world.counts(&named("corp")), (0, 0), "it is no grant");
    tell("older", -20);
    assert!(at_("older") && !at_("corp"));
    world.remove_provider(&named("older"));
    assert!(at_("corp") && !at_("older"));
    world.remove_provider(&named("corp"));
    assert!(!at_("corp") && world.view(&due.key).grant("duty").is_some());
    // Its own status is no news, an older version says nothing, and another object of its name is another duty.
    assert!(world.set_pending(&duty).is_none());
    let stale = with(duty.clone(), |d| (d.metadata.resource_version, d.metadata.finalizers) = (Some("4".into()), None));
    assert!(world.set_pending(&stale).is_none());
    assert!(world.view(&due.key).grant("duty").unwrap().held);
    let other = with(duty.clone(), |d| d.metadata.uid = Some("other".into()));
    assert!(world.set_pending(&other).is_some());
    assert!(world.view(&due.key).grant("duty").is_none() && world.view(&due.key).grant("other").is_some());
    assert!(world.remove_pending("g").is_some() && world.remove_pending("g").is_none());
    assert!(world.view(&due.key).grants.is_empty());
}

/// A tenant claims the issuer of a cluster's provider that is gone: what it gave is not ended there. And what a
/// tenant's own provider gave is ended at the cluster's only where its rules let the tenant speak.
#[test]
fn a_duty_is_done_by_whoever_may() {
    let own = |namespace: &str| ProviderKey::new(namespace, "mine");
    let duty = |of: ProviderKey| {
        let gone = with(view([grant("g", user("ann"))]), |v| v.key.provider = of);
        let mut duty = pending::of(&gone, gone.grant("g").unwrap(), at(0)).unwrap();
        duty.metadata.uid = Some("duty".into());
        duty
    };
    let told = |provider: ProviderView, duty: &PendingRevocation| {
        let world = World::default();
        world.set_managed(ISSUER, CLIENT, Some(Managed { complete: true }));
        let key = ClientKey { provider: provider.key.clone(), client: CLIENT.into() };
        world.set_provider(provider, idp(), at(-10), "p".into());
        world.set_pending(duty);
        let view = world.view(&key);
        view.grant("duty").map(|grant| plan::leaves(&view, grant, at(1)))
    };
    let of = |key: ProviderKey| with(provider(), |p| p.key = key);
    let silent = |provider: ProviderView| with(provider, |p| p.rules.clear());
    let (theirs, corps) = (duty(own("finance")), duty(provider_key()));
    assert_eq!(told(of(own("finance")), &corps), None, "a tenant's provider stands for no cluster's");
    assert_eq!(told(of(own("it")), &theirs), None, "nor for another tenant's");
    assert_eq!(told(of(own("finance")), &theirs), Some(true));
    assert_eq!(told(of(provider_key()), &corps), Some(true));
    assert_eq!(told(silent(of(provider_key())), &corps), Some(true), "what it gave under older rules");
    assert_eq!(told(of(provider_key()), &theirs), Some(true));
    assert_eq!(told(silent(of(provider_key())), &theirs), Some(false), "it may not speak for the client there");
}

/// Of a grant that we let go ourselves nothing is left.
#[test]
fn only_what_somebody_else_let_go_leaves_something() {
    let world = World::default();
    world.set_provider(provider(), None, at(-10), "provider".into());
    world.set_managed(ISSUER, CLIENT, Some(Managed { complete: true }));
    let ann = held(object("ann", "1", &user("ann")));
    let name = parse::name(&ann.metadata);
    world.upsert_grant(&ann, at(0));
    assert!(world.left_by(&name, at(0)).is_some());
    world.letting_go(&"1".into(), true);
    assert!(world.left_by(&name, at(0)).is_none());
    world.letting_go(&"1".into(), false);
    assert!(world.left_by(&name, at(0)).is_some(), "it could not be written");
    world.letting_go(&"1".into(), true);
    world.remove_grant(&name);
    world.upsert_grant(&held(object("ann", "1", &user("ann"))), at(0));
    assert!(world.left_by(&name, at(0)).is_some(), "what is let go is forgotten with the object");
}

/// Who is behind a look has its turn for it: whose grant it was, or whose grants others' news concerns.
#[test]
fn a_look_says_whose_grants_made_it_due() {
    let world = connected();
    let of = |due: &Due| due.namespaces.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let first = held(object("ann", "1", &user("ann")));
    let in_it = with(held(object("ann", "2", &user("ann"))), |o| o.metadata.namespace = Some("it".into()));
    let home = first.metadata.namespace.clone().unwrap();
    assert_eq!(of(&world.upsert_grant(&first, at(0)).unwrap()), [home.as_str()]);
    let due = world.upsert_grant(&in_it, at(0)).unwrap();
    assert_eq!((of(&due), uids(&due)), (vec!["it".to_owned()], vec!["1", "2"]), "both are looked at, for one");
    let everything = world.everything(None, Lane::Drift);
    assert_eq!(of(&everything[0]), [home.as_str(), "it"]);
    assert!(world.looks(at(0)).iter().all(|(due, _, _)| due.namespaces.len() == 1));
    let gone = world.remove_grant(&parse::name(&in_it.metadata)).unwrap();
    assert_eq!((of(&gone), uids(&gone)), (vec!["it".to_owned()], vec!["1"]));
}

/// What only the replica that writes can know is told by it alone: elsewhere it would be old, or nothing.
#[test]
fn providers_are_told_by_what_a_look_found_and_the_rest_by_who_writes() {
    for leads in [true, false] {
        let timing = Timing::new(Duration::from_secs(10));
        let world = World::new(Arc::new(if leads { Leadership::alone() } else { Leadership::elected(timing) }));
        world.set_provider(provider(), idp(), at(-5000), "provider".into());
        let key = provider().key;
        assert_eq!(world.tally(at(0)).providers, [("Progressing", 1)].into(), "before the first look");
        world.set_found(&key, Reason::ProviderUnavailable);
        world.set_undeclared(&key, 3, 1);
        world.set_held(&key, true);
        // An edit of the object takes nothing of it back.
        world.set_provider(provider(), idp(), at(-5000), "provider".into());
        let tally = world.tally(at(0));
        assert_eq!((tally.leads, tally.providers), (leads, [("ProviderUnavailable", 1)].into()));
        let hooks = if leads { [(provider().hook.word(), 1)].into() } else { [].into() };
        let undeclared = if leads { [("consent", 3), ("client", 1)].into() } else { [].into() };
        assert_eq!((tally.hooks, tally.undeclared, tally.held), (hooks, undeclared, i64::from(leads)));
        world.remove_provider(&key);
        let tally = world.tally(at(0));
        assert!(tally.providers.is_empty() && tally.hooks.is_empty() && tally.undeclared.is_empty());
    }
}

#[test]
fn what_is_shared_is_known_in_its_term_and_waits_for_what_is_not() {
    let shared = |open: usize| {
        let exclusive = if open == 0 { Exclusive::Yes } else { Exclusive::No };
        Shared::Is(Arc::new(Verdict { exclusive, open, ..judge::off() }))
    };
    let key = |client: &str| ClientKey { provider: ProviderKey::cluster("corp"), client: client.into() };
    let world = World::default();
    let set = |term, all: &[(&str, Shared)]| {
        world.set_shared(term, all.iter().map(|(client, shared)| (key(client), shared.clone())).collect(), at(0))
    };
    let known = |client| world.shared(&key(client));
    assert_eq!(known("a"), Shared::NotYet, "nothing was evaluated");
    set(0, &[("a", shared(1)), ("b", Shared::NotYet)]);
    assert_eq!((known("a"), known("b"), known("c")), (shared(1), Shared::NotYet, Shared::Nothing));
    // How it is registered has to be read anew: what was said stays.
    set(0, &[("a", Shared::NotYet), ("b", shared(0))]);
    assert_eq!((known("a"), known("b")), (shared(1), shared(0)));
    set(0, &[("b", Shared::NotYet)]);
    assert_eq!((known("a"), known("b")), (Shared::Nothing, shared(0)));
    // What another term knew says nothing in this one.
    set(7, &[("a", shared(0))]);
    assert_eq!((known("a"), known("c")), (Shared::NotYet, Shared::NotYet));
    set(0, &[("a", Shared::NotYet)]);
    assert_eq!(known("a"), Shared::NotYet);
}
