//! Chaos: every workload is done again with one fault at one call, for every call and every fault.
//!
//! What is looked at is outside the operator: the object never claims what Hydra does not have, the end is
//! the same as without the fault, it comes soon, and then nothing is written any more.
//! `CLIENTGRANT_CHAOS=full` takes every point (`faults` or `kills`: of that half); without it a fixed choice
//! of those that matter most is taken.

mod faults;
mod work;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clientgrant_testbed::bed::condition;
use clientgrant_testbed::{Operator, Side, kill_when};
use futures::StreamExt;
use futures::stream;

use self::faults::{At, Engine, Fault, Shape, Spot, tell};
use self::work::{State, Subject, Work};
use crate::support::{Real, bed_with, pause};

/// Points at once; a kill hits all, and is alone.
const AT_ONCE: usize = 12;
/// After a fault has gone, within this all is as it would have been.
const WITHIN: Duration = Duration::from_secs(30);
/// A silent server is waited for this long.
const DEADLINE: Duration = Duration::from_secs(10);
/// So long nothing is written any more.
const QUIET: Duration = Duration::from_secs(2);

struct Chaos {
    bed: Real,
    /// Not the bed's own: it is restarted while others look at the bed.
    operator: tokio::sync::Mutex<Operator>,
    engine: Engine,
    next: AtomicUsize,
    /// How often a claim was found to be true.
    true_claims: AtomicUsize,
}

/// What a fault-free run brought.
struct Recording {
    calls: Vec<(At, Shape)>,
    end: State,
}

struct Outcome {
    work: Work,
    spot: Spot,
    hit: bool,
    took: Duration,
    violations: Vec<String>,
}

impl Chaos {
    async fn start() -> Self {
        let bed = bed_with(|options| (options.kproxy, options.operator) = (true, false)).await;
        let operator = Operator::start(bed.operator.options().clone()).unwrap();
        operator.ready(Duration::from_secs(30)).await.unwrap();
        let ready = |o: &serde_json::Value| condition(o, "Ready")["status"] == "True";
        bed.wait("clusteridentityproviders/corp", "connected", Duration::from_secs(30), ready).await.unwrap();
        let engine = Engine::default();
        let (idp, api) = (engine.clone(), engine.clone());
        bed.proxy.set_rule(move |r| idp.act(At::Idp, r));
        bed.kproxy.as_ref().unwrap().set_rule(move |r| api.act(At::Api, r));
        Self { bed, operator: operator.into(), engine, next: AtomicUsize::new(0), true_claims: AtomicUsize::new(0) }
    }

