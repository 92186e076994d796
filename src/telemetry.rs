//! What is counted and measured, as text for Prometheus, under `/metrics`.
//!
//! Labels are words of ours from closed lists: no name of an object, client or subject is one, so the number
//! of series does not grow with the number of grants. [`CATALOGUE`] names every metric for the documents.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::sharing::catalogue;
use crate::sharing::finding::{Finding, Severity, State};

/// Seconds: from a call on loopback to a deadline.
const CALLS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Seconds: from two passes to an outage.
const ENDS: [f64; 11] = [1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];
/// Days of the gauge of grants that end soon.
const SOON: [(&str, u64); 3] = [("1d", 1), ("7d", 7), ("30d", 30)];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// A metric: its name as it is scraped, its labels, and what it tells.
pub struct Described {
    /// The name as it is scraped, without the suffixes of a histogram.
    pub name: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($name:literal [$($label:literal),*] $help:literal,)+) => {
        /// Every metric.
        pub const CATALOGUE: &[Described] = &[$(
            Described { name: concat!("clientgrant_", $name), labels: &[$($label),*], help: $help },
        )+];
    };
}

catalogue! {
    "decisions_total" ["point", "decision", "reason"] "Answers of the decision points",
    "decision_duration_seconds" ["point"] "How long an answer of a decision point took",
    "reconcile_total" ["outcome"] "Looks at one client, by what was found",
    "reconcile_duration_seconds" [] "How long a look at one client took",
    "queue_depth" ["lane"] "Clients that are due and wait for a worker",
    "grants" ["reason"] "ClientGrants by the reason of their Ready condition",
    "grants_expiring" ["within"] "ClientGrants in force that end within this time",
    "grants_drifted" [] "ClientGrants that the identity provider holds more or less of than they declare",
    "drift_detected_total" ["type"] "Registrations that a sweep found to be other than their grants ask",
    "undeclared" ["what"] "What no grant declares, as the last sweeps found it, on the replica that writes",
    "pending_revocations" [] "Revocations that outlived their grants and are not done",
    "revocations_total" ["cause", "outcome"] "Calls that end authority at an identity provider, by what asked for them",
    "revocation_lag_seconds" ["cause"] "From the moment something was to end until its end was read back",
    "idp_request_duration_seconds" ["operation", "code"] "How long calls to identity providers took",
    "idp_rate_limit_wait_seconds_total" [] "Seconds that calls waited for requestsPerSecond",
    "providers" ["reason"] "Provider objects by what the last look at them found",
    "token_hooks" ["proof"] "Provider objects by what probes of their token hook show, on the replica that writes",
    "sweeps_held" [] "Provider objects of which removals wait for a person, on the replica that writes",
    "leader" [] "1 while this replica writes",
    "cluster_silence_seconds" [] "Since when the API server was not heard",
    "decision_certificate_expiry_timestamp_seconds" [] "When the certificate of the decision endpoints runs out, NaN without one",
    "sharing_findings" ["rule", "severity", "state"] "Findings of shared credentials, on the replica that writes",
    "sharing_evaluation_seconds" [] "How long it took to look for shared credentials",
    "sharing_divergence_total" [] "How often what is kept of workloads and clients was not what it is made of; it is made anew then",
    "crd_schema_outdated" [] "1 while the API server serves definitions older than this operator, NaN while that is not known",
    "build_info" ["version"] "Always 1",
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Counter>,
    decided: Histograms<PointLabel>,
    looks: Family<Outcome, Counter>,
    looked: Histogram,
    revocations: Family<RevocationLabel, Counter>,
    lags: Histograms<Cause>,
    calls: Calls,
    drift: Family<TypeLabel, Counter>,
    outdated: Gauge<f64, AtomicU64>,
    shared: Family<SharedLabel, Gauge>,
    evaluated: Histogram,
    diverged: Counter,
    now: Now,
}

/// Gauges that are set when somebody looks.
#[derive(Debug, Default)]
struct Now {
    queue: Family<LaneLabel, Gauge>,
    grants: Family<ReasonLabel, Gauge>,
    expiring: Family<Within, Gauge>,
    drifted: Gauge,
    pending: Gauge,
    providers: Family<ReasonLabel, Gauge>,
    hooks: Family<Proof, Gauge>,
    undeclared: Family<What, Gauge>,
    held: Gauge,
    leader: Gauge,
    silence: Gauge<f64, AtomicU64>,
    certificate: Gauge<f64, AtomicU64>,
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => { $(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),+ }
    )+ };
}

