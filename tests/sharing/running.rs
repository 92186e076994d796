//! What a running operator makes of events: when it may conclude, what it says of a client, and what it never names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clientgrant::api::condition::{ConditionType, find_condition};
use clientgrant::api::{ClientIdentityStatus, SharedFinding};
use clientgrant::grant::{ClientKey, ProviderKey};
use clientgrant::sharing::finding::{BlastRadius, Evaluation, Evidence, Finding, Grade, Object, Severity, State};
use clientgrant::sharing::grace::Grace;
use clientgrant::sharing::judge::{self, Exclusive, Shared};
use clientgrant::sharing::picture::{Part, Picture, Read};
use clientgrant::sharing::told::{self, Admission, Looked, Told, Turn};
use k8s_openapi::jiff::Timestamp;

fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn key(client: &str) -> ClientKey {
    ClientKey { provider: ProviderKey::cluster("corp"), client: Arc::from(client) }
}

fn finding(rule: &'static str, state: State, subject: Object, clients: &[&str]) -> Finding {
    Finding {
        rule,
        severity: Severity::High,
        state,
        grade: Grade::Direct,
        subject,
        clients: clients.iter().map(|c| (*c).to_owned()).collect(),
        keys: clients.iter().map(|c| key(c)).collect(),
        evidence: Vec::new(),
        more_clients: 0,
        blast_radius: BlastRadius { grants: 2, subjects: 1, scopes: 3 },
        gain: vec!["tickets:write".into()],
        remedy: "",
        references: &[],
        justification: None,
    }
}

fn here(name: &str) -> Object {
    Object::new("Deployment", "it", name)
}

#[test]
fn a_list_that_was_not_read_holds_back_every_conclusion() {
    let mut picture = Picture::default();
    assert!(!picture.settled(), "nothing was asked yet");
    let part = |resource: &str| Part { resource: resource.into(), namespace: String::new() };
    for (resource, read, settled, gaps) in [
        ("pods", Read::Complete, true, 0),
        ("jobs.batch", Read::Waiting, false, 1),
        ("jobs.batch", Read::Refused("no"), true, 1),
        ("rollouts.argoproj.io", Read::NotServed, true, 1),
        ("jobs.batch", Read::Complete, true, 0),
    ] {
        assert!(picture.part(&part(resource), read.clone()));
        assert!(!picture.part(&part(resource), read), "the same again is no news");
        assert_eq!((picture.settled(), picture.gaps().len()), (settled, gaps), "{resource}");
    }
    assert!(picture.unreadable("pods", "it", "odd"));
    assert_eq!(picture.gaps().len(), 1, "never clean");
    assert!(picture.workload("pods", &Object::new("Pod", "it", "odd"), None));
    assert_eq!(picture.gaps().len(), 0);
    assert!(picture.account("it", "default", Some(None)) && !picture.account("it", "default", Some(None)));
    assert!(picture.account("it", "default", Some(Some(false))) && picture.account("it", "default", None));
}