    async fn subject(&self, work: Work) -> Subject<'_> {
        let name = format!("chaos-{:05}", self.next.fetch_add(1, Ordering::Relaxed));
        Subject::new(&self.bed, name, work).await
    }

    async fn record(&self, work: Work) -> Recording {
        let mut subject = self.subject(work).await;
        self.engine.arm(&subject.name, None);
        subject.operate(WITHIN).await.unwrap();
        pause(subject.delay().as_millis() as u64).await;
        let end = Instant::now() + WITHIN;
        let quiet = QUIET * 2;
        loop {
            let last = self.engine.written(&subject.name).unwrap();
            let state = subject.state().await;
            if state.is(work.reason()) && last.elapsed() > quiet {
                assert!(work.reason() == "Granted" || work == Work::Narrow || state.is_over(), "{work:?}: {state:?}");
                return Recording { calls: self.engine.calls(&subject.name), end: state };
            }
            assert!(Instant::now() < end, "{work:?} without a fault: {state:?}");
            pause(100).await;
        }
    }

    /// Kills the operator at the spot, and starts it again at once.
    async fn kill(&self, name: &str, spot: Spot, back: &AtomicBool) {
        if !spot.fault.kills() {
            return std::future::pending().await;
        }
        let process = self.operator.lock().await.process();
        let (engine, name, count) = (self.engine.clone(), name.to_owned(), AtomicUsize::new(0));
        let matches = move |r: &clientgrant_testbed::Recorded| {
            let this = tell(spot.at, r).is_some_and(|told| told == (name.clone(), spot.shape));
            let hit = this && count.fetch_add(1, Ordering::Relaxed) + 1 == spot.nth;
            if hit {
                engine.fire(&name);
            }
            hit
        };
        let side = if spot.fault == Fault::KillBefore { Side::Before } else { Side::After };
        match spot.at {
            _ if spot.fault == Fault::KillFirst => {}
            At::Idp => kill_when(&self.bed.proxy, matches, side, process.clone()),
            At::Api => kill_when(self.bed.kproxy.as_ref().unwrap(), matches, side, process.clone()),
        }
        process.wait_exit(Duration::from_secs(600)).await.unwrap();
        let mut operator = self.operator.lock().await;
        operator.restart().unwrap();
        operator.ready(WITHIN).await.unwrap();
        back.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// One point with a subject that is prepared.
    async fn point(&self, mut subject: Subject<'_>, spot: Spot, wanted: &Recording) -> Outcome {
        let (work, name) = (subject.work, subject.name.clone());
        let limit = if spot.fault == Fault::BlackHole { WITHIN + DEADLINE } else { WITHIN };
        let (back, lies) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        self.engine.arm(&name, Some(spot));
        if spot.fault == Fault::KillFirst {
            self.operator.lock().await.kill();
            self.engine.fire(&name);
        }
        let edited = Instant::now();
        let watched = subject.watcher();
        let mut violations = Vec::new();
        let took = tokio::select! {
            biased;
            () = self.kill(&name, spot, &back) => unreachable!(),
            () = self.sample(&watched, &lies) => unreachable!(),
            took = async {
                if let Err(why) = subject.operate(limit).await {
                    violations.push(why);
                    return limit;
                }
                match self.settled(&subject, spot, wanted, limit, &back, edited).await {
                    Ok(took) => took,
                    Err(why) => {
                        violations.push(why);
                        limit
                    }
                }
            } => took,
        };
        let mut lies = lies.into_inner().unwrap();
        lies.dedup();
        violations.extend(lies);
        for why in &violations {
            println!("VIOLATION {name} {work:?} {spot:?}: {why}");
        }
        Outcome { work, spot, hit: self.engine.fired(&name).is_some(), took, violations }
    }

    /// Waits until all is as without the fault and nothing is written any more: how long it took.
    async fn settled(
        &self,
        subject: &Subject<'_>,
        spot: Spot,
        wanted: &Recording,
        limit: Duration,
        back: &AtomicBool,
        edited: Instant,
    ) -> Result<Duration, String> {
        let mut since = None;
        let due = edited + subject.delay();
        loop {
            let state = subject.state().await;
            let fired = self.engine.fired(&subject.name);
            let from = fired.unwrap_or(edited).max(due);
            let whole = !(spot.fault.kills() && fired.is_some()) || back.load(Ordering::Relaxed);
            since = (state == wanted.end && whole).then(|| since.unwrap_or_else(Instant::now));
            let last = since.map(|since| self.engine.written(&subject.name).map_or(since, |last| last.max(since)));
            if let Some(last) = last
                && last.elapsed() >= QUIET
                && due.elapsed() >= QUIET
            {
                return Ok(last.saturating_duration_since(from));
            }
            if Instant::now() > from + limit + QUIET {
                let calls = self.engine.calls(&subject.name);
                let (name, end) = (&subject.name, &wanted.end);
                return Err(format!("{name} not as it would have been: {state:?}\ninstead of {end:?}\n{calls:?}"));
            }
            pause(100).await;
        }
    }

    /// Looks for claims that are not true.
    async fn sample(&self, subject: &Subject<'_>, lies: &Mutex<Vec<String>>) {
        loop {
            match subject.claim().await {
                Some(Ok(())) => _ = self.true_claims.fetch_add(1, Ordering::Relaxed),
                Some(Err(lie)) => lies.lock().unwrap().push(lie),
                None => {}
            }
            pause(50).await;
        }
    }

    /// Nothing at all is written any more, the lease aside.
    async fn quiet(&self, time: Duration) {
        // The provider tells how many grants there are, at most every ten seconds.
        pause(12_000).await;
        let kproxy = self.bed.kproxy.as_ref().unwrap();
        self.bed.proxy.clear();
        kproxy.clear();
        tokio::time::sleep(time).await;
        assert!(self.bed.written().is_empty(), "{}", self.bed.proxy.summary());
        let mut writes = kproxy.writes();
        writes.retain(|r| !r.path().contains("/leases/"));
        assert!(writes.is_empty(), "{writes:#?}");
    }
}

/// Every point of a recording.
fn all(recording: &Recording, kills: bool) -> Vec<Spot> {
    let mut spots = Vec::new();
    let mut met: BTreeMap<(At, Shape), usize> = BTreeMap::new();
    for &(at, shape) in &recording.calls {
        let nth = met.entry((at, shape)).or_default();
        *nth += 1;
        let faults: &[Fault] = match at {
            _ if kills => &[Fault::KillBefore, Fault::KillAfter],
            At::Idp => &Fault::IDP,
            At::Api => &Fault::API,
        };
        spots.extend(faults.iter().map(|&fault| Spot { at, shape, nth: *nth, fault }));
    }
    if kills {
        spots.push(Spot { at: At::Idp, shape: "none", nth: 1, fault: Fault::KillFirst });
    }
    spots
}

/// The calls that matter most.
const MOST: [(Work, At, Shape, usize); 8] = [
    (Work::Create, At::Idp, "PATCH client", 1),
    (Work::Narrow, At::Idp, "GET consents", 1),
    (Work::Delete, At::Idp, "DELETE pair", 1),
    (Work::Own, At::Idp, "DELETE tokens", 1),
    (Work::Expire, At::Api, "PATCH status", 1),
    (Work::Narrow, At::Api, "PATCH status", 1),
    (Work::Delete, At::Api, "PATCH finalizers", 1),
    (Work::Create, At::Api, "PATCH record", 1),
];