/// How many there are, by a word of ours.
type Counts = BTreeMap<&'static str, i64>;

labels! {
    Decision { point: &'static str, decision: &'static str, reason: &'static str }
    PointLabel { point: &'static str }
    Outcome { outcome: &'static str }
    LaneLabel { lane: &'static str }
    ReasonLabel { reason: &'static str }
    Within { within: &'static str }
    Proof { proof: &'static str }
    What { what: &'static str }
    TypeLabel { r#type: &'static str }
    RevocationLabel { cause: &'static str, outcome: &'static str }
    Cause { cause: &'static str }
    SharedLabel { rule: &'static str, severity: &'static str, state: &'static str }
    Call { operation: &'static str, code: String }
}

/// What a scrape sees of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Grants by the reason of their Ready condition.
    pub reasons: Counts,
    /// Seconds until the end of each grant in force.
    pub ends_in: Vec<u64>,
    /// Duties that outlived their grants.
    pub pending: i64,
    /// Grants of which the identity provider holds more or less.
    pub drifted: i64,
    /// Provider objects by what the last look at them found.
    pub providers: Counts,
    /// Provider objects by what probes of their token hook show.
    pub hooks: Counts,
    /// Consents and clients that no grant declares.
    pub undeclared: Counts,
    /// Provider objects of which removals wait.
    pub held: i64,
    /// Clients that wait, by lane.
    pub queue: [(&'static str, i64); 4],
    /// This replica writes.
    pub leads: bool,
    /// Since when the API server was not heard; `None`: it never was.
    pub silence: Option<Duration>,
    /// When the certificate of the decision endpoints runs out, in seconds since 1970.
    pub certificate: Option<i64>,
}

/// How the text is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text of Prometheus, for whoever does not ask for the other.
    Prometheus,
}

impl Format {
    /// What somebody gets who says that he accepts this.
    #[must_use]
    pub fn wanted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// In which way a registration is not as its grants ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// It allows more.
    Excess,
    /// It is there, and allows no more.
    Other,
    /// It is gone.
    Missing,
}

/// Where a decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The token hook.
    TokenHook,
    /// The consent decision.
    Consent,
}

impl Point {
    fn word(self) -> &'static str {
        match self {
            Point::TokenHook => "token_hook",
            Point::Consent => "consent",
        }
    }
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

/// Calls to identity providers, for whoever makes them.
#[derive(Clone, Debug)]
pub struct Calls {
    took: Histograms<Call>,
    waited: Counter<f64, AtomicU64>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { took: Family::new_with_constructor(calls), waited: Counter::default() }
    }
}

impl Calls {
    /// A call was made. `code`: the status of the answer; `None`: there was none.
    pub fn made(&self, operation: &'static str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.took.get_or_create(&Call { operation, code }).observe(took.as_secs_f64());
    }

    /// A call waited for its turn under the limit of calls per second.
    pub fn waited(&self, waited: Duration) {
        self.waited.inc_by(waited.as_secs_f64());
    }
}

fn calls() -> Histogram {
    Histogram::new(CALLS)
}

fn ends() -> Histogram {
    Histogram::new(ENDS)
}

fn help(name: &str) -> &'static str {
    CATALOGUE.iter().find(|d| d.name.strip_prefix("clientgrant_") == Some(name)).map_or("", |d| d.help)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("clientgrant");
        let (now, calls_made) = (Now::default(), Calls::default());
        let decisions = Family::default();
        let decided: Histograms<PointLabel> = Family::new_with_constructor(calls);
        let looks = Family::default();
        let looked = calls();
        let revocations = Family::default();
        let lags: Histograms<Cause> = Family::new_with_constructor(ends);
        let (drift, outdated) = (Family::default(), Gauge::<f64, AtomicU64>::default());
        outdated.set(f64::NAN);
        registry.register("decisions", help("decisions_total"), decisions.clone());
        let seconds = || Unit::Seconds;
        registry.register_with_unit("decision_duration", help("decision_duration_seconds"), seconds(), decided.clone());
        registry.register("reconcile", help("reconcile_total"), looks.clone());
        registry.register_with_unit(
            "reconcile_duration",
            help("reconcile_duration_seconds"),
            seconds(),
            looked.clone(),
        );
        registry.register("queue_depth", help("queue_depth"), now.queue.clone());
        registry.register("grants", help("grants"), now.grants.clone());
        registry.register("grants_expiring", help("grants_expiring"), now.expiring.clone());
        registry.register("grants_drifted", help("grants_drifted"), now.drifted.clone());
        registry.register("drift_detected", help("drift_detected_total"), drift.clone());
        registry.register("undeclared", help("undeclared"), now.undeclared.clone());
        registry.register("pending_revocations", help("pending_revocations"), now.pending.clone());
        registry.register("revocations", help("revocations_total"), revocations.clone());
        registry.register_with_unit("revocation_lag", help("revocation_lag_seconds"), seconds(), lags.clone());
        let took = calls_made.took.clone();
        registry.register_with_unit("idp_request_duration", help("idp_request_duration_seconds"), seconds(), took);
        let waited = calls_made.waited.clone();
        let name = "idp_rate_limit_wait_seconds_total";
        registry.register_with_unit("idp_rate_limit_wait", help(name), seconds(), waited);
        registry.register("providers", help("providers"), now.providers.clone());
        registry.register("token_hooks", help("token_hooks"), now.hooks.clone());
        registry.register("sweeps_held", help("sweeps_held"), now.held.clone());
        registry.register("leader", help("leader"), now.leader.clone());
        registry.register_with_unit("cluster_silence", help("cluster_silence_seconds"), seconds(), now.silence.clone());
        let (name, gauge) = ("decision_certificate_expiry_timestamp_seconds", now.certificate.clone());
        registry.register_with_unit("decision_certificate_expiry_timestamp", help(name), seconds(), gauge);
        let (shared, evaluated) = (Family::default(), calls());
        registry.register("sharing_findings", help("sharing_findings"), shared.clone());
        let name = "sharing_evaluation_seconds";
        registry.register_with_unit("sharing_evaluation", help(name), seconds(), evaluated.clone());
        let diverged = Counter::default();
        registry.register("sharing_divergence", help("sharing_divergence_total"), diverged.clone());
        registry.register("crd_schema_outdated", help("crd_schema_outdated"), outdated.clone());
        registry.register("build", help("build_info"), Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let calls = calls_made;
        let metrics = Self {
            registry,
            decisions,
            decided,
            looks,
            looked,
            revocations,
            lags,
            calls,
            drift,
            outdated,
            shared,
            evaluated,
            diverged,
            now,
        };
        metrics.shared(None, None);
        metrics
    }
}

/// Tells these counts, and of what is gone nothing any more.
fn tell<L: Clone + Hash + Eq>(family: &Family<L, Gauge>, counts: &Counts, label: fn(&'static str) -> L) {
    family.clear();
    for (word, count) in counts {
        family.get_or_create(&label(word)).set(*count);
    }
}

impl Metrics {
    /// Counts one decision; `reason` is empty for a plain yes.
    pub fn decided(&self, point: Point, answer: Answer, reason: &'static str) {
        let decision = match answer {
            Answer::Allow => "allow",
            Answer::Deny => "deny",
            Answer::WouldDeny => "would_deny",
        };
        self.decisions.get_or_create(&Decision { point: point.word(), decision, reason }).inc();
    }

    /// How long an answer took.
    pub fn answered(&self, point: Point, took: Duration) {
        self.decided.get_or_create(&PointLabel { point: point.word() }).observe(took.as_secs_f64());
    }

    /// A look at one client is over.
    pub fn looked(&self, outcome: &'static str, took: Duration) {
        self.looks.get_or_create(&Outcome { outcome }).inc();
        self.looked.observe(took.as_secs_f64());
    }

    /// Something was to be ended at an identity provider.
    pub fn revoked(&self, cause: &'static str, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.revocations.get_or_create(&RevocationLabel { cause, outcome }).inc();
    }

    /// An end was read back, so long after its instant.
    pub fn confirmed(&self, cause: &'static str, lag: Duration) {
        self.lags.get_or_create(&Cause { cause }).observe(lag.as_secs_f64());
    }

    /// A sweep found a registration that is not as its grants ask.
    pub fn drifted(&self, how: Differs) {
        let r#type = match how {
            Differs::Excess => "excess",
            Differs::Other => "other",
            Differs::Missing => "missing",
        };
        self.drift.get_or_create(&TypeLabel { r#type }).inc();
    }

    /// Whether the API server serves definitions that are older than this program.
    pub fn outdated(&self, outdated: bool) {
        self.outdated.set(f64::from(u8::from(outdated)));
    }

    /// Shared credentials were looked for: what was found, on the replica that writes, and how long it took.
    pub fn shared(&self, findings: Option<&Vec<Finding>>, took: Option<Duration>) {
        self.shared.clear();
        let count = |rule, severity: Severity, state: State| {
            self.shared.get_or_create(&SharedLabel { rule, severity: severity.name(), state: state.name() }).inc();
        };
        for rule in catalogue::ALL {
            let state = if rule.id == "SC-901" { State::NotEvaluable } else { State::Open };
            let (rule, severity) = (rule.id, rule.severity);
            let none = SharedLabel { rule, severity: severity.name(), state: state.name() };
            // A rule that finds nothing is told, too: an alert on what is not there would never end.
            self.shared.get_or_create(&none).set(0);
        }
        findings.into_iter().flatten().for_each(|f| count(f.rule, f.severity, f.state));
        if let Some(took) = took {
            self.evaluated.observe(took.as_secs_f64());
        }
    }

    /// What is kept for the detection of shared credentials was not what it is made of.
    pub fn diverged(&self) {
        self.diverged.inc();
    }

    /// For whoever calls identity providers.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn text(&self, tally: &Tally, format: Format) -> String {
        let now = &self.now;
        tell(&now.grants, &tally.reasons, |reason| ReasonLabel { reason });
        for (within, days) in SOON {
            let soon = tally.ends_in.iter().filter(|seconds| **seconds <= days * 86_400).count();
            now.expiring.get_or_create(&Within { within }).set(i64::try_from(soon).unwrap_or(i64::MAX));
        }
        for (lane, count) in tally.queue {
            now.queue.get_or_create(&LaneLabel { lane }).set(count);
        }
        tell(&now.providers, &tally.providers, |reason| ReasonLabel { reason });
        tell(&now.hooks, &tally.hooks, |proof| Proof { proof });
        tell(&now.undeclared, &tally.undeclared, |what| What { what });
        now.drifted.set(tally.drifted);
        now.pending.set(tally.pending);
        now.held.set(tally.held);
        now.leader.set(i64::from(tally.leads));
        now.silence.set(tally.silence.map_or(f64::NAN, |silence| silence.as_secs_f64()));
        now.certificate.set(tally.certificate.map_or(f64::NAN, |at| at as f64));
        let mut written = String::new();
        // Writing to a string does not fail.
        _ = match format {
            Format::OpenMetrics => text::encode(&mut written, &self.registry),
            Format::Prometheus => prometheus_text::encode(&mut written, &self.registry),
        };
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> (Metrics, Tally) {
        let metrics = Metrics::default();
        metrics.decided(Point::TokenHook, Answer::Deny, "NoGrant");
        metrics.decided(Point::TokenHook, Answer::Deny, "NoGrant");
        metrics.decided(Point::Consent, Answer::WouldDeny, "ScopeNotDeclared");
        metrics.answered(Point::Consent, Duration::from_millis(3));
        metrics.looked("Exact", Duration::from_millis(30));
        metrics.revoked("Expired", true);
        metrics.revoked("Deleted", false);
        metrics.confirmed("Expired", Duration::from_millis(2_100));
        metrics.calls().made("ReadClient", Some(200), Duration::from_millis(4));
        metrics.calls().made("RevokePair", None, Duration::from_secs(10));
        metrics.calls().waited(Duration::from_millis(500));
        metrics.drifted(Differs::Excess);
        metrics.outdated(true);
        let tally = Tally {
            reasons: [("Granted", 7), ("Expired", 2)].into(),
            ends_in: vec![10, 86_400, 6 * 86_400, 365 * 86_400],
            pending: 1,
            drifted: 4,
            providers: [("Connected", 1), ("IssuerTaken", 2)].into(),
            hooks: [("proved", 1)].into(),
            undeclared: [("consent", 5), ("client", 0)].into(),
            held: 1,
            queue: [("end", 3), ("narrow", 0), ("apply", 1), ("drift", 0)],
            leads: true,
            silence: Some(Duration::from_millis(1_500)),
            certificate: Some(1_800_000_000),
        };
        (metrics, tally)
    }

    #[test]
    fn everything_is_told_in_words_of_ours() {
        let (metrics, tally) = full();
        let text = metrics.text(&tally, Format::OpenMetrics);
        for line in [
            r#"clientgrant_decisions_total{point="token_hook",decision="deny",reason="NoGrant"} 2"#,
            r#"clientgrant_decisions_total{point="consent",decision="would_deny",reason="ScopeNotDeclared"} 1"#,
            r#"clientgrant_reconcile_total{outcome="Exact"} 1"#,
            r#"clientgrant_queue_depth{lane="end"} 3"#,
            r#"clientgrant_grants{reason="Granted"} 7"#,
            r#"clientgrant_grants_expiring{within="1d"} 2"#,
            r#"clientgrant_grants_expiring{within="7d"} 3"#,
            r#"clientgrant_pending_revocations 1"#,
            r#"clientgrant_revocations_total{cause="Deleted",outcome="failed"} 1"#,
            r#"clientgrant_revocation_lag_seconds_bucket{le="2.5",cause="Expired"} 1"#,
            r#"clientgrant_idp_request_duration_seconds_count{operation="RevokePair",code="none"} 1"#,
            r#"clientgrant_idp_rate_limit_wait_seconds_total 0.5"#,
            r#"clientgrant_providers{reason="IssuerTaken"} 2"#,
            r#"clientgrant_token_hooks{proof="proved"} 1"#,
            r#"clientgrant_grants_drifted 4"#,
            r#"clientgrant_drift_detected_total{type="excess"} 1"#,
            r#"clientgrant_undeclared{what="consent"} 5"#,
            r#"clientgrant_crd_schema_outdated 1.0"#,
            r#"clientgrant_decision_certificate_expiry_timestamp_seconds 1800000000.0"#,
            r#"clientgrant_sweeps_held 1"#,
            r#"clientgrant_leader 1"#,
            r#"clientgrant_cluster_silence_seconds 1.5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let none = metrics.text(&Tally::default(), Format::OpenMetrics);
        for gone in ["reason=\"Granted\"", "reason=\"Connected\"", "proof=\"proved\"", "what=\"consent\""] {
            assert!(!none.contains(gone), "what is gone is not told: {none}");
        }
        assert!(none.contains("clientgrant_decision_certificate_expiry_timestamp_seconds NaN"), "{none}");
        let fresh = Metrics::default().text(&Tally::default(), Format::OpenMetrics);
        assert!(fresh.contains("clientgrant_crd_schema_outdated NaN"), "not looked is not known: {fresh}");
    }

    /// Both forms tell the same.
    #[test]
    fn the_older_text_has_the_same_samples() {
        let (metrics, tally) = full();
        let samples = |format| -> Vec<String> {
            let text = metrics.text(&tally, format);
            // Each form has its own spelling of bounds, and place for them.
            let head = |line: &str| line.split_once("_bucket{").map_or(line, |(name, _)| name).to_owned();
            text.lines().filter(|l| !l.starts_with('#')).map(head).collect()
        };
        let sorted = |mut of: Vec<String>| {
            of.sort();
            of
        };
        assert_eq!(sorted(samples(Format::OpenMetrics)), sorted(samples(Format::Prometheus)));
        let old = metrics.text(&tally, Format::wanted("text/plain;version=0.0.4,*/*;q=0.1"));
        assert!(old.contains("# TYPE clientgrant_decisions_total counter") && !old.contains("# EOF"), "{old}");
        let scraper = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(metrics.text(&tally, Format::wanted(scraper)).ends_with("# EOF\n"));
    }

    /// The catalogue names what a running binary tells, and nothing else.
    #[test]
    fn the_catalogue_is_what_is_told() {
        let (metrics, tally) = full();
        let text = metrics.text(&tally, Format::OpenMetrics);
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (head, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = head.split_once('{').unwrap_or((head, ""));
            let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|l| l.split_once('=')).map(|(l, _)| l);
            let of = told.entry(histogram.unwrap_or(name).to_owned()).or_default();
            of.extend(labels.filter(|l| *l != "le").map(str::to_owned));
            of.sort();
            of.dedup();
        }
        let known = CATALOGUE.iter().map(|d| {
            let mut labels: Vec<String> = d.labels.iter().map(|l| (*l).to_owned()).collect();
            labels.sort();
            (d.name.to_owned(), labels)
        });
        assert_eq!(told, known.collect(), "{text}");
        assert!(CATALOGUE.iter().all(|d| !d.help.is_empty()));
        for line in text.lines().filter(|l| l.starts_with("# HELP")) {
            assert!(line.split_whitespace().count() > 3, "{line}");
        }
    }
}
