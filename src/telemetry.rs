//! What is counted, in the OpenMetrics text format, under `/metrics`.
//!
//! Labels are words of ours from closed lists: no name of an object, client or subject is one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    point: &'static str,
    decision: &'static str,
    reason: &'static str,
}

/// Where a decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The token hook.
    TokenHook,
    /// The consent decision.
    Consent,
}

/// What a decision point answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes (or: ask the subject).
    Allow,
    /// No.
    Deny,
    /// Yes, because the provider is only observed; else it would have been no.
    WouldDeny,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("clientgrant");
        let decisions = Family::default();
        registry.register("decisions", "Answers of the decision points", decisions.clone());
        Self { registry, decisions }
    }
}

impl Metrics {
    /// Counts one decision; `reason` is empty for a plain yes.
    pub fn decided(&self, point: Point, answer: Answer, reason: &'static str) {
        let point = match point {
            Point::TokenHook => "token_hook",
            Point::Consent => "consent",
        };
        let decision = match answer {
            Answer::Allow => "allow",
            Answer::Deny => "deny",
            Answer::WouldDeny => "would_deny",
        };
        self.decisions.get_or_create(&Decision { point, decision, reason }).inc();
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_counted_by_point_answer_and_reason() {
        let metrics = Metrics::default();
        metrics.decided(Point::TokenHook, Answer::Deny, "NoGrant");
        metrics.decided(Point::TokenHook, Answer::Deny, "NoGrant");
        metrics.decided(Point::Consent, Answer::WouldDeny, "ScopeNotDeclared");
        let text = metrics.text();
        for line in [
            r#"clientgrant_decisions_total{point="token_hook",decision="deny",reason="NoGrant"} 2"#,
            r#"clientgrant_decisions_total{point="consent",decision="would_deny",reason="ScopeNotDeclared"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
    }
}
