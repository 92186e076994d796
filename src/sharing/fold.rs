//! What was read of workloads, put together: one entry for each workload that a person wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::{Facts, Template};
use super::finding::{Object, Place};
use super::index::Workload;

/// A chain of owners has three links (Pod, Job, `CronJob`); what is longer goes round in circles.
const LINKS: usize = 4;

/// The controller of an object: kind and name.
pub(super) type Owner = (String, String);

/// The workload that a person wrote and controllers made this object for, with its API group; `owner` knows that of
/// any object, and `group_of` the group of a controller, or takes that of what it made.
pub(super) fn top<T>(
    object: T,
    group: &'static str,
    owner: impl Fn(&T) -> Option<T>,
    group_of: impl Fn(&T, &'static str) -> &'static str,
) -> (T, &'static str) {
    let (mut at, mut group) = (object, group);
    for _ in 0..LINKS {
        let Some(up) = owner(&at) else { break };
        group = group_of(&up, group);
        at = up;
    }
    (at, group)
}

/// The API group of a controller that is known by an owner reference.
pub(super) fn group_of(kind: &str, fallback: &'static str) -> &'static str {
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
    let mut all = Vec::<Workload>::new();
    let mut add = |template: Arc<Template>, place: &Place| {
        if let Some(of) = all.iter_mut().find(|of| of.service_account == template.service_account) {
            if *place < of.place {
                of.place = place.clone();
            }
            of.templates.push(template);
        } else {
            all.push(Workload::new(object.clone(), group, place.clone(), template));
        }
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
    for of in &mut all {
        of.templates.sort();
        of.templates.dedup();
    }
    all.sort_by(|a, b| a.service_account.cmp(&b.service_account));
    all
}

/// One entry for each workload that a person wrote: what controllers made counts as theirs, what is there twice
/// counts once, and a Rollout gets the template that it borrows.
pub(super) fn fold(facts: Vec<Facts>) -> Vec<Vec<Workload>> {
    let mut owners = BTreeMap::<Object, Option<Owner>>::new();
    for one in &facts {
        // Of two that disagree the greater counts, so that their order does not matter.
        let owner = owners.entry(one.object.clone()).or_default();
        *owner = owner.take().max(one.owner.clone());
    }
    let owner = |object: &Object| Some(target(&object.namespace, owners.get(object)?.as_ref()?));
    let mut tops = BTreeMap::<Arc<Object>, (&'static str, Vec<(Arc<Template>, Place)>)>::new();
    for one in facts {
        let (object, group) = top(one.object, one.group, owner, |up, group| group_of(&up.kind, group));
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
        assemble(object, group, templates, |of| templates_of(of).unwrap_or_default())
    });
    assembled.collect()
}
