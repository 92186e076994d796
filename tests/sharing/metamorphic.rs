//! What must not change a finding: order, files, repetition, names, what does not concern it.

use std::collections::BTreeSet;

use clientgrant::sharing::Evaluation;
use proptest::prelude::*;

use super::support::{cases, deployment, grant, identity, open, scan, scan_files};

/// A generated estate: clients with slots, workloads that hold some of them on some account, grants.
#[derive(Clone, Debug)]
struct Estate {
    clients: Vec<(u8, bool, bool)>,
    workloads: Vec<(u8, Vec<u8>)>,
    grants: Vec<(u8, u8)>,
}

fn estate() -> impl Strategy<Value = Estate> {
    let client = (0u8..4, any::<bool>(), any::<bool>());
    let workload = (0u8..3, prop::collection::vec(0u8..4, 0..4));
    let all = (
        prop::collection::vec(client, 1..5),
        prop::collection::vec(workload, 0..6),
        prop::collection::vec((0u8..5, 0u8..3), 0..5),
    );
    all.prop_map(|(clients, workloads, grants)| Estate { clients, workloads, grants })
}

/// The estate as documents; every name ends in `mark`.
fn documents(estate: &Estate, mark: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (n, (slot, named, account)) in estate.clients.iter().enumerate() {
        let mut spec = format!("credentials: [{{secret: {{name: s{slot}{mark}, key: k}}}}]");
        if *named {
            spec += &format!(", workloads: [{{apiVersion: apps/v1, kind: Deployment, name: w{n}{mark}}}]");
        }
        if *account {
            spec += &format!(", serviceAccountName: a{}{mark}", n % 3);
        }
        all.push(identity(&format!("c{n}{mark}"), &spec));
    }
    for (n, (account, secrets)) in estate.workloads.iter().enumerate() {
        let refs: Vec<String> = secrets.iter().map(|s| format!("{{secretRef: {{name: s{s}{mark}}}}}")).collect();
        let pod =
            format!("serviceAccountName: a{account}{mark}, containers: [{{name: m, envFrom: [{}]}}]", refs.join(", "));
        all.push(deployment(&format!("w{n}{mark}"), &pod));
    }
    for (client, scope) in &estate.grants {
        all.push(grant(&format!("c{client}{mark}"), "ann", &format!("x{scope}")));
    }
    // One grant of a client is one object.
    let mut seen = BTreeSet::new();
    all.retain(|d| seen.insert(d.clone()));
    all
}

fn evaluated(documents: &[String]) -> Evaluation {
    scan(&documents.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Everything but where it was read.
fn essence(evaluation: &Evaluation) -> Vec<String> {
    let of = |f: &clientgrant::sharing::Finding| {
        let evidence: BTreeSet<_> = f.evidence.iter().map(|e| (&e.object, &e.path)).collect();
        format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {evidence:?}",
            f.rule, f.subject, f.severity, f.state, f.clients, f.blast_radius, f.gain
        )
    };
    evaluation.findings.iter().map(of).collect()
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn fuzz_order_and_files_do_not_matter(
        (estate, shuffled) in estate().prop_flat_map(|e| {
            let documents = documents(&e, "");
            (Just(documents.clone()), Just(documents).prop_shuffle())
        })
    ) {
        let whole = essence(&evaluated(&estate));
        prop_assert_eq!(&whole, &essence(&evaluated(&shuffled)));
        let names: Vec<String> = (0..shuffled.len()).map(|n| format!("{n}.yaml")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(shuffled.iter().map(String::as_str)).collect();
        prop_assert_eq!(&whole, &essence(&scan_files(&files)));
    }

    #[test]
    fn fuzz_what_is_there_twice_is_there_once(estate in estate()) {
        let once = documents(&estate, "");
        let twice: Vec<String> = once.iter().chain(&once).cloned().collect();
        prop_assert_eq!(essence(&evaluated(&once)), essence(&evaluated(&twice)));
    }

    #[test]
    fn fuzz_other_names_are_the_same_findings(estate in estate()) {
        let plain = essence(&evaluated(&documents(&estate, "q")));
        let renamed: Vec<String> = essence(&evaluated(&documents(&estate, "zz")));
        let back: Vec<String> = renamed.into_iter().map(|f| f.replace("zz", "q")).collect();
        prop_assert_eq!(plain, back);
    }

    #[test]
    fn fuzz_another_namespace_is_the_same_findings(estate in estate()) {
        let here = documents(&estate, "");
        let there: Vec<String> = here.iter().map(|d| d.replace("namespace: shop", "namespace: till")).collect();
        let back: Vec<String> = essence(&evaluated(&there)).into_iter().map(|f| f.replace("till", "shop")).collect();
        prop_assert_eq!(essence(&evaluated(&here)), back);
    }

    #[test]
    fn fuzz_what_concerns_no_client_changes_nothing(estate in estate()) {
        // One workload of its own, so that it makes no difference that there is one at all.
        let other = deployment("zzz", "serviceAccountName: zzz, containers: [{name: m, envFrom: [{secretRef: {name: zzz}}]}]");
        let more = deployment("zzzz", "serviceAccountName: zzz, containers: [{name: m, envFrom: [{secretRef: {name: zzz}}]}]");
        let mut before = documents(&estate, "");
        before.push(other);
        let mut after = before.clone();
        after.push(more);
        prop_assert_eq!(essence(&evaluated(&before)), essence(&evaluated(&after)));
    }

    #[test]
    fn fuzz_another_holder_takes_no_sharing_away(estate in estate(), secrets in prop::collection::vec(0u8..4, 1..4)) {
        let sharing = |e: &Evaluation| -> BTreeSet<String> {
            open(e).into_iter().filter(|f| f.starts_with("SC-1") || f.starts_with("SC-2") || f.starts_with("SC-301")).collect()
        };
        let before = sharing(&evaluated(&documents(&estate, "")));
        let mut more = estate.clone();
        more.workloads.push((0, secrets));
        let after = sharing(&evaluated(&documents(&more, "")));
        prop_assert!(after.is_superset(&before), "{:?} {:?}", before, after);
    }

    #[test]
    fn fuzz_no_text_makes_it_panic(text in "[-a-z0-9 :{}\\[\\]&*!|>'\"%@,?#\n\t]{0,200}") {
        _ = scan_files(&[("f.yaml", &text)]);
    }
}
