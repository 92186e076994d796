//! What was read of workloads, put together: one entry for each workload that a person wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::{Facts, Template};
use super::finding::{Object, Place};
use super::index::Workload;

/// A chain of owners has three links (Pod, Job, `CronJob`); what is longer goes round in circles.
const LINKS: usize = 4;

/// The controller of an object: kind and name.
pub(super) type Owner = (String, String);

/// The workload that a person wrote and controllers made this object for, with its API group; `owner_of` knows the
/// owner of any object that was read.
pub(super) fn top(
    object: &Object,
    group: &'static str,
    owner: Option<Owner>,
    owner_of: impl Fn(&Object) -> Option<Owner>,
) -> (Object, &'static str) {
    let (mut at, mut group, mut owner) = (object.clone(), group, owner);
    for _ in 0..LINKS {
        let Some((kind, name)) = owner else { break };
        let up = Object::new(kind, at.namespace.clone(), name);
        group = group_of(&up.kind, group);
        owner = owner_of(&up);
        at = up;
    }
    (at, group)
}

/// The API group of a controller that is known by an owner reference.
fn group_of(kind: &str, fallback: &'static str) -> &'static str {
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => "apps",
        "Job" | "CronJob" => "batch",
        "ReplicationController" => "",
        _ => fallback,
    }
}

/// The object whose template another one in a namespace borrows.
pub(super) fn target(namespace: &str, (kind, name): &Owner) -> Object {
    Object::new(kind.as_str(), namespace, name.as_str())
}

/// One workload for each ServiceAccount that templates of `object` name; `templates_of` knows those of another
/// object, for a Rollout that borrows its own. What it borrows and nobody has stays borrowed.
pub(super) fn assemble<'a>(
    object: &Arc<Object>,
    group: &'static str,
    templates: impl Iterator<Item = (&'a Arc<Template>, &'a Place)>,
    templates_of: impl Fn(&Object) -> Vec<Arc<Template>>,
) -> Vec<Workload> {
    let mut all = BTreeMap::<String, (BTreeSet<Arc<Template>>, &Place)>::new();
    let mut add = |template: Arc<Template>, place: &'a Place| {
        let (templates, first) =
            all.entry(template.service_account.clone()).or_insert_with(|| (BTreeSet::new(), place));
        *first = place.min(*first);
        templates.insert(template);
    };
    for (template, place) in templates {
        let lent = template.borrows.as_ref().map(|owner| templates_of(&target(&object.namespace, owner)));
        match lent.filter(|lent| !lent.is_empty()) {
            None => add(template.clone(), place),
            Some(lent) => {
                for of in lent {
                    let service_account = of.service_account.clone();
                    add(Arc::new(Template { service_account, borrows: None, ..(**template).clone() }), place);
                    add(of, place);
                }
            }
        }
    }
    let all = all.into_iter().map(|(service_account, (templates, place))| {
        Workload::new(object.clone(), group, place.clone(), service_account, templates)
    });
    all.collect()
}

/// One entry for each workload that a person wrote: what controllers made counts as theirs, what is there twice
/// counts once, and a Rollout gets the template that it borrows.
pub(super) fn fold(facts: Vec<Facts>) -> BTreeMap<Arc<Object>, Vec<Workload>> {
    let mut owners = BTreeMap::<Object, Option<Owner>>::new();
    for one in &facts {
        // Of two that disagree the greater counts, so that their order does not matter.
        let owner = owners.entry(one.object.clone()).or_default();
        *owner = owner.take().max(one.owner.clone());
    }
    let owner_of = |object: &Object| owners.get(object).cloned().flatten();
    let mut tops = BTreeMap::<Arc<Object>, (&'static str, Vec<(Arc<Template>, Place)>)>::new();
    for one in facts {
        let (object, group) = top(&one.object, one.group, owner_of(&one.object), owner_of);
        let (known, templates) = tops.entry(Arc::new(object)).or_insert_with(|| (group, Vec::new()));
        *known = group.min(*known);
        templates.push((one.template, one.place));
    }
    let templates_of = |object: &Object| {
        let (_, templates) = tops.get(object)?;
        Some(templates.iter().map(|(template, _)| template.clone()).collect())
    };
    let assembled = tops.iter().map(|(object, (group, templates))| {
        let templates = templates.iter().map(|(template, place)| (template, place));
        (object.clone(), assemble(object, group, templates, |of| templates_of(of).unwrap_or_default()))
    });
    assembled.collect()
}
