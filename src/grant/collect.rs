//! Garbage collection: what nobody declares any more, and when it may be removed.
//!
//! A sweep is one complete picture of what is at the IdP and of everything that was declared. Nothing is
//! removed because of one: the pictures of a while must agree, the removals of an hour have a budget, and
//! what goes beyond it waits for a person. Only this module makes a [`SweepProof`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use crate::hex;

/// The budget is per hour.
const HOUR: Duration = Duration::from_secs(3600);

/// Something that nobody declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    /// A client of ours that holds something, and no grant in any namespace names it.
    Client(Arc<str>),
    /// A consent of a known subject for a client of ours, and no grant names the two.
    Consent {
        /// OAuth 2.0 `client_id`.
        client: Arc<str>,
        /// The IdP's internal subject.
        subject: String,
    },
    /// The consents under a grant that the provider's rules do not allow any more.
    Unadmitted {
        /// OAuth 2.0 `client_id`.
        client: Arc<str>,
        /// The IdP's internal subject.
        subject: String,
    },
}

/// Leave to remove one thing that nobody declares; made by [`Sweep::take_in`] alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SweepProof(Why);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It had nothing when it was last read, and nothing was declared since.
    AtRest,
    /// All pictures of a while agree.
    Agreed,
    /// A person released this hold.
    Released(String),
}

impl std::fmt::Display for SweepProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Why::AtRest => f.write_str("it had nothing before"),
            Why::Agreed => f.write_str("all sweeps of a while agree"),
            Why::Released(hold) => write!(f, "hold {hold} was released"),
        }
    }
}

/// What may be removed of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collect {
    /// Everything that it holds.
    pub client: Option<SweepProof>,
    /// The consents of these subjects.
    pub subjects: BTreeMap<String, SweepProof>,
}

/// How careful a sweep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Care {
    /// Pictures must agree for this long.
    pub agree: Duration,
    /// Consents under a grant that is not allowed any more wait this long.
    pub grace: Duration,
    /// Removals per hour, at least.
    pub most: usize,
    /// Removals per hour, in percent of all that is managed.
    pub percent: usize,
}

/// One complete picture.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// What nobody declares.
    pub candidates: BTreeSet<Candidate>,
    /// Clients of ours without a grant that hold nothing.
    pub at_rest: BTreeSet<Arc<str>>,
    /// How much is managed in all.
    pub total: usize,
    /// The cluster's history went back: what is missing may only be forgotten.
    pub rewound: bool,
}

/// Removals that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Names exactly these removals.
    pub id: String,
    /// How many.
    pub count: usize,
    /// Because the cluster's history went back.
    pub rewound: bool,
}

/// What remains of earlier pictures.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    since: BTreeMap<Candidate, Timestamp>,
    at_rest: BTreeSet<Arc<str>>,
    granted: BTreeMap<Candidate, SweepProof>,
    spent: VecDeque<Timestamp>,
}

impl Sweep {
    /// Nothing was seen yet; what was removed within the hour counts.
    #[must_use]
    pub fn anew(self) -> Self {
        Self { spent: self.spent, ..Self::default() }
    }

    /// Takes in a picture; `released` is the hold that a person has released. Returns what may be removed,
    /// and what waits.
    pub fn take_in(
        &mut self,
        picture: &Picture,
        care: Care,
        released: Option<&str>,
        now: Timestamp,
    ) -> (BTreeMap<Arc<str>, Collect>, Option<Hold>) {
        let Picture { candidates, at_rest, total, rewound } = picture;
        self.since.retain(|candidate, _| candidates.contains(candidate));
        self.granted.retain(|candidate, _| candidates.contains(candidate));
        for candidate in candidates {
            self.since.entry(candidate.clone()).or_insert(now);
        }
        while self.spent.front().is_some_and(|at| *at + HOUR <= now) {
            self.spent.pop_front();
        }
        // What had nothing and suddenly has is put back at once: nothing that anybody declared is lost.
        for client in candidates.iter().filter_map(|c| match c {
            Candidate::Client(client) if self.at_rest.contains(client) => Some(client),
            _ => None,
        }) {
            self.granted.entry(Candidate::Client(client.clone())).or_insert(SweepProof(Why::AtRest));
        }
        self.at_rest = at_rest.clone();
        let ripe = |(candidate, since): &(&Candidate, &Timestamp)| {
            let wait = match candidate {
                Candidate::Unadmitted { .. } => care.grace.max(care.agree),
                Candidate::Client(_) | Candidate::Consent { .. } => care.agree,
            };
            **since + wait <= now && !self.granted.contains_key(*candidate)
        };
        let ripe: Vec<Candidate> = self.since.iter().filter(ripe).map(|(c, _)| c.clone()).collect();
        let allowed = care.most.max(total * care.percent / 100).saturating_sub(self.spent.len());
        let mut hold = None;
        if !ripe.is_empty() {
            let id = hold_id(&ripe);
            let free = ripe.len() <= allowed && !rewound;
            if free || released == Some(id.as_str()) {
                let proof = SweepProof(if free { Why::Agreed } else { Why::Released(id) });
                self.spent.extend(ripe.iter().map(|_| now));
                self.granted.extend(ripe.into_iter().map(|c| (c, proof.clone())));
            } else {
                hold = Some(Hold { id, count: ripe.len(), rewound: *rewound });
            }
        }
        let mut collect: BTreeMap<Arc<str>, Collect> = BTreeMap::new();
        for (candidate, proof) in &self.granted {
            match candidate {
                Candidate::Client(client) => {
                    collect.entry(client.clone()).or_default().client = Some(proof.clone());
                }
                Candidate::Consent { client, subject } | Candidate::Unadmitted { client, subject } => {
                    let of = collect.entry(client.clone()).or_default();
                    of.subjects.insert(subject.clone(), proof.clone());
                }
            }
        }
        (collect, hold)
    }
}

