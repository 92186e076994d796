//! Tenancy: what a provider's rules let a namespace grant.

use std::collections::BTreeMap;
use std::time::Duration;

use clientgrant::api::{self, AllowRule, LabelOperator, LabelRequirement, NamespaceSelector, SubjectKind};
use clientgrant::grant::rules::{Miss, Rule, allow};
use clientgrant::grant::{Basis, GrantType, Subject, Terms, parse};
use proptest::prelude::*;

use crate::support::*;

type Labels = BTreeMap<String, String>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn reading() -> Terms {
    terms("openid transactions:read", "https://ledger.example.com")
}

fn ask(rules: &[Rule], subject: &Subject, terms: &Terms) -> Result<(), Miss> {
    allow(rules, &labels(&[("tier", "prod")]), CLIENT, subject, terms, at(0))
}

fn ann(rule: Rule, terms: &Terms) -> Result<(), Miss> {
    ask(&[rule], &user("ann"), terms)
}

fn selector(rule: NamespaceSelector) -> Rule {
    let rule = AllowRule { namespaces: Some(rule), ..AllowRule::default() };
    parse::rule(&rule).expect("a readable rule")
}

#[test]
fn a_rule_that_names_nothing_allows_everything() {
    for subject in [user("ann"), Subject::Any, Subject::Own] {
        assert_eq!(ask(&[Rule::default()], &subject, &reading()), Ok(()));
    }
}

#[test]
fn no_rule_allows_nothing() {
    assert_eq!(ask(&[], &user("ann"), &reading()), Err(Miss::NoRule));
}

#[test]
fn every_dimension_limits() {
    let lifetime = far().duration_since(at(0)).unsigned_abs();
    let second = Duration::from_secs(1);
    for (rule, expected) in [
        (Rule { clients: patterns("app"), ..Rule::default() }, Ok(())),
        (Rule { clients: patterns("other app*"), ..Rule::default() }, Ok(())),
        (Rule { clients: patterns("other"), ..Rule::default() }, Err(Miss::Client)),
        (Rule { scopes: patterns("openid transactions:*"), ..Rule::default() }, Ok(())),
        (
            Rule { scopes: patterns("openid transactions:write"), ..Rule::default() },
            Err(Miss::Scope("transactions:read".into())),
        ),
        (Rule { scopes: patterns("transactions:*"), ..Rule::default() }, Err(Miss::Scope("openid".into()))),
        (Rule { audiences: patterns("https://ledger.example.com"), ..Rule::default() }, Ok(())),
        (
            Rule { audiences: patterns("https://other.example.com"), ..Rule::default() },
            Err(Miss::Audience("https://ledger.example.com".into())),
        ),
        (Rule { bases: Some(vec![Basis::SubjectConsent]), ..Rule::default() }, Ok(())),
        (Rule { bases: Some(vec![Basis::AdminConsent, Basis::ClientOwn]), ..Rule::default() }, Err(Miss::Basis)),
        (Rule { subject_kinds: Some(vec![SubjectKind::User]), ..Rule::default() }, Ok(())),
        (Rule { subject_kinds: Some(vec![SubjectKind::Any]), ..Rule::default() }, Err(Miss::SubjectKind)),
        (Rule { max_lifetime: Some(lifetime), ..Rule::default() }, Ok(())),
        (Rule { max_lifetime: Some(lifetime - second), ..Rule::default() }, Err(Miss::Lifetime)),
        // A list that is there and empty names nobody.
        (Rule { clients: Some(vec![]), ..Rule::default() }, Err(Miss::Client)),
    ] {
        assert_eq!(ann(rule.clone(), &reading()), expected, "{rule:?}");
    }
}

#[test]
fn a_rule_about_kinds_of_subject_does_not_reach_a_client_of_its_own() {
    let both = Rule { subject_kinds: Some(vec![SubjectKind::User, SubjectKind::Any]), ..Rule::default() };
    for (subject, expected) in [(user("ann"), Ok(())), (Subject::Any, Ok(())), (Subject::Own, Err(Miss::SubjectKind))] {
        assert_eq!(ask(std::slice::from_ref(&both), &subject, &reading()), expected);
    }
}