#[test]
fn what_is_said_of_a_client() {
    let clients = BTreeSet::from([key("a"), key("b")]);
    let gap = || vec![clientgrant::sharing::index::Unread { place: place("jobs.batch"), why: "no".into() }];
    let verdict = |findings: Vec<Finding>, gaps: Vec<_>| {
        let evaluation = Evaluation { findings, ..Evaluation::default() };
        judge::all(&evaluation, &clients, &gaps, |_| true).remove(&key("a")).unwrap()
    };
    // Whose registration is not known may have the key of another one.
    let unregistered = |findings: Vec<Finding>| {
        let evaluation = Evaluation { findings, ..Evaluation::default() };
        judge::all(&evaluation, &clients, &[], |of| *of != key("a"))
    };
    let all = unregistered(vec![]);
    assert!(
        matches!(all[&key("a")].exclusive, Exclusive::NotEvaluated(_)) && all[&key("b")].exclusive == Exclusive::Yes
    );
    let found = unregistered(vec![finding("SC-201", State::Open, here("x"), &["a", "b"])]);
    assert_eq!(found[&key("a")].exclusive, Exclusive::No, "what is found is so");
    let of = |rule, state, clients: &[&str]| finding(rule, state, here("x"), clients);
    assert_eq!(verdict(vec![], vec![]).exclusive, Exclusive::Yes);
    assert_eq!(verdict(vec![], vec![]).counts(), None);
    assert_eq!(verdict(vec![of("SC-201", State::Open, &["b"])], vec![]).exclusive, Exclusive::Yes, "another's");
    let shared = verdict(vec![of("SC-201", State::Open, &["a", "b"])], gap());
    assert_eq!(shared.exclusive, Exclusive::No, "what is found counts before everything was read");
    assert_eq!(shared.counts().unwrap().rules, ["SC-201"]);
    let accepted = verdict(vec![of("SC-201", State::Suppressed, &["a", "b"])], vec![]);
    assert_eq!((accepted.exclusive, accepted.open, accepted.suppressed), (Exclusive::No, 0, 1));
    let untidy = verdict(vec![of("SC-304", State::Open, &["a"])], vec![]);
    assert_eq!((untidy.exclusive, untidy.open), (Exclusive::Yes, 1));
    let not_read = verdict(vec![], gap()).exclusive;
    assert!(matches!(&not_read, Exclusive::NotEvaluated(why) if why.contains("jobs.batch")), "{not_read:?}");
    let opaque = verdict(vec![of("SC-901", State::NotEvaluable, &["a"])], vec![]).exclusive;
    assert!(matches!(opaque, Exclusive::NotEvaluated(_)));
    for verdict in [judge::off(), verdict(vec![], gap()), shared] {
        assert!(verdict.message().chars().count() <= 200);
    }
}

fn place(file: &str) -> clientgrant::sharing::finding::Place {
    clientgrant::sharing::finding::Place { file: file.into(), line: 0 }
}

/// What is told of a client in `it`, for the first time, when everything was looked at.
fn told<'a>(
    client: &'a ClientKey,
    shared: &'a Shared,
    findings: &'a [&'a Finding],
    neighbours: &'a BTreeSet<ClientKey>,
) -> Told<'a> {
    Told {
        old: None,
        generation: Some(1),
        namespace: "it",
        client,
        admission: Admission::Admitted,
        shared,
        looked: Looked::Everything,
        findings,
        neighbours,
    }
}

#[test]
fn nothing_of_another_namespace_is_named() {
    let far = Object::new("Deployment", "far-away", "their-workload");
    let all = [
        finding("SC-201", State::Open, here("workflow"), &["a", "b", "their-client"]),
        finding("SC-201", State::Open, far, &["a", "their-client"]),
    ];
    let (client, shared) = (key("a"), Shared::NotYet);
    let evaluation = Evaluation { findings: all.to_vec(), ..Evaluation::default() };
    let verdict = judge::all(&evaluation, &BTreeSet::from([key("a")]), &[], |_| true).remove(&client).unwrap();
    let is = Shared::Is(Arc::new(verdict));
    let findings: Vec<&Finding> = all.iter().collect();
    let neighbours = BTreeSet::from([key("a"), key("b")]);
    let told = Told { generation: Some(3), ..told(&client, &is, &findings, &neighbours) };
    let (status, look) = told::status(&told, now());
    assert_eq!(look, None);
    assert_eq!(status.observed_generation, Some(3));
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("far-away") && !text.contains("their-"), "{text}");
    let entry = |subject: Option<&str>, with: &[&str]| SharedFinding {
        rule: "SC-201".into(),
        severity: "high".into(),
        state: "open".into(),
        subject: subject.map(str::to_owned),
        with: with.iter().map(|c| (*c).to_owned()).collect(),
        others: Some(1),
    };
    assert_eq!(status.findings, [entry(Some("Deployment/workflow"), &["b"]), entry(None, &[])]);

    // The same again says the same; before everything was read, what was said stays.
    let later = Timestamp::from_second(now().as_second() + 60).unwrap();
    assert_eq!(told::status(&Told { old: Some(&status), ..told }, later).0, status);
    let keeps = Told { old: Some(&status), shared: &shared, findings: &[], ..told };
    assert_eq!(told::status(&keeps, later).0, status);

    // One that the rules do not let speak says nothing, and is first taken for one that is still arriving.
    let refused = Told { old: Some(&status), admission: Admission::NotAllowed, ..told };
    let (first, look) = told::status(&refused, now());
    assert_eq!(look.map(|at| at.as_second() - now().as_second()), Some(120));
    assert!(first.findings.is_empty() && first.blast_radius.is_none());
    let has = |status: &ClientIdentityStatus, of| find_condition(&status.conditions, of).is_some();
    assert!(has(&first, ConditionType::Reconciling) && !has(&first, ConditionType::CredentialExclusive));
    let (then, look) = told::status(&Told { old: Some(&first), ..refused }, look.unwrap());
    assert!(has(&then, ConditionType::Stalled) && !has(&then, ConditionType::Reconciling) && look.is_none());
    let (healed, _) = told::status(&Told { old: Some(&then), ..told }, later);
    assert!(!has(&healed, ConditionType::Stalled) && has(&healed, ConditionType::CredentialExclusive));
}

