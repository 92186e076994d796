//! What was read of workloads, put together: one entry for each workload that a person wrote.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::finding::Object;

/// One entry for each workload that a person wrote: what controllers made counts as theirs, what is there twice
/// counts once, and a Rollout gets the template that it borrows.
pub(super) fn fold(facts: Vec<Facts>) -> Vec<Facts> {
    let mut owners = BTreeMap::<Object, Option<(String, String)>>::new();
    for one in &facts {
        // Of two that disagree the greater counts, so that their order does not matter.
        let owner = owners.entry(one.object.clone()).or_default();
        *owner = owner.take().max(one.owner.clone());
    }
    let mut folded = BTreeMap::<(Object, String), Facts>::new();
    for mut one in facts {
        // A chain of owners has three links (Pod, Job, CronJob); what is longer goes round in circles.
        for _ in 0..4 {
            let owner = owners.get(&one.object).cloned().unwrap_or_else(|| one.owner.clone());
            let Some((kind, name)) = owner else { break };
            let up = Object::new(kind, one.object.namespace.clone(), name);
            one.group = group_of(&up.kind, &one.group).to_owned();
            one.owner = owners.get(&up).cloned().flatten();
            one.object = up;
            if one.owner.is_none() {
                break;
            }
        }
        one.owner = None;
        match folded.entry((one.object.clone(), one.service_account.clone())) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(one);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => merge(entry.get_mut(), one),
        }
    }
    borrow(&mut folded);
    folded.into_values().collect()
}

/// The API group of a controller that is known by an owner reference.
fn group_of<'a>(kind: &str, fallback: &'a str) -> &'a str {
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => "apps",
        "Job" | "CronJob" => "batch",
        "ReplicationController" => "",
        _ => fallback,
    }
}

fn merge(into: &mut Facts, other: Facts) {
    if other.place < into.place {
        into.place = other.place;
    }
    into.automount = match (into.automount, other.automount) {
        (Some(false), Some(false)) => Some(false),
        (None, None) => None,
        // One of the two gets a token, unless the account switches it off.
        (a, b) => a.filter(|x| *x).or(b.filter(|x| *x)),
    };
    // What is closest to the top of the list that says which application it is counts.
    into.app = into.app.take().into_iter().chain(other.app).min();
    into.shares_processes |= other.shares_processes;
    into.edges.extend(other.edges);
    into.aside.extend(other.aside);
    into.tokens.extend(other.tokens);
    into.literals.extend(other.literals);
    into.opaque.extend(other.opaque);
}

/// Gives a Rollout with `workloadRef` what the Deployment says that it refers to.
fn borrow(folded: &mut BTreeMap<(Object, String), Facts>) {
    let mut found = Vec::new();
    for (key, rollout) in folded.iter().filter(|(_, f)| f.object.kind == "Rollout") {
        for reference in rollout.opaque.iter().filter(|(path, _)| path == "spec.workloadRef") {
            let Some((kind, name)) = reference.1.split_once('/') else { continue };
            let target = Object::new(kind, rollout.object.namespace.clone(), name);
            let templates = folded.iter().filter(|((object, _), _)| *object == target);
            found.extend(templates.map(|(_, template)| (key.clone(), reference.clone(), template.clone())));
        }
    }
    for (key, reference, template) in found {
        let Some(mut rollout) = folded.remove(&key) else { continue };
        rollout.opaque.remove(&reference);
        rollout.service_account.clone_from(&template.service_account);
        let Facts { object, group, place, .. } = rollout.clone();
        merge(&mut rollout, template);
        rollout = Facts { object, group, place, ..rollout };
        folded.insert((rollout.object.clone(), rollout.service_account.clone()), rollout);
    }
}
