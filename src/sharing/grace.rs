//! What is absent may only be late: such a finding counts when it has been there for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::finding::{Evidence, Finding, Object};
use crate::grant::ClientKey;

/// Rules that conclude from what is not there.
pub(super) const RULES: [&str; 3] = ["SC-302", "SC-303", "SC-304"];

/// The evidence tells two findings of one subject apart.
type Key = (&'static str, Object, BTreeSet<ClientKey>, Vec<Evidence>);

/// When what is found now counts.
#[derive(Debug, Default)]
pub struct Grace(BTreeMap<Key, Timestamp>);

impl Grace {
    /// Takes out what has not been absent for long enough, except what was told before this process began. Returns
    /// when the next one has.
    pub fn hold_back(
        &mut self,
        findings: &mut Vec<Finding>,
        told: impl Fn(&Finding) -> bool,
        grace: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut old = std::mem::take(&mut self.0);
        let mut next = None::<Timestamp>;
        findings.retain(|finding| {
            if !RULES.contains(&finding.rule) {
                return true;
            }
            let key = (finding.rule, finding.subject.clone(), finding.keys.clone(), finding.evidence.clone());
            let due = old.remove(&key).unwrap_or_else(|| if told(finding) { now } else { now + grace });
            self.0.insert(key, due);
            if due > now {
                next = next.into_iter().chain([due]).min();
            }
            due <= now
        });
        next
    }
}