#[test]
fn what_is_new_is_told_once() {
    let status = |all: &[(&str, &str)]| ClientIdentityStatus {
        findings: all
            .iter()
            .map(|(rule, state)| SharedFinding {
                rule: (*rule).into(),
                state: (*state).into(),
                subject: Some("Deployment/x".into()),
                ..SharedFinding::default()
            })
            .collect(),
        ..ClientIdentityStatus::default()
    };
    let turns = |old: &[(&str, &str)], new: &[(&str, &str)]| -> Vec<(Turn, String)> {
        let all = told::turns(Some(&status(old)), &status(new), Some(&BTreeSet::new()));
        all.into_iter().map(|(turn, what)| (turn, what.into_iter().collect::<Vec<_>>().join(", "))).collect()
    };
    let one = |turn, rule: &str| vec![(turn, format!("{rule} on Deployment/x"))];
    assert_eq!(turns(&[], &[("SC-201", "open")]), one(Turn::Detected, "SC-201"));
    assert_eq!(turns(&[("SC-201", "open")], &[("SC-201", "open")]), []);
    assert_eq!(turns(&[("SC-201", "open")], &[("SC-201", "suppressed")]), one(Turn::Suppressed, "SC-201"));
    assert_eq!(turns(&[("SC-201", "suppressed")], &[("SC-201", "open")]), one(Turn::Detected, "SC-201"));
    assert_eq!(turns(&[("SC-201", "suppressed")], &[]), one(Turn::Resolved, "SC-201"));
    assert_eq!(turns(&[], &[("SC-901", "notEvaluable")]), []);
    // A status shows the worst: what others have taken the place of is not gone.
    let found = BTreeSet::from(["SC-304 on Deployment/x".to_owned()]);
    let pushed = told::turns(Some(&status(&[("SC-304", "open")])), &status(&[]), Some(&found));
    assert!(pushed.is_empty(), "{pushed:?}");
    // Where nobody looked nothing is gone.
    let unseen = told::turns(Some(&status(&[("SC-304", "open")])), &status(&[]), None);
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn a_status_shows_the_worst_and_knows_the_rest() {
    let many: Vec<Finding> =
        (0..30).map(|n| finding("SC-304", State::Open, here(&format!("w{n:02}")), &["a"])).collect();
    let (findings, client) = (many.iter().collect::<Vec<_>>(), key("a"));
    let (off, nobody) = (Shared::Is(Arc::new(judge::off())), BTreeSet::new());
    let told = told(&client, &off, &findings, &nobody);
    let (status, _) = told::status(&told, now());
    assert_eq!((status.findings.len(), told.left().unwrap().len()), (20, 30));
    assert!(told.left().unwrap().contains("SC-304 on Deployment/w29"));
}

#[test]
fn what_was_said_goes_when_nothing_speaks_any_more_and_stays_behind_a_gap() {
    let (client, nobody) = (key("a"), BTreeSet::new());
    let all = [
        finding("SC-302", State::Open, here("late"), &["a"]),
        finding("SC-201", State::Open, here("shared"), &["a", "b"]),
    ];
    let findings: Vec<&Finding> = all.iter().collect();
    let evaluation = Evaluation { findings: all.to_vec(), ..Evaluation::default() };
    let verdict = judge::all(&evaluation, &BTreeSet::from([key("a")]), &[], |_| true).remove(&client).unwrap();
    let is = Shared::Is(Arc::new(verdict));
    let told = told(&client, &is, &findings, &nobody);
    let rules = |status: &ClientIdentityStatus| status.findings.iter().map(|f| f.rule.clone()).collect::<Vec<_>>();
    let turns = |old: &ClientIdentityStatus, told: &Told<'_>| {
        let new = told::status(told, now()).0;
        (rules(&new), told::turns(Some(old), &new, told.left().as_ref()).into_keys().collect::<Vec<_>>())
    };
    let (status, _) = told::status(&told, now());
    assert_eq!(rules(&status), ["SC-302", "SC-201"]);
    let then = Told { old: Some(&status), ..told };
    // A kind cannot be listed: what is concluded from what is absent was not looked at, the rest was.
    let gap = Told { looked: Looked::Part, findings: &[], ..then };
    assert_eq!(turns(&status, &gap), (vec!["SC-302".to_owned()], vec![Turn::Resolved]));
    let gone = Told { findings: &[], ..then };
    assert_eq!(turns(&status, &gone), (vec![], vec![Turn::Resolved]));
    // Nobody looked, or nothing is declared any more: nothing is there, and nothing was mended.
    let off = Shared::Is(Arc::new(judge::off()));
    assert_eq!(turns(&status, &Told { shared: &off, looked: Looked::Nothing, ..gone }), (vec![], vec![]));
    let refused = Told { admission: Admission::NotAllowed, ..gone };
    assert_eq!(turns(&status, &refused), (vec![], vec![]));
    let blank = Told { shared: &Shared::Nothing, ..gone };
    assert_eq!(turns(&status, &blank), (vec![], vec![]));
    assert_eq!(told::status(&blank, now()).0.blast_radius, None);
    // Before everything was read what was said stays.
    let waits = Told { shared: &Shared::NotYet, ..gone };
    assert_eq!(turns(&status, &waits), (vec!["SC-302".to_owned(), "SC-201".to_owned()], vec![]));
}