#[test]
fn an_end_in_the_past_is_not_too_far_away() {
    let short = Rule { max_lifetime: Some(Duration::from_secs(60)), ..Rule::default() };
    for (seconds, expected) in [(-86_400, Ok(())), (0, Ok(())), (60, Ok(())), (61, Err(Miss::Lifetime))] {
        let terms = with(reading(), |t| t.expires_at = at(seconds));
        assert_eq!(ann(short.clone(), &terms), expected, "{seconds}");
    }
}

#[test]
fn one_rule_has_to_cover_all_of_it() {
    let some = Rule { scopes: patterns("openid"), ..Rule::default() };
    let rest = Rule { scopes: patterns("transactions:*"), ..Rule::default() };
    let missed = ask(&[some, rest], &user("ann"), &reading());
    assert_eq!(missed, Err(Miss::Scope("transactions:read".into())));
}

#[test]
fn the_nearest_miss_is_told() {
    let elsewhere = selector(NamespaceSelector { match_labels: labels(&[("tier", "test")]), ..Default::default() });
    let other = Rule { clients: patterns("other"), ..Rule::default() };
    let admin = Rule { bases: Some(vec![Basis::AdminConsent]), ..Rule::default() };
    let any = Rule { subject_kinds: Some(vec![SubjectKind::Any]), ..Rule::default() };
    let less = Rule { scopes: patterns("openid"), ..Rule::default() };
    let nowhere = Rule { audiences: patterns("x"), ..Rule::default() };
    let short = Rule { max_lifetime: Some(Duration::from_secs(1)), ..Rule::default() };
    let far_to_near = [elsewhere, other, admin, any, less, nowhere, short];
    let told = [
        Miss::Namespace,
        Miss::Client,
        Miss::Basis,
        Miss::SubjectKind,
        Miss::Scope("transactions:read".into()),
        Miss::Audience("https://ledger.example.com".into()),
        Miss::Lifetime,
    ];
    for n in 1..=far_to_near.len() {
        let mut rules = far_to_near[..n].to_vec();
        assert_eq!(ask(&rules, &user("ann"), &reading()), Err(told[n - 1].clone()));
        rules.reverse();
        assert_eq!(ask(&rules, &user("ann"), &reading()), Err(told[n - 1].clone()));
    }
    assert!(told.is_sorted());
}

#[test]
fn patterns_are_exact_or_a_prefix() {
    for (text, name, covers) in [
        ("finance-*", "finance-", true),
        ("finance-*", "finance-reporting", true),
        ("finance-*", "finance", false),
        ("finance-*", "my-finance-x", false),
        ("*", "", true),
        ("*", "anything", true),
        ("finance", "finance", true),
        ("finance", "finance-reporting", false),
        ("finance", "Finance", false),
        ("", "", true),
        ("", "x", false),
        // Only the last star is a pattern.
        ("a*b*", "a*bc", true),
        ("a*b*", "axbc", false),
        ("a*b", "axb", false),
    ] {
        assert_eq!(pattern(text).covers(name), covers, "{text:?} {name:?}");
    }
}

#[test]
fn labels_select_namespaces() {
    let requirement = |operator, values: &[&str]| NamespaceSelector {
        match_expressions: vec![LabelRequirement {
            key: "tier".into(),
            operator,
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        }],
        ..Default::default()
    };
    let equal = NamespaceSelector { match_labels: labels(&[("tier", "prod")]), ..Default::default() };
    let both = NamespaceSelector { match_labels: labels(&[("team", "a")]), ..requirement(LabelOperator::Exists, &[]) };
    let [none, prod, test] = [labels(&[]), labels(&[("tier", "prod")]), labels(&[("tier", "test")])];
    let prod_a = labels(&[("tier", "prod"), ("team", "a")]);
    for (selecting, namespace, selected) in [
        (NamespaceSelector::default(), &none, true),
        (equal.clone(), &prod, true),
        (equal.clone(), &test, false),
        (equal, &none, false),
        (requirement(LabelOperator::In, &["prod", "stage"]), &prod, true),
        (requirement(LabelOperator::In, &["prod", "stage"]), &test, false),
        (requirement(LabelOperator::In, &["prod", "stage"]), &none, false),
        (requirement(LabelOperator::NotIn, &["prod"]), &prod, false),
        (requirement(LabelOperator::NotIn, &["prod"]), &test, true),
        (requirement(LabelOperator::NotIn, &["prod"]), &none, true),
        (requirement(LabelOperator::Exists, &[]), &prod, true),
        (requirement(LabelOperator::Exists, &[]), &none, false),
        (requirement(LabelOperator::DoesNotExist, &[]), &prod, false),
        (requirement(LabelOperator::DoesNotExist, &[]), &none, true),
        (both.clone(), &prod, false),
        (both, &prod_a, true),
    ] {
        let rule = selector(selecting.clone());
        assert_eq!(rule.speaks_for(namespace, CLIENT), selected, "{selecting:?} {namespace:?}");
        let answer = allow(&[rule], namespace, CLIENT, &user("ann"), &reading(), at(0));
        assert_eq!(answer, if selected { Ok(()) } else { Err(Miss::Namespace) });
    }
}

