//! Leadership: one replica writes, every replica answers.
//!
//! A Lease in the operator's namespace names the replica that writes. Its clock is never compared with
//! ours: a lease has run out when we have watched one version of it for its whole duration. The holder
//! stops writing well before anybody else may conclude that, so that two never write at once; each
//! write at an IdP asks [`Leadership::leave`] at the last moment, after every wait.
//!
//! A holder that cannot reach the API server loses the lease, and nobody can take it while the API
//! server is down for all. What has passed its end date is ended all the same ([`Leave::EndsByDate`]):
//! authority must not outlive its end because nobody can renew a lease.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;

use crate::clock;

/// The name of the Lease.
pub const NAME: &str = "clientgrant";
/// A stopping holder waits this long for what it has sent.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How long a lease lasts; everything else follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A lease that is not renewed for this long may be taken.
    duration: Duration,
}

impl Timing {
    /// A lease that lasts so long, in whole seconds, at least two.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self { duration: Duration::from_secs(duration.as_secs().max(2)) }
    }

    /// The holder writes for this long after it renewed: what it has sent by then has arrived when
    /// somebody else may take the lease.
    fn good(self) -> Duration {
        self.duration.mul_f64(0.8)
    }

    /// The holder renews this often.
    fn renew(self) -> Duration {
        self.duration / 5
    }

    /// The others look this often.
    fn poll(self) -> Duration {
        (self.duration / 20).min(Duration::from_millis(500))
    }

    /// The API server has this long to answer.
    fn deadline(self) -> Duration {
        self.duration / 5
    }

    /// That it did not answer is known for this long: until the next call has failed too.
    fn evidence(self) -> Duration {
        self.deadline() + self.poll() * 2
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

/// What a replica may write now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Everything: it leads.
    Everything,
    /// Only what the date ends: it led when it last reached the API server and cannot reach it, or it is
    /// there for nothing else.
    EndsByDate,
}

/// The lease as somebody else holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Empty: released.
    pub holder: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// After this long without a new version it may be taken.
    pub duration: Duration,
    /// When we first saw this version.
    pub since: Instant,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write our name into it.
    Take,
    /// Look again after this.
    Wait(Duration),
}

/// Decides from what was seen (`None`: there is no lease).
#[must_use]
pub fn next(seen: Option<&Seen>, me: &str, timing: Timing, now: Instant) -> Next {
    let Some(seen) = seen else { return Next::Take };
    let age = now.saturating_duration_since(seen.since);
    if seen.holder.is_empty() || seen.holder == me || age >= seen.duration {
        return Next::Take;
    }
    Next::Wait(timing.poll().min(seen.duration.saturating_sub(age)).max(Duration::from_millis(10)))
}

#[derive(Debug)]
enum State {
    /// There is no election.
    Alone,
    /// Nor here, and only what the date ends may be ended.
    Ending,
    Following,
    Leading {
        /// On both clocks: one of them may have stood still with the machine.
        renewed: (Instant, Timestamp),
        /// When the API server last failed to answer.
        failed: Option<(Instant, Timestamp)>,
    },
}

/// Whether this replica leads.
#[derive(Debug)]
pub struct Leadership {
    timing: Timing,
    state: Mutex<(State, Arc<u64>)>,
    news: watch::Sender<bool>,
}

/// One term of leadership; writes in flight hold it.
#[derive(Clone, Debug)]
pub struct Term(Arc<u64>);

