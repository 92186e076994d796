//! What was read of workloads, put together: one entry for each workload that a person wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::{Facts, Owner, Template};
use super::finding::{Object, Place};
use super::workload::Workload;

/// A chain of owners has three links (Pod, Job, `CronJob`, or a custom resource above it).
const LINKS: usize = 3;

/// The workload that a person wrote and controllers made this object for; `owner` knows that of any object.
pub(super) fn top<T>(object: T, owner: impl Fn(&T) -> Option<T>) -> T {
    let mut at = object;
    for _ in 0..LINKS {
        let Some(up) = owner(&at) else { break };
        at = up;
    }
    at
}

/// The object whose template another one in a namespace borrows.
pub(super) fn target(namespace: &str, (kind, name): &Owner) -> Object {
    Object::new(kind.as_str(), namespace, name.as_str())
}

/// One workload for each ServiceAccount that templates of `object` name; `templates_of` knows those of another
/// object, for a Rollout that borrows its own. What it borrows and nobody has stays borrowed. They have to be joined
/// then. `all` are those of the object before: their memory is used again.
pub(super) fn assemble<'a>(
    all: &mut Vec<Workload>,
    object: &Arc<Object>,
    templates: impl Iterator<Item = (&'a Arc<Template>, &'a Place)>,
    templates_of: impl Fn(&Object) -> Vec<Arc<Template>>,
) {
    all.iter_mut().for_each(|of| of.templates.clear());
    let mut add = |template: Arc<Template>, place: &Place| {
        if let Some(of) = all.iter_mut().find(|of| of.service_account == template.service_account) {
            if of.templates.is_empty() || *place < of.place {
                of.place = place.clone();
            }
            of.templates.push(template);
        } else {
            // Mostly there is one.
            if all.is_empty() {
                all.reserve_exact(1);
            }
            all.push(Workload::new(object.clone(), place.clone(), template));
        }
    };
    for (template, place) in templates {
        let lent = template.borrows.as_ref().map(|owner| templates_of(&target(&object.namespace, owner)));
        match lent.filter(|lent| !lent.is_empty()) {
            None => add(template.clone(), place),
            Some(lent) => {
                for of in lent {
                    let (service_account, automount) = (of.service_account.clone(), of.automount);
                    let own = Template { service_account, automount, borrows: None, ..(**template).clone() };
                    add(Arc::new(own.digested()), place);
                    add(of, place);
                }
            }
        }
    }
    all.retain_mut(|of| {
        of.templates.sort();
        of.templates.dedup();
        !of.templates.is_empty()
    });
    all.sort_by(|a, b| a.service_account.cmp(&b.service_account));
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
    let mut tops = BTreeMap::<Arc<Object>, Vec<(Arc<Template>, Place)>>::new();
    for one in facts {
        let object = top(one.object, owner);
        tops.entry(Arc::new(object)).or_default().push((one.template, one.place));
    }
    let templates_of = |object: &Object| {
        let templates = tops.get(object).into_iter().flatten();
        templates.map(|(template, _)| template.clone()).collect()
    };
    let assembled = tops.iter().map(|(object, templates)| {
        let mut all = Vec::new();
        assemble(&mut all, object, templates.iter().map(|(template, place)| (template, place)), templates_of);
        all
    });
    assembled.collect()
}