fn few(kills: bool) -> Vec<(Work, Spot)> {
    let mut points = Vec::new();
    // A kill at a read leaves nothing behind that one at the write before does not.
    for (work, at, shape, nth) in MOST.into_iter().filter(|(.., shape, _)| !kills || !shape.starts_with("GET")) {
        let faults: &[Fault] = match at {
            _ if kills => &[Fault::KillBefore, Fault::KillAfter],
            At::Idp => &Fault::IDP,
            At::Api => &Fault::API,
        };
        points.extend(faults.iter().map(|&fault| (work, Spot { at, shape, nth, fault })));
    }
    if !kills {
        // One wrong word, that something is gone, and nothing would come after it.
        let gone = |at, shape, nth| (Work::Widen, Spot { at, shape, nth, fault: Fault::Status(404) });
        points.extend([gone(At::Idp, "GET client", 2), gone(At::Api, "PATCH status", 1)]);
    }
    if kills {
        points.push((Work::Widen, Spot { at: At::Idp, shape: "none", nth: 1, fault: Fault::KillFirst }));
    }
    points
}

fn table(outcomes: &[Outcome]) {
    let mut rows: BTreeMap<(Work, At, Fault), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        rows.entry((outcome.work, outcome.spot.at, outcome.spot.fault)).or_default().push(outcome);
    }
    println!(
        "{:<8} {:<4} {:<13} {:>6} {:>6} {:>10} {:>8} {:>8}",
        "work", "side", "fault", "points", "missed", "violations", "median", "max"
    );
    for ((work, at, fault), row) in rows {
        let mut took: Vec<f64> = row.iter().map(|o| o.took.as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        let missed = row.iter().filter(|o| !o.hit).count();
        let bad: usize = row.iter().map(|o| o.violations.len()).sum();
        let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
        let (work, at, fault) = (format!("{work:?}"), format!("{at:?}"), format!("{fault:?}"));
        println!("{work:<8} {at:<4} {fault:<13} {:>6} {missed:>6} {bad:>10} {median:>6.1} s {most:>6.1} s", row.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_at_one_call_changes_nothing_in_the_end() {
    let list = std::env::var("CLIENTGRANT_CHAOS").unwrap_or_default();
    let full = ["full", "faults", "kills"].contains(&&*list);
    let start = Instant::now();
    let chaos = Chaos::start().await;
    let recordings = futures::future::join_all(Work::ALL.map(|work| chaos.record(work))).await;
    let recordings: BTreeMap<Work, Recording> = Work::ALL.into_iter().zip(recordings).collect();
    for (work, recording) in &recordings {
        println!("{work:?}: {} calls {:?}", recording.calls.len(), recording.calls);
    }
    let points = |kills: bool| -> Vec<(Work, Spot)> {
        if !full {
            return few(kills);
        }
        if list == if kills { "faults" } else { "kills" } {
            return Vec::new();
        }
        recordings.iter().flat_map(|(work, r)| all(r, kills).into_iter().map(|spot| (*work, spot))).collect()
    };
    let mut outcomes: Vec<Outcome> = stream::iter(points(false))
        .map(|(work, spot)| {
            let chaos = &chaos;
            let wanted = &recordings[&work];
            async move { chaos.point(chaos.subject(work).await, spot, wanted).await }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    println!("{} faults after {:.0} s", outcomes.len(), start.elapsed().as_secs_f64());
    for some in points(true).chunks(AT_ONCE) {
        let subjects = futures::future::join_all(some.iter().map(|(work, _)| chaos.subject(*work))).await;
        for (subject, (work, spot)) in subjects.into_iter().zip(some) {
            outcomes.push(chaos.point(subject, *spot, &recordings[work]).await);
        }
    }
    table(&outcomes);
    let claims = chaos.true_claims.load(Ordering::Relaxed);
    println!("{} points in {:.0} s, {claims} true claims", outcomes.len(), start.elapsed().as_secs_f64());
    assert!(claims > outcomes.len(), "positive control: claims were looked at");
    let told = |o: &Outcome| format!("{:?} {:?}: {}", o.work, o.spot, o.violations.join("\n"));
    let bad: Vec<String> = outcomes.iter().filter(|o| !o.violations.is_empty()).map(told).collect();
    assert!(bad.is_empty(), "{} violations\n{}", bad.len(), bad.join("\n\n"));
    let missed: Vec<String> = outcomes.iter().filter(|o| !o.hit).map(told).collect();
    assert!(full || missed.is_empty(), "the call did not come: {missed:#?}");
    chaos.quiet(Duration::from_secs(60)).await;
}