impl Leadership {
    /// Without an election: this process leads for ever.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            timing: Timing::default(),
            state: Mutex::new((State::Alone, Arc::new(0))),
            news: watch::Sender::new(true),
        }
    }

    /// Beside whoever leads: ends what has passed its end date, and writes nothing else.
    #[must_use]
    pub fn ending() -> Self {
        let state = Mutex::new((State::Ending, Arc::new(0)));
        Self { timing: Timing::default(), state, news: watch::Sender::new(false) }
    }

    /// Follows until it is elected; see [`run`].
    #[must_use]
    pub fn elected(timing: Timing) -> Self {
        Self { timing, state: Mutex::new((State::Following, Arc::new(0))), news: watch::Sender::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, (State, Arc<u64>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be written now, and in which term; `None`: nothing.
    #[must_use]
    pub fn leave(&self) -> Option<(Leave, Term)> {
        let state = self.state();
        let leave = match &state.0 {
            State::Alone => Leave::Everything,
            State::Ending => Leave::EndsByDate,
            State::Following => return None,
            State::Leading { renewed, .. } if within(*renewed, self.timing.good()) => Leave::Everything,
            // Recently: a process that stood still meanwhile has no such evidence.
            State::Leading { failed: Some(at), .. } if within(*at, self.timing.evidence()) => Leave::EndsByDate,
            State::Leading { .. } => return None,
        };
        Some((leave, Term(state.1.clone())))
    }

    /// Whether this replica leads now, and may write everything.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.term().is_some()
    }

    /// Whether nobody else leads, as far as this replica knows: that its lease is late does not change that.
    #[must_use]
    pub fn is_elected(&self) -> bool {
        matches!(self.state().0, State::Alone | State::Leading { .. })
    }

    /// The number of the term in which this replica leads; `None`: it does not. The same number means that nobody
    /// else led in between.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        self.leave().and_then(|(leave, term)| (leave == Leave::Everything).then(|| *term.0))
    }

    /// Whether that leave still holds.
    #[must_use]
    pub fn still(&self, leave: Leave, term: &Term) -> bool {
        self.leave().is_some_and(|(l, t)| *t.0 == *term.0 && (l == leave || l == Leave::Everything))
    }

    /// Tells when leadership comes (`true`) and goes.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<bool> {
        self.news.subscribe()
    }

    /// `transitions`, of the lease itself: it differs where somebody else led in between.
    fn renewed(&self, at: (Instant, Timestamp), transitions: u64) {
        let mut state = self.state();
        let led = matches!(state.0, State::Leading { .. });
        if !led {
            tracing::info!(transitions, "this replica leads");
        }
        // Somebody else may have led in between, and given it back before this replica saw that.
        let begins = !led || *state.1 != transitions;
        if begins {
            state.1 = Arc::new(transitions);
        }
        state.0 = State::Leading { renewed: at, failed: None };
        drop(state);
        if begins {
            self.news.send_replace(true);
        }
    }

    fn lost(&self) {
        let mut state = self.state();
        if matches!(state.0, State::Leading { .. }) {
            tracing::warn!("this replica does not lead any more");
        }
        state.0 = State::Following;
        drop(state);
        self.news.send_if_modified(|leads| std::mem::replace(leads, false));
    }

    /// The API server did not answer a call that was made at `asked`.
    fn unanswered(&self, asked: (Instant, Timestamp)) {
        // A call that took longer was stopped with the process: its failure says nothing.
        if within(asked, self.timing.evidence())
            && let (State::Leading { failed, .. }, _) = &mut *self.state()
        {
            *failed = Some((Instant::now(), clock::now()));
        }
    }

    /// Waits until nothing is in flight that was allowed in this term.
    async fn settled(&self) {
        let end = tokio::time::Instant::now() + LAST_WRITES;
        while Arc::strong_count(&self.state().1) > 1 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Default for Leadership {
    fn default() -> Self {
        Self::alone()
    }
}

/// Whether an instant is so recent on both clocks. The wall clock may be set back, which says nothing;
/// that it ran ahead says that the machine stood still.
fn within((at, wall): (Instant, Timestamp), time: Duration) -> bool {
    let by_wall = Duration::try_from(clock::now().duration_since(wall)).unwrap_or_default();
    at.elapsed() < time && by_wall < time
}

/// Takes and renews the lease for ever.
pub async fn run(api: Api<Lease>, me: String, leadership: Arc<Leadership>) {
    let timing = leadership.timing;
    let mut seen: Option<Seen> = None;
    let mut held: Option<Lease> = None;
    loop {
        let asked = (Instant::now(), clock::now());
        let pause = match tokio::time::timeout(timing.deadline(), step(&api, &me, timing, &mut seen, held.take())).await
        {
            Ok(Ok(Ok(lease))) => {
                let transitions = lease.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or_default();
                held = Some(lease);
                leadership.renewed(asked, u64::from(transitions.unsigned_abs()));
                timing.renew()
            }
            Ok(Ok(Err(wait))) => {
                leadership.lost();
                wait
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be read or written");
                leadership.unanswered(asked);
                timing.poll()
            }
            Err(_) => {
                tracing::warn!("the API server did not answer for the lease in time");
                leadership.unanswered(asked);
                timing.poll()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One step: `Ok(Ok)`: the lease is ours; `Ok(Err)`: somebody else's, look again after that.
async fn step(
    api: &Api<Lease>,
    me: &str,
    timing: Timing,
    seen: &mut Option<Seen>,
    held: Option<Lease>,
) -> Result<Result<Lease, Duration>, kube::Error> {
    if let Some(lease) = held {
        match write(api, me, timing, Some(&lease)).await {
            Ok(lease) => return Ok(Ok(lease)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let lease = api.get_opt(NAME).await?;
    *seen = lease.as_ref().map(|lease| note(seen.take(), lease, timing, Instant::now()));
    match next(seen.as_ref(), me, timing, Instant::now()) {
        Next::Wait(pause) => Ok(Err(pause)),
        Next::Take => match write(api, me, timing, lease.as_ref()).await {
            Ok(lease) => Ok(Ok(lease)),
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Err(timing.poll()))
            }
            Err(error) => Err(error),
        },
    }
}

/// What is seen now; a version that was seen before keeps its instant.
fn note(before: Option<Seen>, lease: &Lease, timing: Timing, now: Instant) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let version = lease.metadata.resource_version.clone().unwrap_or_default();
    let since = before.filter(|b| b.version == version).map_or(now, |b| b.since);
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        version,
        duration: seconds
            .map_or(timing.duration, Duration::from_secs)
            .clamp(Duration::from_secs(1), timing.duration * 6),
        since,
    }
}

/// Writes our name, carrying the version that was read: of two only one succeeds.
async fn write(api: &Api<Lease>, me: &str, timing: Timing, old: Option<&Lease>) -> Result<Lease, kube::Error> {
    let now = MicroTime(clock::now());
    let before = old.and_then(|l| l.spec.clone()).unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(me);
    let spec = LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(timing.duration.as_secs()).ok(),
        acquire_time: before.acquire_time.clone().filter(|_| ours).or_else(|| Some(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(before.lease_transitions.unwrap_or_default().saturating_add(i32::from(!ours))),
        ..before
    };
    match old {
        Some(lease) => {
            let lease = Lease { spec: Some(spec), ..lease.clone() };
            api.replace(NAME, &PostParams::default(), &lease).await
        }
        None => {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
    }
}

/// Stops writing, waits for what is in flight, and gives the lease back, so that another replica need
/// not wait until it has run out.
pub async fn release(api: &Api<Lease>, me: &str, leadership: &Leadership) {
    let led = leadership.leads();
    leadership.lost();
    if !led {
        return;
    }
    leadership.settled().await;
    let work = async {
        loop {
            let Some(mut lease) = api.get_opt(NAME).await? else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(me)) else {
                return Ok(());
            };
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(clock::now()));
            match api.replace(NAME, &PostParams::default(), &lease).await {
                // A renewal that was under way, or a nonce that was passed on, came in between.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => return other.map(drop),
            }
        }
    };
    match tokio::time::timeout(leadership.timing.deadline(), work).await {
        Ok(Ok(())) => tracing::info!("the lease is given back"),
        Ok(Err(error)) => tracing::warn!(%error, "the lease could not be given back; it runs out by itself"),
        Err(_) => tracing::warn!("the lease could not be given back in time; it runs out by itself"),
    }
}

const PROBED: &str = "clientgrant.dev/token-hook-probed";

/// A replica that follows was called for the leader's probe of the token hook: it leaves the nonce where
/// the leader looks.
///
/// # Errors
/// The API server did not take it.
pub async fn pass_on(api: &Api<Lease>, nonce: &str) -> Result<(), kube::Error> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {PROBED: nonce}}}));
    api.patch_metadata(NAME, &PatchParams::default(), &patch).await.map(drop)
}