#[test]
fn a_rule_that_cannot_be_read_covers_nothing() {
    for lifetime in ["", "90", "90 d", "0d", "99999999999999999999d"] {
        let rule = AllowRule { max_lifetime: Some(lifetime.into()), ..AllowRule::default() };
        assert!(parse::rule(&rule).is_none(), "{lifetime:?}");
    }
}

#[test]
fn the_yaml_form_means_what_it_says() {
    let rule = AllowRule {
        namespaces: None,
        clients: vec!["finance-*".into()],
        scopes: vec!["openid".into()],
        audiences: vec![],
        bases: vec![Basis::AdminConsent],
        subject_kinds: vec![SubjectKind::Any],
        max_lifetime: Some("90d".into()),
    };
    let rule = parse::rule(&rule).expect("readable");
    assert!(rule.namespaces.is_none());
    assert_eq!(rule.clients, patterns("finance-*"));
    assert_eq!(rule.scopes, patterns("openid"));
    assert_eq!(rule.audiences, None);
    assert_eq!(rule.bases, Some(vec![Basis::AdminConsent]));
    assert_eq!(rule.subject_kinds, Some(vec![api::SubjectKind::Any]));
    assert_eq!(rule.max_lifetime, Some(Duration::from_secs(90 * 86_400)));
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let names = |all: &'static [&'static str]| {
        prop::option::of(prop::collection::vec(prop::sample::select(all), 0..3))
            .prop_map(|names| names.map(|n| n.into_iter().map(pattern).collect::<Vec<_>>()))
    };
    (
        names(&["app", "a*", "other"]),
        names(&["openid", "read", "*", "w*"]),
        names(&["x", "y", "*"]),
        prop::option::of(prop::sample::select(&[1_u64, 60, 3600][..])),
    )
        .prop_map(|(clients, scopes, audiences, lifetime)| Rule {
            clients,
            scopes,
            audiences,
            max_lifetime: lifetime.map(Duration::from_secs),
            ..Rule::default()
        })
}

proptest! {
    #![proptest_config(cheap())]

    /// A further rule never takes anything away, and less asked for is never refused where more was not.
    #[test]
    fn fuzz_rules_only_add(
        rules in prop::collection::vec(some_rule(), 0..4),
        scopes in prop::sample::subsequence(vec!["openid", "read", "write"], 1..=3),
        audiences in prop::sample::subsequence(vec!["x", "y"], 0..=2),
        end in 1..7200_i64,
    ) {
        let full = with(terms(&scopes.join(" "), &audiences.join(" ")), |t| t.expires_at = at(end));
        let ask = |rules: &[Rule], terms: &Terms| ask(rules, &user("ann"), terms);
        let all = ask(&rules, &full);
        let without_last = rules.split_last().map_or(Err(Miss::NoRule), |(_, rest)| ask(rest, &full));
        prop_assert!(without_last.is_err() || all.is_ok());
        if let (Err(more), Err(less)) = (&all, &without_last) {
            prop_assert!(more >= less, "the nearest miss moved away: {less:?} {more:?}");
        }
        if all.is_ok() {
            let mut less = full.clone();
            less.authority = authority(scopes[0], "", &[GrantType::AuthorizationCode]);
            less.expires_at = at(end / 2);
            prop_assert_eq!(ask(&rules, &less), Ok(()));
        }
    }
}