/// The same for the same removals, however often they are found.
fn hold_id(candidates: &[Candidate]) -> String {
    let all: String = candidates.iter().map(|candidate| format!("{candidate:?}\n")).collect();
    hex::digest(&all, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARE: Care =
        Care { agree: Duration::from_secs(600), grace: Duration::from_secs(86_400), most: 3, percent: 1 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn client(n: usize) -> Candidate {
        Candidate::Client(Arc::from(format!("app-{n}")))
    }

    fn picture(clients: std::ops::Range<usize>) -> Picture {
        Picture { candidates: clients.map(client).collect(), total: 100, ..Picture::default() }
    }

    #[test]
    fn nothing_is_removed_before_the_pictures_of_a_while_agree() {
        let mut sweep = Sweep::default();
        assert!(sweep.take_in(&picture(0..2), CARE, None, at(0)).0.is_empty());
        assert!(sweep.take_in(&picture(0..2), CARE, None, at(599)).0.is_empty());
        let (collect, hold) = sweep.take_in(&picture(0..2), CARE, None, at(600));
        assert_eq!((collect.len(), hold), (2, None));
        // One picture without it starts all over.
        let mut sweep = Sweep::default();
        _ = sweep.take_in(&picture(0..2), CARE, None, at(0));
        _ = sweep.take_in(&picture(1..2), CARE, None, at(300));
        let (collect, _) = sweep.take_in(&picture(0..2), CARE, None, at(600));
        assert_eq!(collect.keys().map(|k| &**k).collect::<Vec<_>>(), ["app-1"]);
    }

    #[test]
    fn beyond_the_budget_nothing_goes_until_exactly_that_is_released() {
        let mut sweep = Sweep::default();
        _ = sweep.take_in(&picture(0..4), CARE, None, at(0));
        let (collect, hold) = sweep.take_in(&picture(0..4), CARE, None, at(600));
        let hold = hold.unwrap();
        assert_eq!((collect.len(), hold.count, hold.rewound), (0, 4, false));
        let (collect, again) = sweep.take_in(&picture(0..4), CARE, Some("another"), at(660));
        assert_eq!((collect.len(), again.as_ref()), (0, Some(&hold)), "the same removals have the same hold");
        // More of them than were approved: another hold.
        _ = sweep.take_in(&picture(0..5), CARE, None, at(700));
        let (collect, other) = sweep.take_in(&picture(0..5), CARE, Some(&hold.id), at(1300));
        assert!(collect.is_empty() && other.unwrap().id != hold.id);
        let (collect, none) = sweep.take_in(&picture(0..4), CARE, Some(&hold.id), at(1400));
        assert_eq!((collect.len(), none), (4, None));
    }

    #[test]
    fn the_budget_is_of_an_hour_and_grows_with_what_is_managed() {
        let mut sweep = Sweep::default();
        _ = sweep.take_in(&picture(0..6), CARE, None, at(0));
        let few = |mut p: Picture, total| {
            p.total = total;
            p
        };
        assert_eq!(sweep.clone().take_in(&few(picture(0..6), 600), CARE, None, at(600)).0.len(), 6, "one percent");
        assert!(sweep.take_in(&picture(0..3), CARE, None, at(600)).1.is_none());
        _ = sweep.take_in(&picture(3..6), CARE, None, at(700));
        assert!(sweep.take_in(&picture(3..6), CARE, None, at(1300)).1.is_some(), "three were spent");
        let mut anew = sweep.clone().anew();
        assert_eq!(anew.take_in(&picture(3..6), CARE, None, at(1300)), (BTreeMap::new(), None), "nothing was seen");
        assert!(anew.take_in(&picture(3..6), CARE, None, at(1900)).1.is_some(), "but three were spent");
        let (collect, hold) = sweep.take_in(&picture(3..6), CARE, None, at(4200));
        assert_eq!((collect.len(), hold), (3, None), "an hour later");
    }

    #[test]
    fn a_history_that_went_back_holds_everything() {
        let mut sweep = Sweep::default();
        let back = Picture { rewound: true, ..picture(0..1) };
        _ = sweep.take_in(&back, CARE, None, at(0));
        let (collect, hold) = sweep.take_in(&back, CARE, None, at(600));
        assert!(collect.is_empty() && hold.as_ref().unwrap().rewound);
        assert_eq!(sweep.take_in(&back, CARE, Some(&hold.unwrap().id), at(660)).0.len(), 1, "unless a person says so");
    }

    #[test]
    fn what_had_nothing_is_put_back_at_once_and_other_consents_wait_a_day() {
        let mut sweep = Sweep::default();
        let rest = Picture { at_rest: [Arc::from("app-0")].into(), ..Picture::default() };
        _ = sweep.take_in(&rest, CARE, None, at(0));
        assert_eq!(sweep.take_in(&picture(0..1), CARE, None, at(60)).0.len(), 1);

        let mut sweep = Sweep::default();
        let consent = Candidate::Unadmitted { client: "app".into(), subject: "ann".into() };
        let picture = Picture { candidates: [consent].into(), ..Picture::default() };
        _ = sweep.take_in(&picture, CARE, None, at(0));
        assert!(sweep.take_in(&picture, CARE, None, at(86_399)).0.is_empty());
        let (collect, _) = sweep.take_in(&picture, CARE, None, at(86_400));
        assert!(collect["app"].subjects.contains_key("ann") && collect["app"].client.is_none());
    }
}