/// Whether a replica has passed this nonce on.
pub async fn passed_on(api: &Api<Lease>, nonce: &str) -> bool {
    for _ in 0..8 {
        let seen = api.get_metadata_opt(NAME).await.ok().flatten();
        let annotations = seen.and_then(|lease| lease.metadata.annotations).unwrap_or_default();
        if annotations.get(PROBED).is_some_and(|n| n == nonce) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(10);
    const TIMING: Timing = Timing { duration: DURATION };

    fn seen(holder: &str, since: Instant) -> Seen {
        Seen { holder: holder.into(), version: "1".into(), duration: DURATION, since }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_was_watched_for_its_whole_duration() {
        let start = Instant::now();
        let after = |s: f64| start + Duration::from_secs_f64(s);
        assert_eq!(next(None, "me", TIMING, start), Next::Take);
        assert_eq!(next(Some(&seen("", start)), "me", TIMING, start), Next::Take, "given back");
        assert_eq!(next(Some(&seen("me", start)), "me", TIMING, start), Next::Take, "ours, after a restart");
        assert_eq!(next(Some(&seen("other", start)), "me", TIMING, start), Next::Wait(TIMING.poll()));
        assert_eq!(next(Some(&seen("other", start)), "me", TIMING, after(9.9)), Next::Wait(Duration::from_millis(100)));
        assert_eq!(next(Some(&seen("other", start)), "me", TIMING, after(10.0)), Next::Take);
    }

    #[test]
    fn a_new_version_starts_the_watch_again_and_odd_durations_are_bounded() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let lease = |version: &str, seconds| Lease {
            metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some("other".into()),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
        };
        let first = note(None, &lease("1", Some(10)), TIMING, start);
        assert_eq!(note(Some(first.clone()), &lease("1", Some(10)), TIMING, later).since, start);
        assert_eq!(note(Some(first), &lease("2", Some(10)), TIMING, later).since, later);
        assert_eq!(note(None, &lease("1", Some(-1)), TIMING, start).duration, DURATION);
        assert_eq!(note(None, &lease("1", Some(0)), TIMING, start).duration, Duration::from_secs(1));
        assert_eq!(note(None, &lease("1", Some(i32::MAX)), TIMING, start).duration, DURATION * 6);
        assert_eq!(note(None, &Lease::default(), TIMING, start).holder, "");
    }

    #[test]
    fn leave_ends_with_time_and_comes_back_only_in_a_new_term() {
        let leadership = Leadership::elected(TIMING);
        assert!(leadership.leave().is_none());
        let now = (Instant::now(), clock::now());
        leadership.renewed(now, 1);
        let (leave, term) = leadership.leave().unwrap();
        assert_eq!(leave, Leave::Everything);
        assert!(leadership.still(leave, &term) && *leadership.news().borrow());

        // Frozen: the time has run out, and nobody has tried to reach the API server since.
        let past = (now.0.checked_sub(DURATION).unwrap(), now.1 - DURATION);
        leadership.renewed(past, 1);
        assert!(leadership.leave().is_none() && !leadership.still(leave, &term));
        // A call from before the freeze that fails says nothing.
        leadership.unanswered(past);
        assert!(leadership.leave().is_none());
        leadership.unanswered((Instant::now(), clock::now()));
        let (leave, _) = leadership.leave().unwrap();
        assert_eq!(leave, Leave::EndsByDate);
        assert!(!leadership.leads());

        leadership.lost();
        assert!(leadership.leave().is_none() && !*leadership.news().borrow());
        leadership.renewed((Instant::now(), clock::now()), 3);
        assert!(!leadership.still(Leave::Everything, &term), "another term");
        let (_, term) = leadership.leave().unwrap();
        let mut news = leadership.news();
        leadership.renewed((Instant::now(), clock::now()), 3);
        assert!(!news.has_changed().unwrap());
        leadership.renewed((Instant::now(), clock::now()), 5);
        assert!(!leadership.still(Leave::Everything, &term), "somebody else led meanwhile, unseen");
        assert!(news.has_changed().unwrap() && *news.borrow_and_update(), "which is told");
    }

    #[test]
    fn a_machine_that_stood_still_shows_on_one_clock() {
        let now = (Instant::now(), clock::now());
        assert!(within(now, DURATION));
        assert!(!within((now.0, now.1 - DURATION), DURATION), "the wall clock ran ahead");
        assert!(within((now.0, now.1 + DURATION), DURATION), "set back");
    }

    #[tokio::test]
    async fn giving_back_waits_for_what_is_in_flight() {
        let leadership = Leadership::elected(TIMING);
        leadership.renewed((Instant::now(), clock::now()), 1);
        let (_, term) = leadership.leave().unwrap();
        leadership.lost();
        let waited = Instant::now();
        tokio::join!(leadership.settled(), async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            drop(term);
        });
        assert!(waited.elapsed() >= Duration::from_millis(60) && waited.elapsed() < LAST_WRITES);
    }
}