#[test]
fn two_findings_of_one_subject_come_due_each() {
    let two = || {
        let path = |path: &str| Evidence { path: path.into(), place: place(""), object: here("w") };
        let of = |at: &str| Finding { evidence: vec![path(at)], ..finding("SC-304", State::Open, here("w"), &["a"]) };
        vec![of("spec.credentials[0].secret"), of("spec.credentials[1].secret")]
    };
    let (mut grace, minute) = (Grace::default(), Duration::from_secs(60));
    for (seconds, told) in [(0, 0), (30, 0), (59, 0), (60, 2), (61, 2)] {
        let mut findings = two();
        grace.hold_back(&mut findings, |_| false, minute, now() + Duration::from_secs(seconds));
        assert_eq!(findings.len(), told, "after {seconds} s");
    }
}

#[test]
fn what_is_absent_counts_after_a_while() {
    let missing = || {
        vec![finding("SC-302", State::Open, here("w"), &["a"]), finding("SC-201", State::Open, here("w"), &["a", "b"])]
    };
    let rules = |findings: &[Finding]| findings.iter().map(|f| f.rule).collect::<Vec<_>>();
    let (new, minute) = (|_: &Finding| false, Duration::from_secs(60));
    let mut grace = Grace::default();
    let at = |grace: &mut Grace, seconds: u64, mut findings: Vec<Finding>, told: bool| {
        let next = grace.hold_back(&mut findings, |f| told || new(f), minute, now() + Duration::from_secs(seconds));
        (rules(&findings), next)
    };
    let due = Some(now() + minute);
    assert_eq!(at(&mut grace, 0, missing(), false), (vec!["SC-201"], due), "it may be late");
    assert_eq!(at(&mut grace, 59, missing(), false), (vec!["SC-201"], due));
    assert_eq!(at(&mut grace, 60, missing(), false), (vec!["SC-302", "SC-201"], None));
    // It came, and went again.
    assert_eq!(at(&mut grace, 61, vec![], false), (vec![], None));
    assert_eq!(at(&mut grace, 62, missing(), false), (vec!["SC-201"], Some(now() + Duration::from_secs(122))));
    // A restart takes nothing back that was told.
    let mut grace = Grace::default();
    assert_eq!(at(&mut grace, 0, missing(), true), (vec!["SC-302", "SC-201"], None));
    assert_eq!(at(&mut grace, 1, missing(), false), (vec!["SC-302", "SC-201"], None));
}
