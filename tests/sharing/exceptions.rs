//! Exceptions: they speak for their own client, for the stated pair, until a date.

use clientgrant::sharing::{Evaluation, State};

use super::support::{deployment, identity, only, scan, told};

fn client(name: &str, exception: &str) -> String {
    let sharing =
        if exception.is_empty() { String::new() } else { format!(", sharing: {{exceptions: [{exception}]}}") };
    identity(name, &format!("workloads: [{{apiVersion: apps/v1, kind: Deployment, name: {name}}}]{sharing}"))
}

fn on_one_account(name: &str) -> String {
    deployment(name, "serviceAccountName: one, containers: []")
}

fn exception(rule: &str, with: &str, until: &str) -> String {
    format!("{{rule: {rule}, with: [{with}], reason: one pod until SEC-412 is done, expiresAt: \"{until}\"}}")
}

const ACCOUNT: &str = "{kind: ServiceAccount, name: one}";
const SOON: &str = "2027-02-20T00:00:00Z";

fn with(exceptions: &[(&str, String)]) -> Evaluation {
    let mut all = Vec::new();
    for (name, exception) in exceptions {
        all.push(client(name, exception));
        all.push(on_one_account(name));
    }
    scan(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

fn state(evaluation: &Evaluation) -> State {
    only(evaluation, "SC-202").state
}

#[test]
fn a_pair_is_accepted_and_still_shown() {
    let accepted = with(&[("a", exception("SC-202", ACCOUNT, SOON)), ("b", String::new())]);
    assert_eq!(state(&accepted), State::Suppressed);
    assert_eq!((accepted.summary.open, accepted.summary.suppressed, accepted.summary.worst), (0, 1, None));
    let by_client = with(&[("a", exception("SC-202", "{kind: ClientIdentity, name: b}", SOON)), ("b", String::new())]);
    assert_eq!(state(&by_client), State::Suppressed);
}

#[test]
fn a_third_client_opens_it_again() {
    let third = with(&[("a", exception("SC-202", ACCOUNT, SOON)), ("b", String::new()), ("c", String::new())]);
    assert_eq!(state(&third), State::Open);
}

/// Both of two said so of their account; who comes later has said nothing.
#[test]
fn a_third_client_opens_what_two_accepted() {
    let by_account = || exception("SC-202", ACCOUNT, SOON);
    let all = |c: String| with(&[("a", by_account()), ("b", by_account()), ("c", c)]);
    assert_eq!(state(&with(&[("a", by_account()), ("b", by_account())])), State::Suppressed);
    assert_eq!(state(&all(String::new())), State::Open);
    assert_eq!(state(&all(by_account())), State::Suppressed);
    // Who names all others knows of them, so that one may be silent; a fourth opens it again.
    let naming = |others: [&str; 2]| {
        let others = others.map(|name| format!("{{kind: ClientIdentity, name: {name}}}")).join(", ");
        exception("SC-202", &others, SOON)
    };
    let mut known = vec![("a", naming(["b", "c"])), ("b", naming(["a", "c"])), ("c", String::new())];
    assert_eq!(state(&with(&known)), State::Suppressed);
    known.push(("d", String::new()));
    assert_eq!(state(&with(&known)), State::Open);
    let half = with(&[("a", naming(["b", "c"])), ("b", by_account()), ("c", String::new())]);
    assert_eq!(state(&half), State::Open);
}

/// One product is one, however many clients it has.
#[test]
fn a_family_does_not_make_a_third() {
    let of_family = |name: &str| client(name, "").replace("clientID", "family: f, clientID");
    let texts = [
        client("a", &exception("SC-202", ACCOUNT, SOON)),
        of_family("b"),
        of_family("c"),
        on_one_account("a"),
        on_one_account("b"),
        on_one_account("c"),
    ];
    assert_eq!(state(&scan(&texts.iter().map(String::as_str).collect::<Vec<_>>())), State::Suppressed);
}

#[test]
fn other_rules_and_other_objects_do_not_count() {
    for wrong in [
        exception("SC-201", ACCOUNT, SOON),
        exception("SC-202", "{kind: ServiceAccount, name: two}", SOON),
        exception("SC-202", "{kind: Deployment, name: one}", SOON),
    ] {
        assert_eq!(state(&with(&[("a", wrong), ("b", String::new())])), State::Open);
    }
}

#[test]
fn what_has_ended_is_open_again_and_said() {
    for (until, says) in [
        ("2026-11-25T00:00:00Z", "has passed"),
        ("2027-05-25T00:00:01Z", "180 days"),
        ("2027-02-30T00:00:00Z", "no instant"),
    ] {
        let evaluation = with(&[("a", exception("SC-202", ACCOUNT, until)), ("b", String::new())]);
        assert_eq!(state(&evaluation), State::Open, "{until}");
        assert!(only(&evaluation, "SC-902").evidence[0].path.contains(says), "{until}");
    }
    let last = with(&[("a", exception("SC-202", ACCOUNT, "2026-11-25T00:00:01Z")), ("b", String::new())]);
    assert_eq!(told(&last), ["SC-202 ServiceAccount/shop/one"]);
    let short = exception("SC-202", ACCOUNT, SOON).replace("one pod until SEC-412 is done", "because");
    let evaluation = with(&[("a", short), ("b", String::new())]);
    assert_eq!((state(&evaluation), only(&evaluation, "SC-902").subject.name.as_str()), (State::Open, "a"));
    let no_rule = with(&[("a", exception("SC-999", ACCOUNT, SOON)), ("b", String::new())]);
    assert_eq!(only(&no_rule, "SC-902").subject.name, "a");
}

#[test]
fn an_owner_speaks_for_its_own_client_only() {
    let slot = "credentials: [{secret: {name: s, key: k}}]";
    let entry = exception("SC-101", "{kind: ClientIdentity, name: b}", SOON);
    let a = identity("a", &format!("{slot}, sharing: {{exceptions: [{entry}]}}"));
    let b = identity("b", slot);
    let evaluation = scan(&[&a, &b]);
    let of =
        |name: &str| evaluation.findings.iter().find(|f| f.rule == "SC-101" && f.subject.name == name).map(|f| f.state);
    assert_eq!((of("a"), of("b")), (Some(State::Suppressed), Some(State::Open)));
}
