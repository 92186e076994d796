//! What is said of a ClientQuarantine.

use clientgrant::api::condition::{ConditionStatus, ConditionType, Reason, find_condition, set_condition};
use clientgrant::api::{ClientGrantStatus, ClientQuarantine, Mode};
use clientgrant::grant::parse;
use clientgrant::grant::quarantine::{Named, is_out, status};
use clientgrant::world::{Quarantine, World};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::support::{CLIENT, ISSUER, at, object, provider, user, with};

fn brake() -> ClientQuarantine {
    serde_json::from_value(json!({
        "metadata": {"name": "stop", "generation": 1},
        "spec": {"issuer": "https://login.example.com/", "clientID": "app", "reason": "leaked"},
    }))
    .unwrap()
}

fn grant(ready: (ConditionStatus, Reason), active: ConditionStatus, generation: i64) -> ClientGrantStatus {
    let mut said = ClientGrantStatus::default();
    let list = &mut said.conditions;
    set_condition(list, ConditionType::Ready, ready.0, ready.1, "", Some(generation), Timestamp::UNIX_EPOCH);
    set_condition(list, ConditionType::Active, active, ready.1, "", Some(generation), Timestamp::UNIX_EPOCH);
    said
}

#[test]
fn a_brake_holds_only_when_every_grant_is_read_back_as_over() {
    use ConditionStatus::{False, True, Unknown};
    let client = |grants, out| Named::Client { grants, out };
    for (named, expected) in [
        (Named::Nobody, "Ready=False/ProviderNotFound Stalled=True/ProviderNotFound"),
        (Named::Observed, "Ready=False/Observed Stalled=True/Observed"),
        (client(0, 0), "Ready=True/NothingToDo"),
        (client(3, 0), "Ready=Unknown/Progressing Reconciling=True/Progressing"),
        (client(3, 2), "Ready=Unknown/Progressing Reconciling=True/Progressing"),
        (client(3, 3), "Ready=True/InForce"),
    ] {
        let said = status(&brake(), named, at(1));
        let words: Vec<_> = said.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
        assert_eq!(words.join(" "), expected, "{named:?}");
        assert_eq!(said.observed_generation, Some(1));
        let first = ClientQuarantine { status: Some(said.clone()), ..brake() };
        assert_eq!(status(&first, named, at(9)), said, "nothing new, nothing to write");
        let held = status(&first, client(1, 1), at(9));
        assert_eq!(held.conditions.len(), 1, "what was wrong before is not said any more");
        assert_eq!(find_condition(&held.conditions, ConditionType::Ready).unwrap().reason, "InForce");
    }
    for (ready, active, out) in [
        ((True, Reason::Quarantined), False, true),
        ((True, Reason::Expired), False, true),
        ((False, Reason::NotAllowed), False, true),
        ((True, Reason::Quarantined), True, false),
        ((True, Reason::Granted), True, false),
        // Said before the quarantine was seen: the client's ceiling still has these.
        ((True, Reason::AwaitingConsent), False, false),
        ((True, Reason::Suspended), False, false),
        ((True, Reason::NotYetValid), False, false),
        ((Unknown, Reason::ProviderUnavailable), False, false),
        ((False, Reason::RevocationOverdue), True, false),
    ] {
        assert_eq!(is_out(&grant(ready, active, 2), 2), out, "{ready:?} {active:?}");
        assert!(!is_out(&grant(ready, active, 1), 2), "of an older generation: {ready:?}");
    }
    assert!(!is_out(&ClientGrantStatus::default(), 0), "nothing was said");
}

#[test]
fn what_was_said_before_the_brake_was_pulled_proves_nothing() {
    let pull = |world: &World, on: bool| {
        let brake = Quarantine { issuer: ISSUER.into(), client: CLIENT.into() };
        world.set_quarantine("stop", on.then_some(brake))
    };
    let world = World::default();
    assert_eq!(world.named(ISSUER, CLIENT), Named::Nobody);
    world.set_provider(provider(), None, at(-5000), "provider".into());
    assert_eq!(world.named(ISSUER, CLIENT), Named::Client { grants: 0, out: 0 });
    assert_eq!(world.named("https://elsewhere.example.com/", CLIENT), Named::Nobody);
    let over = with(object("g", "g", &user("ann")), |o| {
        let generation = o.metadata.generation.unwrap_or_default();
        let said = grant((ConditionStatus::True, Reason::Quarantined), ConditionStatus::False, generation);
        o.status = Some(said);
    });
    world.upsert_grant(&over, at(0));
    let uid = world.entry(&parse::name(&over.metadata)).unwrap().grant.uid.clone();
    assert_eq!(world.named(ISSUER, CLIENT), Named::Client { grants: 1, out: 1 });
    assert_eq!(world.named(ISSUER, "other"), Named::Client { grants: 0, out: 0 });
    for on in [true, false, true] {
        pull(&world, on);
        // The client may have been let go in between.
        assert_eq!(world.named(ISSUER, CLIENT), Named::Client { grants: 1, out: 0 });
    }
    world.said(&uid);
    assert_eq!(world.named(ISSUER, CLIENT), Named::Client { grants: 1, out: 1 });
    world.set_provider(with(provider(), |p| p.mode = Mode::Observe), None, at(-5000), "provider".into());
    assert_eq!(world.named(ISSUER, CLIENT), Named::Observed);
}
